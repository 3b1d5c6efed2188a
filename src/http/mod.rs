//! HTTP to the outside: how clients are built, answers bounded, requests tried again.

pub mod retry;

use std::{path::PathBuf, time::Duration};

/// How a client trusts and waits.
#[derive(Debug, Clone, Default)]
pub struct ClientSettings {
    /// File with the only certificate authorities to trust (PEM).
    pub cafile: Option<PathBuf>,
    /// Whether certificates are left unchecked. A `cafile` wins over it.
    pub insecure: bool,
    /// Files with the client's certificate and its key (PEM), for servers that
    /// ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Which redirects are followed.
    pub redirects: Redirects,
    /// Longest wait for a whole answer; `None` waits for ever.
    pub timeout: Option<Duration>,
}

/// Which redirects a client follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Redirects {
    /// A few.
    #[default]
    Followed,
    /// Those to the same host, and not from HTTPS to HTTP: requests carry a secret
    /// in a header that the library does not take for one.
    SameHost,
    /// None.
    Refused,
}

/// Why a client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file with certificate authorities cannot be read.
    #[error("cannot read certificate authorities from `{path}`: {source}")]
    ReadCa {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds no usable certificates.
    #[error("no usable certificate authority in `{path}`: {source}")]
    ParseCa {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: reqwest::Error,
    },
    /// The file holds no certificates at all: nobody would be trusted.
    #[error("no certificate authority in `{path}`: it must hold certificates in PEM")]
    NoCa {
        /// The file.
        path: PathBuf,
    },
    /// Certificate or key of the client cannot be read.
    #[error("cannot read the client's certificate and key from `{path}`: {source}")]
    ReadIdentity {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Certificate and key of the client are not usable.
    #[error("no usable client certificate and key in `{certificate}` and `{key}`: {source}")]
    ParseIdentity {
        /// File with the certificate.
        certificate: PathBuf,
        /// File with the key.
        key: PathBuf,
        /// What the library said.
        source: reqwest::Error,
    },
    /// The library refuses the settings.
    #[error("cannot set up the HTTP client: {0}")]
    Build(#[source] reqwest::Error),
}

/// Says which library gives TLS its cryptography: to be called before anything
/// makes a client. The first call decides, later ones find it decided.
pub(crate) fn choose_cryptography() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Builds a client.
///
/// # Errors
/// Certificate authorities that cannot be read.
pub fn client(settings: &ClientSettings) -> Result<reqwest::Client, ClientError> {
    choose_cryptography();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("ratekitty/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        // A server that closes idle connections must not cost a request.
        .pool_idle_timeout(Duration::from_secs(20));
    builder = match settings.redirects {
        Redirects::Followed => builder,
        Redirects::SameHost => builder.redirect(same_host()),
        Redirects::Refused => builder.redirect(reqwest::redirect::Policy::none()),
    };
    if let Some(timeout) = settings.timeout {
        builder = builder.timeout(timeout);
    }
    if let Some(path) = &settings.cafile {
        let pem = std::fs::read(path)
            .map_err(|source| ClientError::ReadCa { path: path.clone(), source })?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|source| ClientError::ParseCa { path: path.clone(), source })?;
        if certificates.is_empty() {
            return Err(ClientError::NoCa { path: path.clone() });
        }
        builder = builder.tls_certs_only(certificates);
    } else if settings.insecure {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some((certificate, key)) = &settings.identity {
        let read = |path: &PathBuf| {
            std::fs::read(path)
                .map_err(|source| ClientError::ReadIdentity { path: path.clone(), source })
        };
        let pem = [read(certificate)?, b"\n".to_vec(), read(key)?].concat();
        let identity = reqwest::Identity::from_pem(&pem).map_err(|source| {
            let (certificate, key) = (certificate.clone(), key.clone());
            ClientError::ParseIdentity { certificate, key, source }
        })?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(ClientError::Build)
}

fn same_host() -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(|attempt| {
        let is_same = attempt.previous().last().is_some_and(|from| {
            let to = attempt.url();
            from.host_str() == to.host_str()
                && (from.scheme() == to.scheme() || to.scheme() == "https")
        });
        match is_same && attempt.previous().len() < 5 {
            true => attempt.follow(),
            false => attempt.stop(),
        }
    })
}

/// Why the body of an answer was not read.
#[derive(Debug)]
pub enum BodyError {
    /// The connection failed.
    Transport(reqwest::Error),
    /// It is larger than the limit.
    TooLarge,
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// A connection that fails, a body beyond the limit.
pub async fn read_body(
    mut response: reqwest::Response,
    limit: usize,
) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| BodyError::Transport(error.without_url()))?
    {
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The start of a body as one line, for error messages.
pub fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(400)]);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(200).collect()
}

/// A URL without the user and password that may stand in it. What lies
/// between `://` and the last `@` goes, whatever characters a password has.
pub fn without_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}{}", &url[..scheme + 3], &url[at + 1..])
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_credentials() {
        let cases = [
            ("http://u:p@host/api", "http://host/api"),
            // Rather too little than a password.
            ("http://host/a@b", "http://b"),
            ("mysql+pymysql://ck:s3cr/et@db/cloudkitty", "mysql+pymysql://db/cloudkitty"),
            ("nonsense", "nonsense"),
            ("https://u:p@ss@host", "https://host"),
        ];
        for (url, shown) in cases {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
