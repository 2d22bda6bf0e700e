//! Other settings, or another connection: subscribed beside the live ones, confirmed, then in their place.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _, join_all};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use super::attachment::Subscribed;
use super::tap::Tap;
use super::{Access, Shared};
use crate::plugin::guest::AttachError;
use crate::plugin::{NotReady, Retiring, Swap};

/// Components that are subscribed at once: each costs the server a round trip.
const PREPARED_AT_ONCE: usize = 64;

/// What is about to be behind the facade. Dropped before the commit, what was subscribed for it ends.
pub(super) struct Change {
    shared: Arc<Shared>,
    access: Option<Access>,
    /// Those that may be subscribed for it.
    prepared: Vec<Arc<Subscribed>>,
}

/// What was live.
struct Retired {
    shared: Arc<Shared>,
    taps: Vec<Tap>,
    /// Calls that began on it still use it.
    access: Arc<Access>,
}

impl Change {
    pub(super) fn new(shared: Arc<Shared>, access: Access) -> Self {
        Self { shared, access: Some(access), prepared: Vec::new() }
    }
}

impl Swap for Change {
    fn ready(&mut self) -> BoxFuture<'_, Result<(), NotReady>> {
        async move {
            let Some(access) = &self.access else { return Ok(()) };
            self.prepared = self.shared.attachments();
            let prepare = |attachment: &Arc<Subscribed>| {
                let attachment = Arc::clone(attachment);
                async move { attachment.prepare(access).await.map_err(|error| not_ready(&attachment, &error)) }
            };
            let all: Vec<_> = self.prepared.iter().map(prepare).collect();
            stream::iter(all).buffer_unordered(PREPARED_AT_ONCE).try_collect::<()>().await
        }
        .boxed()
    }

    fn commit(mut self: Box<Self>) -> Option<Box<dyn Retiring>> {
        let access = self.access.take()?;
        let registry = self.shared.registry();
        self.shared.limit(&registry, &access);
        let access = self.shared.facade.swap(access);
        drop(registry);
        let taps = self.prepared.iter().filter_map(|attachment| attachment.commit()).collect();
        Some(Box::new(Retired { shared: Arc::clone(&self.shared), taps, access }))
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        // Committed ones have nothing prepared any more.
        for attachment in &self.prepared {
            attachment.abandon();
        }
    }
}

fn not_ready(attachment: &Subscribed, error: &AttachError) -> NotReady {
    let is_passing = matches!(error, AttachError::Unreachable(_));
    NotReady { message: format!("{}: {error}", attachment.describe()), is_passing, source: None }
}

impl Retiring for Retired {
    fn retire(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, usize> {
        let Self { shared, taps, access } = *self;
        drop(access);
        async move {
            let followers = shared.attachments();
            // Those that were attached while the change was prepared are where it was before.
            let follow = followers.iter().map(|attachment| attachment.follow_by(&shared, deadline));
            tokio::join!(join_all(follow), join_all(taps.into_iter().map(|tap| tap.close(deadline))));
            0
        }
        .boxed()
    }
}
