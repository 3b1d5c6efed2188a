//! Faults of a Loki, or of what is between it and its client.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// Requests that a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `push`.
    Push,
    /// Everything that reads lines, labels or series.
    Query,
    /// `delete`.
    Delete,
    /// Any path, `/ready` and `/config` included.
    Any,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is done, its connection then closed without an answer.
    DropAnswer,
    /// 429 before anything is done, with `Retry-After` in seconds or without.
    TooManyRequests(Option<u64>),
    /// Another status before anything is done.
    Status(u16),
    /// The request is done this much later.
    Delay(Duration),
    /// The connection is reset before the body is read.
    Reset,
    /// Of a push the first half of the entries is stored, then 500.
    HalfStored,
    /// The answer ends in the middle of its body.
    Truncated,
    /// The answer warns that it is not whole.
    Partial,
}

impl Fault {
    /// What kind of fault it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DropAnswer => "answer dropped",
            Self::TooManyRequests(_) => "429",
            Self::Status(_) => "5xx",
            Self::Delay(_) => "delay",
            Self::Reset => "reset",
            Self::HalfStored => "half stored",
            Self::Truncated => "truncated",
            Self::Partial => "partial",
        }
    }
}

/// Faults by chance.
struct Random {
    kind: Kind,
    source: StdRng,
    probability: f64,
    faults: Vec<Fault>,
}

/// What is to come, and what came.
#[derive(Default)]
struct Waiting {
    next: VecDeque<(Kind, Fault)>,
    random: Option<Random>,
    met: BTreeMap<&'static str, usize>,
}

impl Waiting {
    fn choose(&mut self, asked: Option<Kind>) -> Option<Fault> {
        let hits = |kind: Kind| kind == Kind::Any || Some(kind) == asked;
        if let Some(at) = self.next.iter().position(|(kind, _)| hits(*kind)) {
            return self.next.remove(at).map(|(_, fault)| fault);
        }
        let random = self.random.as_mut().filter(|random| hits(random.kind))?;
        if !random.source.random_bool(random.probability) {
            return None;
        }
        random.faults.choose(&mut random.source).cloned()
    }
}

/// The faults that wait for requests.
#[derive(Default)]
pub struct Faults {
    waiting: Mutex<Waiting>,
}

impl Faults {
    /// The next `count` requests of a kind meet a fault.
    pub fn next(&self, kind: Kind, count: usize, fault: Fault) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.next.extend(std::iter::repeat_n((kind, fault), count));
    }

    /// From now on a request of a kind meets one of some faults with a
    /// probability. A seed gives the same faults again.
    pub fn random(&self, kind: Kind, seed: u64, probability: f64, faults: &[Fault]) {
        let source = StdRng::seed_from_u64(seed);
        let random = Random { kind, source, probability, faults: faults.to_vec() };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).random = Some(random);
    }

    /// No faults any more.
    pub fn clear(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.next.clear();
        waiting.random = None;
    }

    /// How many requests have met each kind of fault.
    pub fn met(&self) -> BTreeMap<&'static str, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).met.clone()
    }

    /// Faults of [`Faults::next`] that no request has met yet.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).next.len()
    }

    /// The fault that a request of this kind meets.
    pub(super) fn meet(&self, asked: Option<Kind>) -> Option<Fault> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = waiting.choose(asked)?;
        *waiting.met.entry(fault.name()).or_default() += 1;
        Some(fault)
    }
}
