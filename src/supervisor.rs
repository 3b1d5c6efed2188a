//! What a supervisor such as systemd is told, in the protocol of `sd_notify(3)`:
//! that the program serves, that it stops and, for its watchdog, that it is alive.
//!
//! Alive is what goes on, not what merely runs: each loop that must go on has a
//! [`Pulse`]. While one is overdue, the watchdog is told nothing, and so the
//! supervisor ends the program and starts it anew.
//!
//! Without the supervisor's variables in the environment nothing is told.

use std::{
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

/// Longest wait for a supervisor that takes nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// No sign is due.
const NEVER: u64 = u64::MAX;

/// What a loop shows that it goes on by. Clones are of one loop.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Beats>);

#[derive(Debug)]
struct Beats {
    name: &'static str,
    longest: Duration,
    begun: Instant,
    /// When the next sign is due, in milliseconds after `begun`.
    due: AtomicU64,
}

impl Pulse {
    /// Of a loop, whose name stands in a log line, and which takes no longer than
    /// that from sign to sign. None is due before the first.
    pub fn new(name: &'static str, longest: Duration) -> Self {
        Self(Arc::new(Beats { name, longest, begun: Instant::now(), due: NEVER.into() }))
    }

    /// Name of the loop.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// A sign of life.
    pub fn beat(&self) {
        self.pause(Duration::ZERO);
    }

    /// A sign of life of a loop that is about to sleep for a while.
    pub fn pause(&self, pause: Duration) {
        let Beats { longest, begun, due, .. } = &*self.0;
        let next = begun.elapsed().saturating_add(*longest).saturating_add(pause);
        due.store(u64::try_from(next.as_millis()).unwrap_or(NEVER), Ordering::Relaxed);
    }

    /// Whether the loop should have shown a sign since the last one.
    pub fn is_overdue(&self) -> bool {
        self.0.begun.elapsed().as_millis() > self.0.due.load(Ordering::Relaxed).into()
    }
}

/// Who has started the program and wants to know how it is.
#[derive(Debug, Default)]
pub struct Supervisor {
    line: Option<Line>,
    watchdog: Option<Duration>,
}

/// The way to it.
#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    address: SocketAddr,
    is_stopping: AtomicBool,
}

/// A program that its supervisor knows to serve. When it goes, the supervisor is
/// told that the program stops, if it was not before.
#[derive(Debug)]
#[must_use = "it tells of the stop when it goes"]
pub struct Serving(Option<Arc<Line>>);

impl Supervisor {
    /// The one that the environment names.
    pub fn from_environment() -> Self {
        let text = |name| std::env::var(name).ok();
        let is_for_us =
            text("WATCHDOG_PID").is_none_or(|process| process.parse() == Ok(std::process::id()));
        let watchdog = text("WATCHDOG_USEC").filter(|_| is_for_us);
        let watchdog = watchdog.and_then(|microseconds| microseconds.parse().ok());
        Self::new(std::env::var_os("NOTIFY_SOCKET"), watchdog.map(Duration::from_micros))
    }

    /// One that listens at an address, which is a path or, after `@`, an abstract
    /// name, and that wants a sign of life within each `watchdog`.
    fn new(address: Option<OsString>, watchdog: Option<Duration>) -> Self {
        let Some(address) = address.filter(|address| !address.is_empty()) else {
            return Self::default();
        };
        match Line::open(&address) {
            Ok(line) => {
                let watchdog = watchdog.filter(|longest| !longest.is_zero());
                Self { line: Some(line), watchdog }
            }
            Err(error) => {
                let address = address.display();
                warn!("The supervisor cannot be told anything at NOTIFY_SOCKET={address}: {error}");
                Self::default()
            }
        }
    }

    /// Tells that the program serves and, from then on, that it is alive as long as
    /// all pulses are. The supervisor is told of the stop when `stop` is cancelled;
    /// then pulses count no more, since what stops has a time limit of its own.
    pub fn serving(self, stop: &CancellationToken, pulses: Vec<Pulse>) -> Serving {
        let line = self.line.map(Arc::new);
        if let Some(line) = &line {
            line.tell("READY=1");
            tokio::spawn(watch(line.clone(), self.watchdog, stop.clone(), pulses));
        }
        Serving(line)
    }
}

