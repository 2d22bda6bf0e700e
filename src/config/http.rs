//! `[http]`: where and how requests are taken in.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

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
        }
    }
}
