//! Waiting for a condition, never for a time, and finding a free port.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// 20 s: how long a test waits for something that should happen at once; generous, because CI shares two cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// 10 ms: between two looks at a condition that cannot tell when it changed.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Held by tests that keep every core busy and by tests that measure time, so that they do not run side by side. Other
/// tests go on meanwhile.
pub(crate) async fn quiet() -> tokio::sync::MutexGuard<'static, ()> {
    static QUIET: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    QUIET.lock().await
}

/// Polls `look` until it yields a value. Panics after `timeout`, naming `what` was awaited.
pub(crate) async fn eventually<T>(what: &str, timeout: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    let search = async {
        loop {
            if let Some(value) = look().await {
                return value;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    match tokio::time::timeout(timeout, search).await {
        Ok(value) => value,
        Err(_elapsed) => panic!("waited {:?} in vain: {what}", started.elapsed()),
    }
}

/// A port of 127.0.0.1 that nobody listens on, a different one at each call.
///
/// It lies below the range from which Linux takes the ports of outgoing connections (32768 and up), so no test's
/// connection can take it before the test's server does.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 18_000;
    const COUNT: u16 = 14_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side start their search at different places.
    let offset = u16::try_from(std::process::id() * 97 % u32::from(COUNT)).expect("less than COUNT");
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (offset + step) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port between {FIRST} and {} is free", FIRST + COUNT);
}
