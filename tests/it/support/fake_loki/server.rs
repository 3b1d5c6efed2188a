//! Listeners, and what goes wrong between them and the API.

use std::{net::SocketAddr, panic::resume_unwind, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    serve::Listener,
};
use futures::stream;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Asked, Fault, Kind, Shared, form,
    http::{self, Call},
    locked,
};

/// What one process of a Loki does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything: the single binary.
    All,
    /// Takes pushes.
    Distributor,
    /// Takes queries and cuts them up.
    QueryFrontend,
    /// Answers queries.
    Querier,
    /// Holds what is not flushed.
    Ingester,
    /// Deletes.
    Compactor,
}

impl Role {
    /// Whether it has a path.
    fn has(self, path: &str) -> bool {
        match path.strip_prefix("/loki/api/v1/") {
            Some("push") => matches!(self, Self::All | Self::Distributor),
            Some("delete") => matches!(self, Self::All | Self::Compactor),
            Some("status/buildinfo") => true,
            Some(_) => matches!(self, Self::All | Self::QueryFrontend | Self::Querier),
            None if path == "/flush" => matches!(self, Self::All | Self::Ingester),
            None => true,
        }
    }

    /// Its `target`.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Distributor => "distributor",
            Self::QueryFrontend => "query-frontend",
            Self::Querier => "querier",
            Self::Ingester => "ingester",
            Self::Compactor => "compactor",
        }
    }
}

/// The API of a role.
pub fn router(shared: Arc<Shared>, role: Role) -> Router {
    Router::new().fallback(move |request: Request| answer(shared.clone(), role, request))
}

/// Serves until it is aborted.
pub async fn serve<L>(listener: L, app: Router)
where
    L: Listener<Addr = SocketAddr>,
{
    let _ = axum::serve(listener, app).await;
}

/// Ends the task of a connection, and so the connection, without a panic's message.
fn close_connection() -> ! {
    resume_unwind(Box::new("connection closed on purpose"))
}

async fn answer(shared: Arc<Shared>, role: Role, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let method = parts.method.to_string();
    let mut parameters = form::decoded(parts.uri.query().unwrap_or_default());
    let kind = match path.strip_prefix("/loki/api/v1/") {
        Some("push") => Some(Kind::Push),
        Some("delete") => Some(Kind::Delete),
        Some("status/buildinfo") | None => None,
        Some(_) => Some(Kind::Query),
    };
    let seen = |parameters: &[(String, String)]| Asked {
        method: method.clone(),
        path: path.clone(),
        parameters: parameters.to_vec(),
    };
    let fault = shared.faults.meet(kind);
    if fault == Some(Fault::Reset) {
        locked(&shared.asked).push(seen(&parameters));
        close_connection();
    }
    let Ok(body) = to_bytes(body, usize::MAX).await else { close_connection() };
    let of_form = |headers: &HeaderMap| {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
    };
    // A delete reads its URL alone.
    if method == "POST" && of_form(&parts.headers) && kind == Some(Kind::Query) {
        let mut posted = form::decoded(&String::from_utf8_lossy(&body));
        posted.append(&mut parameters);
        parameters = posted;
    }
    locked(&shared.asked).push(seen(&parameters));
    match fault {
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::TooManyRequests(after)) => {
            let mut refusal = http::text(429, "Too Many Requests\n".to_owned());
            if let Some(after) = after {
                refusal.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after));
            }
            return refusal;
        }
        Some(Fault::Status(status)) => {
            return http::text(
                status,
                "at least 1 live replicas required, could only find 0\n".to_owned(),
            );
        }
        _ => {}
    }
    let authorization = locked(&shared.authorization).clone();
    let sent = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if authorization.is_some_and(|wanted| Some(&*wanted) != sent) {
        return http::text(401, "Unauthorized\n".to_owned());
    }
    if !role.has(&path) {
        return http::text(404, "404 page not found\n".to_owned());
    }
    let half = fault == Some(Fault::HalfStored);
    let call = Call { method, path, parameters, headers: parts.headers, body, role, half };
    // A query may take seconds.
    let done = tokio::task::spawn_blocking(move || http::answer(&shared, &call)).await;
    let response = done.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response());
    match fault {
        Some(Fault::DropAnswer) => close_connection(),
        Some(Fault::HalfStored) => http::text(500, "rpc error: code = Unknown\n".to_owned()),
        Some(Fault::Truncated) => truncated(response).await,
        Some(Fault::Partial) => partial(response).await,
        _ => response,
    }
}

/// The answer with the warning that Loki 3.7 gives with a part of the series.
async fn partial(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else { close_connection() };
    let mut body: Value = serde_json::from_slice(&body).unwrap();
    body["warnings"] = json!([
        "maximum number of series (500) reached for a single query; returning partial results"
    ]);
    let body = body.to_string();
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Response::from_parts(parts, Body::from(body))
}

/// The answer with half of its body, though it announces the whole.
async fn truncated(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else { close_connection() };
    if body.is_empty() {
        close_connection();
    }
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let half = body.slice(..body.len() / 2);
    let parts_of_body = stream::unfold(Some(half), async |half| match half {
        Some(half) => Some((Ok(half), None)),
        None => {
            // What came before has to reach the client first.
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Err(std::io::Error::other("cut off on purpose")), None))
        }
    });
    Response::from_parts(parts, Body::from_stream(parts_of_body))
}

/// A listener that hands out connections whose TLS handshake is done.
pub struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    accepting: JoinHandle<()>,
}

impl TlsListener {
    /// One over a TCP listener.
    pub fn new(listener: TcpListener, config: rustls::ServerConfig) -> Self {
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (sender, ready) = mpsc::channel(16);
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, peer)) = listener.accept().await {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    // A client that fails the handshake is told so by it.
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        let _ = sender.send((tls, peer)).await;
                    }
                });
            }
        });
        Self { address, ready, accepting }
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.address)
    }
}
