//! "Stop now": whoever holds one can wait for it, or trigger it.

use tokio_util::sync::CancellationToken;

/// Cheap to clone; all clones are triggered together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown(CancellationToken);

impl Shutdown {
    /// Tells everyone who waits.
    pub(crate) fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether it was triggered.
    pub(crate) fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is triggered. Safe to drop and call again.
    pub(crate) async fn wait(&self) {
        self.0.cancelled().await;
    }
}