async fn watch(
    line: Arc<Line>,
    watchdog: Option<Duration>,
    stop: CancellationToken,
    pulses: Vec<Pulse>,
) {
    let stopping = async {
        stop.cancelled().await;
        line.stopping();
    };
    let Some(longest) = watchdog else { return stopping.await };
    debug!("The supervisor wants a sign of life within {} s", longest.as_secs_f64());
    let alive = async {
        // As systemd advises: half of what is allowed.
        let mut ticks = interval((longest / 2).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut overdue = pulses.iter().filter(|pulse| pulse.is_overdue());
            match overdue.next() {
                Some(pulse) if !stop.is_cancelled() => error!(
                    "{} does not go on: the supervisor is no longer told that the program is alive, and will end it",
                    pulse.0.name
                ),
                _ => line.tell("WATCHDOG=1"),
            }
        }
    };
    tokio::join!(stopping, alive);
}

impl Line {
    fn open(address: &OsString) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "no path and no @name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket, address, is_stopping: AtomicBool::new(false) })
    }

    fn tell(&self, what: &str) {
        if let Err(error) = self.socket.send_to_addr(what.as_bytes(), &self.address) {
            warn!("The supervisor cannot be told {what}: {error}");
        }
    }

    fn stopping(&self) {
        if !self.is_stopping.swap(true, Ordering::Relaxed) {
            self.tell("STOPPING=1");
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(line) = &self.0 {
            line.stopping();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a supervisor hears within a while.
    fn heard(socket: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    fn listen(socket: UnixDatagram) -> UnixDatagram {
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tells_at_a_path_and_at_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("ratekitty-{}", uuid::Uuid::new_v4());
        let abstract_name = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let cases = [
            (path.clone().into_os_string(), listen(UnixDatagram::bind(&path).unwrap())),
            (format!("@{name}").into(), listen(UnixDatagram::bind_addr(&abstract_name).unwrap())),
        ];
        for (address, socket) in cases {
            let stop = CancellationToken::new();
            let serving = Supervisor::new(Some(address), None).serving(&stop, Vec::new());
            assert_eq!(heard(&socket).as_deref(), Some("READY=1"));
            // Without a watchdog nothing more.
            assert_eq!(heard(&socket), None);
            stop.cancel();
            assert_eq!(heard(&socket).as_deref(), Some("STOPPING=1"));
            drop(serving);
            assert_eq!(heard(&socket), None);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_end_without_a_signal_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = listen(UnixDatagram::bind(&path).unwrap());
        let stop = CancellationToken::new();
        drop(Supervisor::new(Some(path.into()), None).serving(&stop, Vec::new()));
        let told = [heard(&socket), heard(&socket), heard(&socket)];
        assert_eq!(told, [Some("READY=1".into()), Some("STOPPING=1".into()), None]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_does_not_go_on_is_not_alive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = listen(UnixDatagram::bind(&path).unwrap());
        let stop = CancellationToken::new();
        let pulse = Pulse::new("A test", Duration::from_millis(200));
        let longest = Some(Duration::from_millis(100));
        let supervisor = Supervisor::new(Some(path.into()), longest);
        let _serving = supervisor.serving(&stop, vec![pulse.clone()]);
        assert_eq!(heard(&socket).as_deref(), Some("READY=1"));
        // Before the first sign, none is due.
        for _ in 0..6 {
            assert_eq!(heard(&socket).as_deref(), Some("WATCHDOG=1"));
        }
        pulse.beat();
        let begun = Instant::now();
        while heard(&socket).is_some() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is told to be alive for ever");
        }
        pulse.pause(Duration::from_secs(60));
        assert_eq!(heard(&socket).as_deref(), Some("WATCHDOG=1"));
        // A stop may take what it takes.
        pulse.beat();
        stop.cancel();
        let mut told = Vec::new();
        for _ in 0..20 {
            told.extend(heard(&socket));
        }
        assert!(pulse.is_overdue());
        assert_eq!(told.len(), 20, "{told:?}");
        assert_eq!(told.iter().filter(|what| *what == "STOPPING=1").count(), 1, "{told:?}");
    }

    #[tokio::test]
    async fn nobody_who_listens_is_no_error() {
        let stop = CancellationToken::new();
        for address in [None, Some(""), Some("vsock:2:1"), Some("/nowhere/notify")] {
            let _ = Supervisor::new(address.map(Into::into), Some(Duration::ZERO))
                .serving(&stop, Vec::new());
        }
    }
}
