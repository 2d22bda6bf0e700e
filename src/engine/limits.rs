//! How much memory guests may take: each instance, and all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::debug;
use wasmtime::ResourceLimiter;

/// Elements of all tables of one instance; a large program has some ten thousand functions in its table.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;

/// Bytes of one linear memory, whatever it says itself: what 32 bits reach, and what a slot of the pool holds.
const MEMORY_BYTES_MAX: usize = 4 << 30;

/// The memory that all guests of this host may take together: three quarters of what the machine (or the container)
/// has, so that guests that allocate without end fail before the host is killed for it.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    bytes_max: usize,
    bytes_used: AtomicUsize,
}

impl MemoryBudget {
    pub(super) fn of_machine() -> Self {
        let total = sysinfo::System::new().map_or(0, |mut system| {
            system.refresh_memory();
            let machine = system.total_memory();
            system.cgroup_limits().map_or(machine, |limits| limits.total_memory.min(machine))
        });
        let bytes = usize::try_from(total / 4 * 3).unwrap_or(usize::MAX);
        // A machine that does not tell its memory has no budget rather than no guests.
        Self { bytes_max: if bytes == 0 { usize::MAX } else { bytes }, bytes_used: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) -> bool {
        self.bytes_used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|used| *used <= self.bytes_max)
            })
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.bytes_used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Counts what the instances of one store take, and gives it back with the store.
#[derive(Debug)]
pub(crate) struct StoreLimits {
    budget: Arc<MemoryBudget>,
    memory_bytes_max: usize,
    memory_bytes: usize,
    table_elements: usize,
}

impl StoreLimits {
    pub(super) fn new(budget: &Arc<MemoryBudget>, memory_bytes_max: Option<usize>) -> Self {
        Self {
            budget: Arc::clone(budget),
            memory_bytes_max: memory_bytes_max.unwrap_or(usize::MAX),
            memory_bytes: 0,
            table_elements: 0,
        }
    }
}

impl ResourceLimiter for StoreLimits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // The engine would refuse it too, but behind us: what it refuses must not have been counted, or a guest that
        // grows in vain takes the whole host's budget.
        if desired > maximum.unwrap_or(MEMORY_BYTES_MAX).min(MEMORY_BYTES_MAX) {
            return Ok(false);
        }
        let grown = desired.saturating_sub(current);
        let total = self.memory_bytes.saturating_add(grown);
        if total > self.memory_bytes_max {
            debug!(limit_bytes = self.memory_bytes_max, wanted_bytes = total, "guest reached its memory limit");
            return Ok(false);
        }
        if !self.budget.take(grown) {
            debug!(limit_bytes = self.budget.bytes_max, "guests reached the host's memory budget");
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > TABLE_ELEMENTS_MAX || maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }
}

impl Drop for StoreLimits {
    fn drop(&mut self) {
        self.budget.give_back(self.memory_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(bytes_max: usize) -> Arc<MemoryBudget> {
        Arc::new(MemoryBudget { bytes_max, bytes_used: AtomicUsize::new(0) })
    }

    #[test]
    fn an_instance_stops_at_its_own_limit() {
        let budget = budget(1000);
        let mut limits = StoreLimits::new(&budget, Some(100));
        assert!(limits.memory_growing(0, 60, None).unwrap());
        assert!(!limits.memory_growing(60, 101, None).unwrap());
        assert!(limits.memory_growing(60, 100, None).unwrap());
        // A second memory of the same instance counts into the same limit.
        assert!(!limits.memory_growing(0, 1, None).unwrap());
    }

    #[test]
    fn growth_that_cannot_succeed_is_refused_and_not_counted() {
        let budget = budget(usize::MAX);
        let mut limits = StoreLimits::new(&budget, None);
        assert!(limits.memory_growing(0, 100, Some(100)).unwrap());
        assert!(!limits.memory_growing(100, 200, Some(100)).unwrap());
        assert!(!limits.memory_growing(100, MEMORY_BYTES_MAX + 1, None).unwrap());
        assert!(!limits.table_growing(0, 11, Some(10)).unwrap());
        assert_eq!((budget.bytes_used.load(Ordering::Relaxed), limits.table_elements), (100, 0));
    }

    #[test]
    fn all_instances_stop_at_the_budget_and_give_back_what_they_had() {
        let budget = budget(100);
        let mut first = StoreLimits::new(&budget, None);
        let mut second = StoreLimits::new(&budget, None);
        assert!(first.memory_growing(0, 80, None).unwrap());
        assert!(!second.memory_growing(0, 30, None).unwrap());
        drop(first);
        assert!(second.memory_growing(0, 30, None).unwrap());
        drop(second);
        assert_eq!(budget.bytes_used.load(Ordering::Relaxed), 0);
    }
}
