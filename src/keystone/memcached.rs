//! Validated tokens in memcached, for all processes of the API.
//!
//! A cache that fails is no cache: whatever is wrong with a server, Keystone is
//! asked, and the server left alone for a while. Protocol: `doc/protocol.txt` of
//! memcached. Names and values are ours; those of Python programs beside are
//! theirs.

use std::{fmt::Write, time::Duration};

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    sync::Mutex,
    time::Instant,
};
use tracing::warn;

use crate::config::sections::keystone_authtoken as config;

/// Largest value taken, in bytes: memcached's own limit.
const LARGEST: usize = 1 << 20;

/// memcached servers, of which each value is in one.
pub(super) struct Memcached {
    servers: Vec<Server>,
    /// Key by which values are encrypted.
    key: Option<LessSafeKey>,
    timeout: Duration,
    dead_retry: Duration,
}

struct Server {
    address: String,
    state: Mutex<State>,
}

enum State {
    Idle,
    Open(BufStream<TcpStream>),
    /// It failed, and is left alone until then.
    Dead(Instant),
}

impl Memcached {
    pub(super) fn new(config: &config::Memcached) -> Self {
        let key = match &config.guard {
            config::Guard::None => None,
            config::Guard::Key(secret) => {
                let key = Sha256::digest(secret.expose_secret());
                UnboundKey::new(&CHACHA20_POLY1305, &key).ok().map(LessSafeKey::new)
            }
        };
        let servers = config
            .servers
            .iter()
            .map(|address| Server { address: with_port(address), state: Mutex::new(State::Idle) });
        Self {
            servers: servers.collect(),
            key,
            timeout: config.timeout,
            dead_retry: config.dead_retry,
        }
    }

    /// What is kept under a digest.
    pub(super) async fn get(&self, digest: &[u8; 32]) -> Option<Vec<u8>> {
        let name = name(digest);
        let request = format!("get {name}\r\n");
        let value = self.ask(digest, request.as_bytes(), Expect::Value).await?;
        match &self.key {
            None => Some(value),
            Some(key) => open(key, digest, value),
        }
    }

    /// Keeps a value under a digest for some time.
    pub(super) async fn set(&self, digest: &[u8; 32], value: &[u8], time: Duration) {
        let sealed = match &self.key {
            None => value.to_vec(),
            Some(key) => match seal(key, digest, value) {
                Some(sealed) => sealed,
                None => return,
            },
        };
        let mut request =
            format!("set {} 0 {} {}\r\n", name(digest), time.as_secs().max(1), sealed.len())
                .into_bytes();
        request.extend(sealed);
        request.extend(b"\r\n");
        self.ask(digest, &request, Expect::Stored).await;
    }

    async fn ask(&self, digest: &[u8; 32], request: &[u8], expect: Expect) -> Option<Vec<u8>> {
        let server = &self.servers[usize::from(digest[31]) % self.servers.len()];
        let mut state = server.state.lock().await;
        if let State::Dead(until) = *state {
            if Instant::now() < until {
                return None;
            }
            *state = State::Idle;
        }
        let exchange = async {
            // It may have been closed since: of a server that was started again, or
            // closes what is idle, nothing else is wrong.
            if let State::Open(stream) = std::mem::replace(&mut *state, State::Idle)
                && let Ok(done) = expect.of(stream, request).await
            {
                return Ok(done);
            }
            let stream = BufStream::new(TcpStream::connect(&server.address).await?);
            expect.of(stream, request).await
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(Ok((stream, answer))) => {
                *state = State::Open(stream);
                answer
            }
            failed => {
                let reason = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "it does not answer in time".to_owned(),
                };
                warn!(
                    "memcached server {} is left alone for {} s: {reason}",
                    server.address,
                    self.dead_retry.as_secs()
                );
                *state = State::Dead(Instant::now() + self.dead_retry);
                None
            }
        }
    }
}

/// What an answer should be.
#[derive(Clone, Copy)]
enum Expect {
    Value,
    Stored,
}

