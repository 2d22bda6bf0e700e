//! A tree of "stop now": whoever holds one can wait for it, make a child, or trigger it.

use tokio_util::sync::CancellationToken;

/// Cheap to clone; triggering one triggers its children, never its parent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown(CancellationToken);

impl Shutdown {
    /// One that triggers when this one does, or by itself.
    pub(crate) fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Tells everyone waiting on this one and its children.
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
