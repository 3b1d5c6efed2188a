//! What the daemon counts and measures of itself, as Prometheus reads it.
//!
//! Instruments are of the process, as its log is: whoever does something counts it
//! where it is done, by [`instruments`]. Labels have few values, and none names a scope,
//! a user or a host: who may read the page need not be one who may know those.
//! What the state database knows is asked for when the page is read: see `watch`.
//!
//! Names and units follow <https://prometheus.io/docs/practices/naming/>.

use std::{
    fmt,
    sync::{LazyLock, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, prometheus_text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};

use crate::time::{Clock, RealClock};

/// Bounds of durations, in seconds: from an answer out of a cache to a request that is
/// given up.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// Bounds of the length of a cycle.
const CYCLE_SECONDS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 180.0, 600.0, 3_600.0];

/// What can fail of a scope.
pub const REASONS: [&str; 7] = ["collect", "timeout", "rating", "skip", "storage", "state", "lock"];

/// Names and values of labels.
type Labels<const N: usize> = [(&'static str, &'static str); N];

type ApiLabels = Vec<(&'static str, String)>;

type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// What periods are rated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The first time.
    Rating,
    /// Again, because somebody asked for it.
    Reprocessing,
}

impl Work {
    fn labels(self) -> Labels<1> {
        match self {
            Self::Rating => [("work", "rating")],
            Self::Reprocessing => [("work", "reprocessing")],
        }
    }
}

/// Who is asked for what over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A Prometheus for usage or scopes.
    Prometheus,
    /// An Aetos for usage.
    Aetos,
    /// A Loki to keep lines.
    LokiPush,
    /// A Loki for lines or sums.
    LokiQuery,
    /// A Keystone about a token.
    Keystone,
}

impl Asked {
    fn labels(self) -> Labels<2> {
        let (peer, request) = match self {
            Self::Prometheus => ("prometheus", "query"),
            Self::Aetos => ("aetos", "query"),
            Self::LokiPush => ("loki", "push"),
            Self::LokiQuery => ("loki", "query"),
            Self::Keystone => ("keystone", "token"),
        };
        [("peer", peer), ("request", request)]
    }
}

/// What became of a request to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It has an answer.
    Well,
    /// It failed, and may do better a little later: it is made again, within its time.
    Passing,
    /// It is refused.
    Refused,
}

impl Answered {
    fn name(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Passing => "failed",
            Self::Refused => "refused",
        }
    }
}

/// Everything that is counted and measured.
pub struct Instruments {
    registry: Registry,
    periods: Counters<1>,
    points: Counters<1>,
    failures: Counters<2>,
    busy: Counter,
    /// Cycles that could not begin.
    pub cycles_failed: Counter,
    cycles: Histogram,
    /// When the last cycle ended.
    last_cycle: Gauge<f64, AtomicU64>,
    /// Scopes that the fetcher named last.
    pub scopes_found: Gauge,
    requests: Histograms<2>,
    outcomes: Counters<3>,
    locks: Histograms<1>,
    rating: Family<Labels<1>, Counter<f64, AtomicU64>>,
    stores: Histogram,
    sums: Counters<1>,
    api: Family<ApiLabels, Histogram, fn() -> Histogram>,
    answers: Family<ApiLabels, Counter>,
    /// Connections to the API.
    pub connections: Gauge,
}

impl fmt::Debug for Instruments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Instruments")
    }
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(Instruments::new);

/// Those of this process.
pub fn instruments() -> &'static Instruments {
    &INSTRUMENTS
}

fn durations() -> Histogram {
    Histogram::new(SECONDS)
}

