//! Connections of clients: how many, how long they may take, and how they end.
//!
//! Whoever connects and says nothing, or one byte a minute, takes one of
//! `[ratekitty] api_max_connections` places, and not for long: a request's head
//! must be there within `api_client_timeout`, each part of its body within as much
//! again; and so long may it take to accept any of its answer. While all places are taken, the system keeps new connections waiting.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, Response},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{MissedTickBehavior, Sleep, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};
use tracing::{debug, info, warn};

use super::{AppState, Ends, StartError, normalize_path, router, watched};
use crate::{instruments::instruments, supervisor::Pulse, watch::Watch};

/// Largest head of a request, in bytes; more is refused with 431. Tokens and long
/// lists of filters have room in it.
const LARGEST_HEAD: usize = 64 << 10;

/// Most headers of a request.
const MOST_HEADERS: usize = 100;

/// Pause after the system had no connection to give: too many open files, say.
const PAUSE: Duration = Duration::from_millis(100);

/// Time between two signs of life, and the longest until one is missed.
const BEAT: Duration = Duration::from_secs(5);
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// What clients are held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Longest wait for a request's head, and for each part of its body.
    pub patience: Duration,
    /// Longest wait for running requests after a stop.
    pub grace: Duration,
}

/// Listens: from then on the system keeps connections for [`serve`]. `option` says so.
///
/// # Errors
/// An address that cannot be used.
pub async fn listen(
    host: &str,
    port: u16,
    option: &'static str,
) -> Result<TcpListener, StartError> {
    let address =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let listener = TcpListener::bind(&address).await.map_err(|source| StartError::Listen {
        address: address.clone(),
        option,
        source,
    })?;
    let local = listener.local_addr().map_or(address, |local| local.to_string());
    info!("Listening on http://{local}");
    Ok(listener)
}

/// By which [`serve`] shows that it goes on.
pub fn pulse() -> Pulse {
    Pulse::new("The API", LONGEST_SILENCE)
}

/// Serves until told to stop; running requests are then finished within the grace.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    stop: CancellationToken,
    limits: Limits,
    pulse: Pulse,
) {
    let service = router(state, limits.patience);
    accept(listener, service, &stop, limits, &pulse).await;
}

/// Serves what is told of the daemon, and nothing else, until told to stop.
pub async fn serve_watch(
    listener: TcpListener,
    watch: Arc<Watch>,
    stop: CancellationToken,
    limits: Limits,
    pulse: Pulse,
) {
    accept(listener, watched::routes(watch, true), &stop, limits, &pulse).await;
}

/// A connection that ends if its client accepts nothing for too long.
struct Patient {
    inner: TcpStream,
    patience: Duration,
    /// When a write that waits is given up.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(inner: TcpStream, patience: Duration) -> Self {
        Self { inner, patience, deadline: None }
    }

    /// The outcome of a write, unless it has waited for too long.
    fn watched<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.deadline = None;
            return outcome;
        }
        let patience = self.patience;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(patience)));
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watched(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, bytes);
        self.watched(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(context);
        self.watched(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

async fn accept<S>(
    listener: TcpListener,
    service: S,
    stop: &CancellationToken,
    limits: Limits,
    pulse: &Pulse,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(limits.patience)
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS);
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = async {
                let place = places.clone().acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
            _ = beats.tick() => {
                // A task, as those that answer are: what it shows is that they run.
                let pulse = pulse.clone();
                tokio::spawn(async move { pulse.beat() });
                continue;
            }
            () = stop.cancelled() => break,
        };
        let (place, stream, peer) = match accepted {
            (Ok(place), Ok((stream, peer))) => (place, stream, peer),
            (_, Err(error)) => {
                warn!("Cannot take a connection: {error}");
                sleep(PAUSE).await;
                continue;
            }
            (Err(_), _) => break,
        };
        // Small answers should not wait for more.
        let _ = stream.set_nodelay(true);
        let stream = Patient::new(stream, limits.patience);
        let ends = stream.inner.local_addr().ok().map(|local| Ends { peer, local });
        let service =
            service.clone().map_request(move |request: Request<hyper::body::Incoming>| {
                let mut request = normalize_path(request.map(Body::new));
                if let Some(ends) = ends {
                    request.extensions_mut().insert(ends);
                }
                request
            });
        let connection =
            server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let watched = graceful.watch(connection);
        instruments().connections.inc();
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                debug!("A connection ended: {error}");
            }
            instruments().connections.dec();
            drop(place);
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = sleep(limits.grace) => {
            warn!("Some clients took longer than [ratekitty] shutdown_grace and are cut off");
        }
    }
}
