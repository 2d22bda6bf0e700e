//! What a connection is doing, and how long it may go on doing it.
//!
//! ```text
//!            first byte               head complete             response sent, body gone
//!   fresh ---------------> head ------------------------> call ------------------------> idle
//!     |                     |  ^                                                          |
//!     | header_read_timeout |  +----------------------- next byte ------------------------+
//!     v                     v                                                             | 75 s
//!   closed             408, closed                                                        v
//! ```
//!
//! HTTP/2 has its own keep-alive pings instead. While the server drains, `fresh` and `idle` last one second.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// An idle HTTP/1 connection is closed after this: longer than the 60 s for which most proxies keep one themselves,
/// so that they close first and never send into a closing connection.
const IDLE: Duration = Duration::from_secs(75);

/// While draining, how long a connection that is idle or new may still bring a request. A client in a closed loop
/// sends its next one within a round trip; closing at once would fail it.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// How long a client that has closed its sending side may wait for its response. It may have half-closed (the
/// response is wanted), or be gone (the call should be cancelled); no packet tells the two apart.
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// How long a client may go on sending after the last response. Closing with unread bytes in the socket resets
/// the connection, and the reset may overtake the response.
const LINGER: Duration = Duration::from_secs(1);

/// Shared by a connection's socket, its requests and its watch; all on one task for HTTP/1, so nothing is ever
/// waited for, and `Relaxed` is enough.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    header_read_timeout: Duration,
    protocol: AtomicU8,
    /// Responses that are being made or sent.
    calls: AtomicU32,
    /// Request bodies that someone still reads.
    uploads: AtomicU32,
    /// Whether a request was ever read.
    has_served: AtomicBool,
    /// Bytes of a head have come, its end has not.
    in_head: AtomicBool,
    /// Part of a request's body was left unread.
    has_unread: AtomicBool,
    /// The last write found the socket full.
    is_blocked: AtomicBool,
    /// The client has closed its sending side during a call.
    is_half_closed: AtomicBool,
    /// The last response is out and the rest of the input is thrown away.
    is_lingering: AtomicBool,
    /// What `limit` said has come true.
    is_expired: AtomicBool,
    /// When the present phase began, in nanoseconds after `start`.
    since: AtomicU64,
}

/// As far as the first bytes have told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Unknown = 0,
    Http1 = 1,
    Http2 = 2,
}

impl Activity {
    pub(super) fn new(header_read_timeout: Duration) -> Self {
        Self {
            start: Instant::now(),
            header_read_timeout,
            protocol: AtomicU8::new(Protocol::Unknown as u8),
            calls: AtomicU32::new(0),
            uploads: AtomicU32::new(0),
            has_served: AtomicBool::new(false),
            in_head: AtomicBool::new(false),
            has_unread: AtomicBool::new(false),
            is_blocked: AtomicBool::new(false),
            is_half_closed: AtomicBool::new(false),
            is_lingering: AtomicBool::new(false),
            is_expired: AtomicBool::new(false),
            since: AtomicU64::new(0),
        }
    }

    /// When the present phase has lasted too long; `None`: never.
    pub(super) fn limit(&self, is_draining: bool) -> Option<Instant> {
        let is_busy = self.calls.load(Ordering::Relaxed) > 0 || self.uploads.load(Ordering::Relaxed) > 0;
        let allowed = if self.is_lingering.load(Ordering::Relaxed) {
            LINGER
        } else if self.is_half_closed.load(Ordering::Relaxed) {
            HALF_CLOSED
        } else if is_busy || self.protocol() == Protocol::Http2 {
            return None;
        } else if self.is_blocked.load(Ordering::Relaxed) {
            IDLE
        } else if self.in_head.load(Ordering::Relaxed) {
            self.header_read_timeout
        } else if is_draining {
            FAREWELL.min(self.header_read_timeout)
        } else if self.has_served.load(Ordering::Relaxed) {
            IDLE
        } else {
            self.header_read_timeout
        };
        Some(self.since() + allowed)
    }

    /// When the present phase began.
    fn since(&self) -> Instant {
        self.start + Duration::from_nanos(self.since.load(Ordering::Relaxed))
    }

    /// When the request that just begins was begun: HTTP/1 counts from its first byte, HTTP/2 knows whole heads only.
    pub(super) fn request_began(&self) -> Instant {
        if self.protocol() == Protocol::Http2 { Instant::now() } else { self.since() }
    }

