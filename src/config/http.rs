//! `[http]`: where and how requests are taken in.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::host::is_dns_subdomain;
use crate::config::path::join;
use crate::config::pem::{PemFile, certified_key};
use crate::config::resolve::Resolver;
use crate::config::scalar::{FileAddress, FileDuration, FileSize};
use crate::types::ByteSize;

/// The ingress. Reload class: live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Address to listen on; no HTTP if absent.
    pub listen: Option<SocketAddr>,
    /// Connections at once; `None`: derived from the file-descriptor limit.
    pub max_connections: Option<NonZeroUsize>,
    /// Bytes of one request's body; `None`: no limit.
    pub max_request_body: Option<ByteSize>,
    /// How long a client may take to send the header of a request.
    pub header_read_timeout: Duration,
    /// From the request's first byte to the response's head; `None`: no limit.
    pub request_timeout: Option<Duration>,
    /// `<svc>.<ns>.svc.<cluster_domain>` equals `<svc>.<ns>.svc`.
    pub cluster_domain: String,
    /// How connections are encrypted; `None`: not at all.
    pub tls: Option<HttpTls>,
}

/// TLS for incoming connections. The content of the files is part of it: a rotated one is another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTls {
    /// Certificate chain, the host's own certificate first.
    pub cert: PemFile,
    /// Its private key.
    pub key: PemFile,
    /// Authorities of which every client must have a certificate; `None`: clients need none.
    pub client_ca: Option<PemFile>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: None,
            max_connections: None,
            max_request_body: None,
            header_read_timeout: Duration::from_secs(10),
            request_timeout: None,
            cluster_domain: "cluster.local".to_owned(),
            tls: None,
        }
    }
}

/// `[http]`: where and how requests are taken in. A new listener is bound before the old one drains.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileHttp {
    /// Address to listen on. Unset: no HTTP.
    pub(super) listen: Option<FileAddress>,
    /// Connections at once. 0: derived from the file-descriptor limit.
    pub(super) max_connections: u32,
    /// Bytes of one request's body. 0B: no limit.
    pub(super) max_request_body: FileSize,
    /// How long a client may take to send the header of a request.
    pub(super) header_read_timeout: FileDuration,
    /// From the first byte of a request to the head of its response. 0s: no limit; else 504.
    pub(super) request_timeout: FileDuration,
    /// `<service>.<namespace>.svc.<cluster_domain>` equals `<service>.<namespace>.svc`.
    pub(super) cluster_domain: String,
    /// TLS for incoming connections.
    pub(super) tls: FileHttpTls,
}

/// `[http.tls]`: TLS for incoming connections.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileHttpTls {
    /// PEM certificate chain.
    pub(super) cert: Option<PathBuf>,
    /// PEM private key.
    pub(super) key: Option<PathBuf>,
    /// PEM authorities whose client certificates are required.
    pub(super) client_ca: Option<PathBuf>,
}

impl Default for FileHttp {
    fn default() -> Self {
        let Http {
            listen,
            max_connections,
            max_request_body,
            header_read_timeout,
            request_timeout,
            cluster_domain,
            tls: _,
        } = Http::default();
        Self {
            listen: listen.map(FileAddress),
            max_connections: max_connections.map_or(0, |max| u32::try_from(max.get()).unwrap_or(u32::MAX)),
            max_request_body: FileSize(max_request_body.unwrap_or_default()),
            header_read_timeout: FileDuration(header_read_timeout),
            request_timeout: FileDuration(request_timeout.unwrap_or_default()),
            cluster_domain,
            tls: FileHttpTls::default(),
        }
    }
}

impl FileHttp {
    pub(super) fn resolve(self, cx: &mut Resolver<'_>) -> Http {
        let Self {
            listen,
            max_connections,
            max_request_body,
            header_read_timeout,
            request_timeout,
            cluster_domain,
            tls,
        } = self;
        if !is_dns_subdomain(&cluster_domain) {
            cx.error("http.cluster_domain", "expected a domain such as \"cluster.local\"");
        }
        Http {
            listen: listen.map(|FileAddress(address)| address),
            max_connections: usize::try_from(max_connections).ok().and_then(NonZeroUsize::new),
            max_request_body: Some(max_request_body.0).filter(|size| size.get() > 0),
            header_read_timeout: cx.positive("http.header_read_timeout", header_read_timeout),
            request_timeout: Some(request_timeout.0).filter(|time| !time.is_zero()),
            cluster_domain,
            tls: tls.resolve("http.tls", cx),
        }
    }
}

impl FileHttpTls {
    fn resolve(self, path: &str, cx: &mut Resolver<'_>) -> Option<HttpTls> {
        let Self { cert, key, client_ca } = self;
        let at = |key: &str| join(path, key);
        match (&cert, &key, &client_ca) {
            (Some(_cert), None, _) => cx.error(&at("cert"), "`cert` needs `key` beside it"),
            (None, Some(_key), _) => cx.error(&at("key"), "`key` needs `cert` beside it"),
            (None, None, Some(_ca)) => cx.error(&at("client_ca"), "`client_ca` needs `cert` and `key` beside it"),
            (Some(_), Some(_), _) | (None, None, None) => {}
        }
        let cert = cert.and_then(|file| cx.pem_file(&at("cert"), file));
        let key = key.and_then(|file| cx.pem_file(&at("key"), file));
        let client_ca = client_ca.and_then(|file| cx.pem_file(&at("client_ca"), file));
        if let Some(error) = client_ca.as_ref().and_then(|client_ca| client_ca.roots().err()) {
            cx.unfit(&at("client_ca"), &error);
        }
        let cert_error = cert.as_ref().and_then(|cert| cert.chain().err());
        let key_error = key.as_ref().and_then(|key| key.signing_key().err());
        let is_each_right = cert_error.is_none() && key_error.is_none();
        cert_error.inspect(|error| cx.unfit(&at("cert"), error));
        key_error.inspect(|error| cx.unfit(&at("key"), error));
        let (cert, key) = (cert?, key?);
        if is_each_right && let Err(error) = certified_key(&cert, &key) {
            cx.unfit(&at("key"), &error);
        }
        Some(HttpTls { cert, key, client_ca })
    }
}