impl Expect {
    /// What is answered to a request, and the connection.
    async fn of(
        self,
        mut stream: BufStream<TcpStream>,
        request: &[u8],
    ) -> std::io::Result<(BufStream<TcpStream>, Option<Vec<u8>>)> {
        stream.write_all(request).await?;
        stream.flush().await?;
        let answer = self.read(&mut stream).await?;
        Ok((stream, answer))
    }

    async fn read(self, stream: &mut BufStream<TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
        let wrong = |line: &str| std::io::Error::other(format!("it answers `{}`", line.trim_end()));
        let mut line = String::new();
        (&mut *stream).take(1_024).read_line(&mut line).await?;
        if matches!(self, Self::Stored) {
            return match line.as_str() {
                "STORED\r\n" => Ok(None),
                _ => Err(wrong(&line)),
            };
        }
        if line == "END\r\n" {
            return Ok(None);
        }
        let length = line.strip_prefix("VALUE ").and_then(|rest| rest.split_whitespace().nth(2));
        let length = length.and_then(|length| length.parse::<usize>().ok());
        let length = length.filter(|length| *length <= LARGEST).ok_or_else(|| wrong(&line))?;
        let mut value = vec![0; length + b"\r\nEND\r\n".len()];
        stream.read_exact(&mut value).await?;
        match value.ends_with(b"\r\nEND\r\n") {
            true => {
                value.truncate(length);
                Ok(Some(value))
            }
            false => Err(wrong("a value that is longer than it says")),
        }
    }
}

/// `HOST:PORT`; memcached's own port if there is none.
fn with_port(address: &str) -> String {
    let address = address.strip_prefix("inet:").unwrap_or(address);
    match address.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && !host.ends_with(':') => {
            address.to_owned()
        }
        _ => format!("{address}:11211"),
    }
}

fn name(digest: &[u8; 32]) -> String {
    let mut name = "ratekitty/token/2/".to_owned();
    for byte in digest {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// Encrypted, and of no use under another digest.
fn seal(key: &LessSafeKey, digest: &[u8; 32], value: &[u8]) -> Option<Vec<u8>> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).ok()?;
    let mut sealed = value.to_vec();
    let aad = Aad::from(digest);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
    Some([nonce.as_slice(), &sealed].concat())
}

fn open(key: &LessSafeKey, digest: &[u8; 32], sealed: Vec<u8>) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut value = sealed.to_vec();
    let length = key.open_in_place(nonce, Aad::from(digest), &mut value).ok()?.len();
    value.truncate(length);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memcached(servers: &[&str], guard: config::Guard) -> Memcached {
        Memcached::new(&config::Memcached {
            servers: servers.iter().map(|server| (*server).to_owned()).collect(),
            guard,
            timeout: Duration::from_secs(1),
            dead_retry: Duration::from_secs(60),
        })
    }

    #[test]
    fn sealed_values_are_of_no_use_elsewhere() {
        let guarded = memcached(&["h"], config::Guard::Key("secret".to_owned().into()));
        let other = memcached(&["h"], config::Guard::Key("another".to_owned().into()));
        let (key, other) = (guarded.key.unwrap(), other.key.unwrap());
        let sealed = seal(&key, &[1; 32], b"value").unwrap();
        assert_eq!(open(&key, &[1; 32], sealed.clone()).unwrap(), b"value");
        assert!(open(&key, &[2; 32], sealed.clone()).is_none());
        assert!(open(&other, &[1; 32], sealed.clone()).is_none());
        assert!(open(&key, &[1; 32], sealed[..8].to_vec()).is_none());
        assert!(!sealed.windows(5).any(|part| part == b"value"));
    }

    #[test]
    fn addresses_may_lack_a_port() {
        assert_eq!(with_port("cache"), "cache:11211");
        assert_eq!(with_port("inet:10.0.0.1:11212"), "10.0.0.1:11212");
        assert_eq!(with_port("[::1]:11211"), "[::1]:11211");
        assert_eq!(with_port("[::1]"), "[::1]:11211");
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_no_cache() {
        let away = memcached(&["127.0.0.1:1"], config::Guard::None);
        away.set(&[0; 32], b"value", Duration::from_secs(10)).await;
        assert!(away.get(&[0; 32]).await.is_none());
        assert!(matches!(*away.servers[0].state.lock().await, State::Dead(_)));
    }
}
