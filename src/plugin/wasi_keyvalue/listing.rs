//! Listings of buckets between two pages: so that each page is not a walk over the whole bucket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A guest that takes longer for a page has its next one listed anew.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// Keys of all listings together; a larger one is not kept.
const BYTES_MAX: usize = 64 << 20;

/// The keys of buckets as they were when their first page was asked for.
#[derive(Debug, Default)]
pub(super) struct Listings(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Counts what changed the keys of any bucket here.
    version: u64,
    by_bucket: HashMap<Arc<str>, Listing>,
}

#[derive(Debug)]
struct Listing {
    keys: Arc<Vec<String>>,
    bytes: usize,
    at: Instant,
}

impl Listings {
    /// To be read before the bucket is.
    pub(super) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Keeps what was listed, unless something was written meanwhile.
    pub(super) fn keep(&self, bucket: &Arc<str>, keys: &Arc<Vec<String>>, version: u64) {
        let mut kept = self.lock();
        kept.by_bucket.retain(|_bucket, listing| listing.at.elapsed() < KEPT_FOR);
        let bytes = keys.iter().map(|key| key.len() + size_of::<String>()).sum::<usize>();
        let others: usize = kept.by_bucket.iter().filter(|(name, _)| *name != bucket).map(|(_, it)| it.bytes).sum();
        if kept.version == version && bytes + others <= BYTES_MAX {
            let listing = Listing { keys: Arc::clone(keys), bytes, at: Instant::now() };
            kept.by_bucket.insert(Arc::clone(bucket), listing);
        }
    }

    /// What was kept of the bucket.
    pub(super) fn kept(&self, bucket: &str) -> Option<Arc<Vec<String>>> {
        let mut kept = self.lock();
        let listing = kept.by_bucket.get_mut(bucket).filter(|listing| listing.at.elapsed() < KEPT_FOR)?;
        listing.at = Instant::now();
        Some(Arc::clone(&listing.keys))
    }

    /// A key of the bucket was written or deleted here.
    pub(super) fn changed(&self, bucket: &str) {
        let mut kept = self.lock();
        kept.version = kept.version.wrapping_add(1);
        kept.by_bucket.remove(bucket);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_lasts_until_something_is_written() {
        let listings = Listings::default();
        let (a, keys): (Arc<str>, _) = (Arc::from("a"), Arc::new(vec!["key".to_owned()]));
        listings.keep(&a, &keys, listings.version());
        assert!(listings.kept("a").is_some() && listings.kept("b").is_none());

        let version = listings.version();
        listings.changed("a");
        assert!(listings.kept("a").is_none());
        listings.keep(&a, &keys, version);
        assert!(listings.kept("a").is_none(), "it may miss what was written");
    }
}
