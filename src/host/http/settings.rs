//! The settings of a server in the form that connections use, made once per change.

use std::time::Duration;

use http::uri::Scheme;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;

use crate::config;
use crate::host::http::tls::Tls;
use crate::task;

/// Request line and headers together; more is answered 431. Also the most that is buffered of a response.
const HEAD_BYTES_MAX: usize = 64 << 10;

const HEADERS_MAX: usize = 128;

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 250;

/// An HTTP/2 connection is asked for a sign of life this often.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Between these lies the number of connections that is derived from the file-descriptor limit.
const CONNECTIONS_MIN: usize = 64;
const CONNECTIONS_MAX: usize = 32_768;

#[derive(Debug)]
pub(super) struct Settings {
    pub(super) http: config::Http,
    /// What guests are told.
    pub(super) scheme: Scheme,
    /// How connections are encrypted; `None`: not at all.
    pub(super) tls: Option<Tls>,
    pub(super) protocols: auto::Builder<Spawner>,
    pub(super) connections_max: usize,
}

impl Settings {
    pub(super) fn new(http: config::Http, tls: Option<Tls>) -> Self {
        let connections_max = match http.max_connections {
            Some(max) => max.get(),
            None => derived_connections_max(file_descriptors_max()),
        };
        let scheme = if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        Self { connections_max, scheme, tls, protocols: protocols(), http }
    }
}

fn protocols() -> auto::Builder<Spawner> {
    let mut builder = auto::Builder::new(Spawner);
    builder
        .http1()
        // Ours is one timer per connection (`Activity::limit`), not one per request.
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    builder
}

/// Spawns the streams of HTTP/2 connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spawner;

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        // It ends with its stream, and its stream with the connection.
        drop(task::spawn("http stream", future));
    }
}

/// Half of the file descriptors: the other half is for what requests need themselves.
fn derived_connections_max(file_descriptors_max: usize) -> usize {
    (file_descriptors_max / 2).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

/// The soft limit of this process; where it cannot be read, what most systems start with.
fn file_descriptors_max() -> usize {
    std::fs::read_to_string("/proc/self/limits").ok().and_then(|text| soft_limit(&text)).unwrap_or(1024)
}

fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_first_number_of_its_line() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             7                    8                    processes \n\
                    Max open files            1024                 1048576              files     \n";
        assert_eq!(soft_limit(text), Some(1024));
        assert_eq!(soft_limit("Max open files  unlimited unlimited files"), Some(usize::MAX));
        assert_eq!(soft_limit("nothing"), None);
    }

    #[test]
    fn connections_are_half_of_the_file_descriptors_within_bounds() {
        assert_eq!(derived_connections_max(1024), 512);
        assert_eq!(derived_connections_max(16), 64);
        assert_eq!(derived_connections_max(usize::MAX), 32_768);
    }
}
