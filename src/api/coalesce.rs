//! Requests that ask for the same at the same time share one answer.
//!
//! Many look at the same pages: dashboards that refresh together, the scopes of a
//! cloud, the bill of last month. While a question is being answered, others who ask
//! the same gather, and one more look answers them all.
//!
//! Nobody gets what is older than the request: a look answers only those who
//! asked before it began. So whoever has changed something finds the change, and there
//! is nothing that could be out of date, which makes this no cache.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::body::Bytes;
use tokio::sync::OnceCell;

use super::error::ApiError;

/// What a look gave.
type Answer = Result<Bytes, Arc<ApiError>>;

/// The questions that are being asked.
#[derive(Default)]
pub struct Coalesced(Mutex<HashMap<String, Question>>);

/// A question, as long as somebody waits for its answer.
#[derive(Default)]
struct Question {
    /// Who waits, of this look and of the one before.
    waiting: usize,
    /// One look at a time.
    gate: Arc<tokio::sync::Mutex<()>>,
    /// The look that has not begun.
    next: Arc<OnceCell<Answer>>,
}

impl Coalesced {
    /// The answer to a question, from a look that begins after this call: this one's
    /// `look`, or that of another request. Everything that the answer depends on, such as
    /// what the caller may see, must be in `question`.
    ///
    /// # Errors
    /// What the look fails with, for all who wait for it. A request that is given up
    /// takes its look along, and the next one looks in its place.
    pub(super) async fn answer(
        &self,
        question: String,
        look: impl Future<Output = Result<Bytes, ApiError>>,
    ) -> Result<Bytes, ApiError> {
        let asked = self.ask(question);
        let begin = async {
            let _one = asked.gate.lock().await;
            asked.close();
            look.await.map_err(Arc::new)
        };
        asked.turn.get_or_init(|| begin).await.clone().map_err(ApiError::Shared)
    }

    fn ask(&self, text: String) -> Asked<'_> {
        let mut questions = self.questions();
        let question = questions.entry(text.clone()).or_default();
        question.waiting += 1;
        let (gate, turn) = (question.gate.clone(), question.next.clone());
        Asked { all: self, text, gate, turn }
    }

    fn questions(&self) -> MutexGuard<'_, HashMap<String, Question>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits; it stops to when it has its answer or is given up.
struct Asked<'a> {
    all: &'a Coalesced,
    text: String,
    gate: Arc<tokio::sync::Mutex<()>>,
    /// The look whose answer it gets.
    turn: Arc<OnceCell<Answer>>,
}

impl Asked<'_> {
    /// Whoever asks from now on is for the look after this one.
    fn close(&self) {
        if let Some(question) = self.all.questions().get_mut(&self.text)
            && Arc::ptr_eq(&question.next, &self.turn)
        {
            question.next = Arc::default();
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut questions = self.all.questions();
        let Some(question) = questions.get_mut(&self.text) else { return };
        question.waiting -= 1;
        if question.waiting == 0 {
            questions.remove(&self.text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use tokio::{task::JoinSet, time::sleep};

    use super::*;

    /// Looks that take a while, and tell which one they were.
    async fn look(looks: &AtomicU32) -> Result<Bytes, ApiError> {
        let at = looks.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(50)).await;
        Ok(at.to_string().into())
    }

    fn asks(
        all: &Arc<Coalesced>,
        looks: &Arc<AtomicU32>,
        question: &str,
    ) -> impl Future<Output = String> + use<> {
        let (all, looks, question) = (all.clone(), looks.clone(), question.to_owned());
        async move {
            let answer = all.answer(question, look(&looks)).await.unwrap();
            String::from_utf8(answer.to_vec()).unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_during_a_look_gets_the_next_one() {
        let (all, looks) = (Arc::<Coalesced>::default(), Arc::<AtomicU32>::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(asks(&all, &looks, "scopes"));
        sleep(Duration::from_millis(10)).await;
        for _ in 0..99 {
            tasks.spawn(asks(&all, &looks, "scopes"));
        }
        // Others do not wait for it.
        let other = asks(&all, &looks, "modules").await;
        assert_eq!(other, "1");
        let mut answers = tasks.join_all().await;
        answers.sort();
        assert_eq!(answers[..2], ["0", "2"]);
        assert!(answers[1..].iter().all(|answer| answer == "2"), "{answers:?}");
        assert_eq!(looks.load(Ordering::SeqCst), 3);
        assert!(all.questions().is_empty());
        // And the one after that is new.
        assert_eq!(asks(&all, &looks, "scopes").await, "3");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_leaves_its_place_to_others() {
        let (all, looks) = (Arc::<Coalesced>::default(), Arc::<AtomicU32>::default());
        let mut first = tokio::spawn(asks(&all, &looks, "scopes"));
        sleep(Duration::from_millis(10)).await;
        let second = tokio::spawn(asks(&all, &looks, "scopes"));
        let third = tokio::spawn(asks(&all, &looks, "scopes"));
        sleep(Duration::from_millis(10)).await;
        first.abort();
        assert!((&mut first).await.unwrap_err().is_cancelled());
        // The second one looks now, for the third one, too.
        sleep(Duration::from_millis(10)).await;
        second.abort();
        assert_eq!(third.await.unwrap(), "2");
        assert_eq!(looks.load(Ordering::SeqCst), 3);
        assert!(all.questions().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_are_told_of_a_failure() {
        let (all, looks) = (Arc::<Coalesced>::default(), Arc::<AtomicU32>::default());
        let mut tasks = JoinSet::new();
        for _ in 0..10 {
            let (all, looks) = (all.clone(), looks.clone());
            tasks.spawn(async move {
                let fails = async {
                    look(&looks).await?;
                    Err(ApiError::NotFound("there is nothing".to_owned()))
                };
                all.answer("scopes".to_owned(), fails).await.unwrap_err().told()
            });
        }
        for (status, text) in tasks.join_all().await {
            assert_eq!((status.as_u16(), text.as_str()), (404, "there is nothing"));
        }
        // The first one's, and that of those who came while it looked.
        assert_eq!(looks.load(Ordering::SeqCst), 2);
        assert!(all.questions().is_empty());
    }
}
