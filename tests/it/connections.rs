//! Clients that are slow, silent or too large: they get an error or lose their
//! connection, and nobody else waits for them.

use std::time::Duration;

use ratekitty::{
    api::{self, Limits},
    dataframe::{DataFrame, DataPoint},
    time::Period,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::support::{TestApp, until};

const PATIENCE: Duration = Duration::from_secs(2);

/// Connections that there are places for.
const PLACES: usize = 8;

struct Served {
    port: u16,
    _stop: tokio_util::sync::DropGuard,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

async fn app() -> TestApp {
    TestApp::new("2026-11-01T05:00:00Z", "", "metrics: {}\n").await
}

async fn served() -> Served {
    serve(app().await).await
}

async fn serve(app: TestApp) -> Served {
    let (stop, state) = (CancellationToken::new(), app.state());
    let listener = api::listen("127.0.0.1", 0, "the test").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let limits = Limits { connections: PLACES, patience: PATIENCE, grace: Duration::from_secs(1) };
    let until_stop = stop.clone();
    let serving = tokio::spawn(async move {
        // Kept as long as it serves.
        let _app = app;
        api::serve(listener, state, until_stop, limits, api::pulse()).await;
    });
    Served { port, _stop: stop.clone().drop_guard(), stop, serving }
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// Sends a request and reads until the connection ends, or no more comes.
    async fn send(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // It may answer and close before all is sent.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = timeout(4 * PATIENCE, stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Connections that it has not closed, as the system tells.
    fn open_connections(&self) -> usize {
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let own = format!(":{:04X}", self.port);
        let is_open = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _, state) = (fields.next(), fields.next(), fields.next());
            local.is_some_and(|local| local.ends_with(&own)) && state == Some("01")
        };
        sockets.lines().filter(is_open).count()
    }

    async fn is_well(&self) -> bool {
        let request = b"GET /v2/rating/modules HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        self.send(request).await.starts_with("HTTP/1.1 200")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_holds_nobody_up() {
    let served = served().await;
    // More than there are places for, silent or half through their first line.
    let mut silent = Vec::new();
    for number in 0..2 * PLACES {
        let mut stream = served.connect().await;
        if number % 2 == 0 {
            stream.write_all(b"GET /v2/rating/mod").await.unwrap();
        }
        silent.push(stream);
    }
    let begin = Instant::now();
    assert!(served.is_well().await);
    assert!(begin.elapsed() < 4 * PATIENCE, "{:?}", begin.elapsed());
    for stream in &mut silent {
        let mut rest = Vec::new();
        timeout(4 * PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap_or(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_drips_is_cut_off() {
    let served = served().await;
    let mut stream = served.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let begin = Instant::now();
    while stream.write_all(b"x: y\r\n").await.is_ok() && begin.elapsed() < 5 * PATIENCE {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(begin.elapsed() < 3 * PATIENCE, "{:?}", begin.elapsed());
    // A body that stops is no better.
    let head = b"POST /v2/dataframes HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
                 content-length: 1000\r\n\r\n{";
    let begin = Instant::now();
    let answer = served.send(head).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(begin.elapsed() < 3 * PATIENCE, "{:?}", begin.elapsed());
    assert!(served.is_well().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_is_cut_off() {
    let app = app().await;
    // Answers of several times what the system keeps of a connection.
    let begin = "2026-11-01T00:00:00Z".parse().unwrap();
    let mut frame = DataFrame::new(Period::starting(begin, 3_600));
    let metadata = json!({"note": "x".repeat(4_000)});
    let point = DataPoint {
        unit: "GiB".into(),
        qty: "1".parse().unwrap(),
        price: "1".parse().unwrap(),
        groupby: json!({"project_id": "a"}).as_object().unwrap().clone().into(),
        metadata: metadata.as_object().unwrap().clone().into(),
    };
    frame.add("cpu", std::iter::repeat_n(point, 8_000));
    app.storage.append(&[frame]).await.unwrap();
    let served = serve(app).await;
    // One that is made whole, two that are sent as they are read.
    let paths =
        ["/v2/dataframes?limit=4000", "/v2/dataframes?limit=8000", "/v1/storage/dataframes"];
    let mut idle = Vec::new();
    for path in paths.iter().cycle().take(PLACES) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut stream = socket.connect(([127, 0, 0, 1], served.port).into()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        // It is answered, so that all that follows is how the answer is taken.
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        idle.push(stream);
    }
    until("all of them to be cut off", async || served.open_connections() == 0).await;
    assert!(served.is_well().await);
    // Who reads after all finds an end, and not a whole answer.
    for stream in &mut idle {
        let mut rest = Vec::new();
        let _ = timeout(4 * PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.len() < 4_000 * 4_000, "{}", rest.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused() {
    let served = served().await;
    let long = "x".repeat(300_000);
    let many: String = (0..200).map(|number| format!("h{number}: x\r\n")).collect();
    let body = "y".repeat(3 << 20);
    let too_large = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let requests = [
        (format!("GET /v2/scope HTTP/1.1\r\nhost: h\r\nx-auth-token: {long}\r\n\r\n"), "431"),
        (format!("GET /v2/scope HTTP/1.1\r\nhost: h\r\n{many}\r\n"), "431"),
        (format!("GET /v2/scope?scope_id={long} HTTP/1.1\r\nhost: h\r\n\r\n"), "4"),
        (too_large("/v2/scope"), "413"),
        (too_large("/v1/rating/module_config/hashmap/services"), "413"),
        (too_large("/v1/rating/quote"), "413"),
        ("NONSENSE\r\n\r\n".to_owned(), "400"),
    ];
    for (request, status) in requests {
        let answer = served.send(request.as_bytes()).await;
        let shown: String = request.chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
    }
    let mut deep = "[".repeat(50_000);
    deep.push_str(&"]".repeat(50_000));
    let services = "/v1/rating/module_config/hashmap/services";
    for path in ["/v2/dataframes", services, "/v1/rating/quote"] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n");
        let request =
            format!("{head}content-length: {}\r\nconnection: close\r\n\r\n{deep}", deep.len());
        let answer = served.send(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
    }
    for path in ["/v2/scope?scope_id=%ff%00", "/v1/rating/modules/%00", "/v2/rating/modules/%ff"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        let answer = served.send(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
    }
    assert!(served.is_well().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_nobody_for_ever() {
    let served = served().await;
    let mut idle = served.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let mut slow = served.connect().await;
    slow.write_all(b"POST /v2/scope HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.cancel();
    timeout(Duration::from_secs(5), served.serving).await.unwrap().unwrap();
}