impl Instruments {
    fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process { started: since_epoch() }));
        let all = registry.sub_registry_with_prefix("ratekitty");
        /// Registers an instrument under a name, with what it tells.
        fn add<M: prometheus_client::registry::Metric + Clone>(
            registry: &mut Registry,
            name: &str,
            help: &str,
            metric: M,
        ) -> M {
            registry.register(name, help, metric.clone());
            metric
        }
        let periods: Counters<1> = add(
            all,
            "periods_rated",
            "Periods of scopes that were rated and stored",
            <_>::default(),
        );
        let points: Counters<1> =
            add(all, "points_rated", "Data points that were rated and stored", <_>::default());
        let failures: Counters<2> = add(
            all,
            "scope_failures",
            "Times that a scope could not be rated, by what failed; it is tried again",
            <_>::default(),
        );
        let busy = add(
            all,
            "scopes_busy",
            "Times that a scope was left to another processor, which had its lock",
            <_>::default(),
        );
        let cycles_failed = add(
            all,
            "cycles_failed",
            "Cycles that could not begin: the scopes are not known, or the database fails",
            <_>::default(),
        );
        let cycles =
            add(all, "cycle_seconds", "Length of a cycle of rating", Histogram::new(CYCLE_SECONDS));
        let last_cycle = add(
            all,
            "last_cycle_timestamp_seconds",
            "When the last cycle ended; 0 if none did",
            <_>::default(),
        );
        let scopes_found =
            add(all, "scopes_found", "Scopes that the fetcher named last", <_>::default());
        let requests = add(
            all,
            "request_seconds",
            "Time until a peer had answered a request, each try by itself",
            Histograms::new_with_constructor(durations as fn() -> _),
        );
        let outcomes = add(
            all,
            "requests",
            "Requests to peers, each try by itself, by what became of them",
            <_>::default(),
        );
        let locks = add(
            all,
            "lock_seconds",
            "Time until a lock was had, or found to be another's",
            Histograms::new_with_constructor(durations as fn() -> _),
        );
        let rating =
            add(all, "rating_module_seconds", "Time that rating modules took", <_>::default());
        let stores = add(
            all,
            "store_seconds",
            "Time until dataframes were stored, with the states of their scopes",
            durations(),
        );
        let sums = add(
            all,
            "sums",
            "Sums that were asked for, by where they are from: kept, or computed",
            <_>::default(),
        );
        let api = add(
            all,
            "api_request_seconds",
            "Time until an answer of the API began, by route",
            Family::new_with_constructor(durations as fn() -> _),
        );
        let answers =
            add(all, "api_answers", "Answers of the API, by route and status", <_>::default());
        let connections =
            add(all, "api_connections", "Connections to the API that are open", <_>::default());
        // What has not happened yet is 0, so that its first time is a change, too.
        for work in [Work::Rating, Work::Reprocessing] {
            let [name] = work.labels();
            drop((periods.get_or_create(&[name]), points.get_or_create(&[name])));
            for reason in REASONS {
                drop(failures.get_or_create(&[name, ("reason", reason)]));
            }
        }
        Self {
            registry,
            periods,
            points,
            failures,
            busy,
            cycles_failed,
            cycles,
            last_cycle,
            scopes_found,
            requests,
            outcomes,
            locks,
            rating,
            stores,
            sums,
            api,
            answers,
            connections,
        }
    }

    /// A period of a scope is rated and stored.
    pub fn rated(&self, work: Work, points: usize) {
        self.periods.get_or_create(&work.labels()).inc();
        self.points.get_or_create(&work.labels()).inc_by(points as u64);
    }

    /// Periods that were rated, and their data points, for the first time and again.
    pub fn rated_until_now(&self) -> (u64, u64) {
        let sum = |counters: &Counters<1>| {
            let counts = [Work::Rating, Work::Reprocessing].map(Work::labels);
            counts.iter().map(|labels| counters.get_or_create(labels).get()).sum()
        };
        (sum(&self.periods), sum(&self.points))
    }

    /// Scopes could not be rated; `reason` is one of a few words.
    pub fn failed(&self, work: Work, reason: &'static str, scopes: usize) {
        let [work] = work.labels();
        self.failures.get_or_create(&[work, ("reason", reason)]).inc_by(scopes as u64);
    }

    /// A scope is being rated by another processor.
    pub fn busy(&self) {
        self.busy.inc();
    }

    /// A cycle has ended.
    pub fn cycle_ended(&self, took: Duration) {
        self.cycles.observe(took.as_secs_f64());
        self.last_cycle.set(since_epoch());
    }

    /// A request to a peer has ended.
    pub fn asked(&self, asked: Asked, answered: Answered, took: Duration) {
        let labels = asked.labels();
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
        let [peer, request] = labels;
        self.outcomes.get_or_create(&[peer, request, ("outcome", answered.name())]).inc();
    }

    /// A lock was had, or is another's.
    pub fn locked(&self, is_had: bool, took: Duration) {
        let outcome = if is_had { "had" } else { "busy" };
        self.locks.get_or_create(&[("outcome", outcome)]).observe(took.as_secs_f64());
    }

    /// A rating module has seen a frame.
    pub fn module_took(&self, module: &'static str, took: Duration) {
        self.rating.get_or_create(&[("module", module)]).inc_by(took.as_secs_f64());
    }

    /// Dataframes were stored, or were not.
    pub fn stored(&self, took: Duration) {
        self.stores.observe(took.as_secs_f64());
    }

    /// Sums were given; `is_kept`: from those of an earlier request.
    pub fn summed(&self, is_kept: bool) {
        let from = if is_kept { "kept" } else { "computed" };
        self.sums.get_or_create(&[("from", from)]).inc();
    }

    /// The API has begun an answer. `route` is its pattern, not the path that was asked for.
    pub fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let mut labels = vec![("method", method.to_owned()), ("route", route.to_owned())];
        self.api.get_or_create(&labels).observe(took.as_secs_f64());
        labels.push(("status", status.to_string()));
        self.answers.get_or_create(&labels).inc();
    }

    /// All of them in Prometheus' text format, version 0.0.4.
    pub fn page(&self) -> String {
        let mut page = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_text::encode(&mut page, &self.registry);
        page
    }
}