    fn begin_phase(&self) {
        // 64 bits of nanoseconds last for 584 years.
        let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.since.store(nanos, Ordering::Relaxed);
    }

    pub(super) fn protocol(&self) -> Protocol {
        match self.protocol.load(Ordering::Relaxed) {
            0 => Protocol::Unknown,
            1 => Protocol::Http1,
            _ => Protocol::Http2,
        }
    }

    pub(super) fn is(&self, protocol: Protocol) {
        self.protocol.store(protocol as u8, Ordering::Relaxed);
    }

    /// Bytes have come.
    pub(super) fn received(&self) {
        let is_new = self.calls.load(Ordering::Relaxed) == 0
            && self.uploads.load(Ordering::Relaxed) == 0
            && !self.in_head.load(Ordering::Relaxed)
            && self.protocol() != Protocol::Http2;
        if is_new {
            self.in_head.store(true, Ordering::Relaxed);
            self.begin_phase();
        }
    }

    /// The client has closed its sending side. Whether the connection should not learn of it yet, because a response
    /// is on its way.
    pub(super) fn half_closed(&self) -> bool {
        let waits = self.calls.load(Ordering::Relaxed) > 0 && self.protocol() == Protocol::Http1 && !self.is_expired();
        if waits && !self.is_half_closed.swap(true, Ordering::Relaxed) {
            self.begin_phase();
        }
        waits
    }

    /// A write has been tried.
    pub(super) fn wrote(&self, is_blocked: bool) {
        if self.is_blocked.load(Ordering::Relaxed) != is_blocked {
            self.is_blocked.store(is_blocked, Ordering::Relaxed);
            if !is_blocked && self.calls.load(Ordering::Relaxed) == 0 {
                self.begin_phase();
            }
        }
    }

    pub(super) fn has_served(&self) -> bool {
        self.has_served.load(Ordering::Relaxed)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    pub(super) fn in_head(&self) -> bool {
        self.in_head.load(Ordering::Relaxed)
    }

    /// Whether the connection has an end of its own to make of an expired limit, and has not been told yet.
    pub(super) fn can_be_told(&self) -> bool {
        let has_end = self.in_head() || self.is_half_closed.load(Ordering::Relaxed);
        has_end && !self.is_lingering.load(Ordering::Relaxed) && !self.is_expired()
    }

    pub(super) fn expire(&self) {
        self.is_expired.store(true, Ordering::Relaxed);
        self.is_half_closed.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_expired(&self) -> bool {
        self.is_expired.load(Ordering::Relaxed)
    }

    /// Whether the client may still be sending what nobody reads, when the connection is about to be closed.
    pub(super) fn should_linger(&self) -> bool {
        let unread = self.has_unread.load(Ordering::Relaxed) || self.in_head();
        unread && self.protocol() == Protocol::Http1 && !self.is_expired()
    }

    pub(super) fn linger(&self) {
        if !self.is_lingering.swap(true, Ordering::Relaxed) {
            self.begin_phase();
        }
    }

    /// A request's head is complete.
    pub(super) fn call_begins(&self) {
        if self.protocol() == Protocol::Unknown {
            self.is(Protocol::Http1);
        }
        self.has_served.store(true, Ordering::Relaxed);
        // A pipelined request came with the bytes of another.
        if !self.in_head.swap(false, Ordering::Relaxed) && self.calls.load(Ordering::Relaxed) == 0 {
            self.begin_phase();
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Its response is out, or given up.
    pub(super) fn call_ends(&self) {
        if self.calls.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.is_half_closed.store(false, Ordering::Relaxed);
            self.begin_phase();
        }
    }

    /// A request's body is handed out.
    pub(super) fn upload_begins(&self) {
        self.uploads.fetch_add(1, Ordering::Relaxed);
    }

    /// Nobody reads that body any more.
    pub(super) fn upload_ends(&self, is_complete: bool) {
        if !is_complete {
            self.has_unread.store(true, Ordering::Relaxed);
        }
        if self.uploads.fetch_sub(1, Ordering::Relaxed) == 1 && self.calls.load(Ordering::Relaxed) == 0 {
            self.begin_phase();
        }
    }

    /// Part of a request's body was never handed out.
    pub(super) fn left_unread(&self) {
        self.has_unread.store(true, Ordering::Relaxed);
    }
}
