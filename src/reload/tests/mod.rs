//! The reload task over fake sections and inputs, and over real files.

mod attempts;
mod fake;
mod files;
mod walk;
mod watching;

use std::time::Duration;

/// Long enough for a loaded machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(20);

/// The value that `look` finds in what `rx` shows, as soon as it does.
async fn seen<T, V>(rx: &mut tokio::sync::watch::Receiver<T>, mut look: impl FnMut(&T) -> Option<V>) -> V {
    let wait = async {
        loop {
            if let Some(value) = look(&rx.borrow_and_update()) {
                return value;
            }
            rx.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("waited in vain")
}
