//! What people and tools ask a host about its configuration, whichever way they reach it.

use futures::future::BoxFuture;
use serde_json::Value;

/// Implemented by `daemon`; asked over HTTP by `admin`, over NATS by `control`. Calls come from the control thread: none
/// may block.
pub(crate) trait ConfigPort: Send + Sync + 'static {
    /// What runs, what waits, and the last attempts. No secret in it.
    fn status(&self) -> Value;

    /// Looks at the file; yields the attempt when it has ended, or after a while how far it has come.
    fn reload(&self) -> BoxFuture<'static, Value>;

    /// As a reload, up to its commit: yields what one would do, or why it would be refused, and nothing has changed.
    fn check(&self) -> BoxFuture<'static, Value>;
}