fn since_epoch() -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
    let milliseconds = RealClock.now().timestamp_millis() as f64;
    milliseconds / 1_000.0
}

/// What the system knows of the process, under the names that all exporters use.
/// <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>
#[derive(Debug)]
struct Process {
    started: f64,
}

impl Process {
    /// Seconds of CPU, by all threads.
    fn cpu() -> Option<f64> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        // The kernel counts for programs in hundredths, whatever its own clock is.
        Some(ticks / 100.0)
    }

    /// A line of `/proc/self/status` that is in kB, in bytes.
    fn memory(status: &str, name: &str) -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: f64 =
            line.trim_start_matches(':').split_whitespace().next()?.parse().ok()?;
        Some(kilobytes * 1_024.0)
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = Self::memory(&status, "VmRSS");
        gauge("process_resident_memory_bytes", "Memory that is resident", resident)?;
        let most = Self::memory(&status, "VmHWM");
        gauge("process_resident_memory_max_bytes", "Most memory that was resident", most)?;
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let open = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as f64);
        gauge("process_open_fds", "Files that are open", open)?;
        gauge("process_start_time_seconds", "When the process began to count", Some(self.started))?;
        let Some(cpu) = Self::cpu() else { return Ok(()) };
        let name = "process_cpu_seconds";
        let metric = encoder.encode_descriptor(name, "CPU time", None, MetricType::Counter)?;
        ConstCounter::new(cpu).encode(metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_what_was_counted() {
        let instruments = Instruments::new();
        instruments.rated(Work::Rating, 7);
        instruments.rated(Work::Rating, 5);
        instruments.failed(Work::Reprocessing, "collect", 3);
        instruments.asked(Asked::LokiPush, Answered::Passing, Duration::from_millis(30));
        instruments.module_took("hashmap", Duration::from_millis(500));
        instruments.answered("GET", "/v2/scope", 200, Duration::from_millis(3));
        instruments.rated(Work::Reprocessing, 2);
        assert_eq!(instruments.rated_until_now(), (3, 14));
        let page = instruments.page();
        for line in [
            "ratekitty_periods_rated_total{work=\"rating\"} 2",
            "ratekitty_points_rated_total{work=\"rating\"} 12",
            "ratekitty_scope_failures_total{work=\"reprocessing\",reason=\"collect\"} 3",
            "ratekitty_requests_total{peer=\"loki\",request=\"push\",outcome=\"failed\"} 1",
            "ratekitty_request_seconds_bucket{peer=\"loki\",request=\"push\",le=\"0.05\"} 1",
            "ratekitty_request_seconds_bucket{peer=\"loki\",request=\"push\",le=\"0.025\"} 0",
            "ratekitty_rating_module_seconds_total{module=\"hashmap\"} 0.5",
            "ratekitty_api_answers_total{method=\"GET\",route=\"/v2/scope\",status=\"200\"} 1",
            "ratekitty_scopes_found 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        for name in ["process_resident_memory_bytes", "process_cpu_seconds_total"] {
            let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            assert!(value.unwrap().parse::<f64>().unwrap() >= 0.0, "{name}");
        }
    }
}
