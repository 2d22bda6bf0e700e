//! The ticker that makes a busy guest yield, so that it never holds a worker for longer than a tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{EngineWeak, Store, UpdateDeadline};

use crate::task;

/// 5 ms: two spinning guests on one worker still leave each neighbour a turn within 10 ms.
const TICK: Duration = Duration::from_millis(5);

/// Ticks without a guest after which the thread parks: one second, so that a trickle of requests does not pay for
/// waking it each time.
const IDLE_TICKS_BEFORE_PARK: u32 = 200;

/// Advances the engine's epoch every [`TICK`] while at least one store exists.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    guests: AtomicUsize,
    parked: AtomicBool,
    stop: AtomicBool,
    thread: std::sync::OnceLock<std::thread::Thread>,
}

impl Ticker {
    pub(super) fn start(engine: &wasmtime::Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let engine = engine.weak();
        let of_thread = Arc::clone(&shared);
        let thread = task::os_thread("washlet-epoch", move || tick(&of_thread, &engine))?;
        // Set before any store can exist, hence before anyone unparks.
        if shared.thread.set(thread.thread().clone()).is_err() {
            unreachable!("set once, here");
        }
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Keeps the ticker ticking until it is dropped.
    pub(super) fn running_guest(&self) -> RunningGuest {
        self.shared.guests.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst)
            && let Some(thread) = self.shared.thread.get()
        {
            thread.unpark();
        }
        RunningGuest(Arc::clone(&self.shared))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the epoch thread panicked");
            }
        }
    }
}

/// One store that exists.
#[derive(Debug)]
pub(crate) struct RunningGuest(Arc<Shared>);

impl Drop for RunningGuest {
    fn drop(&mut self) {
        self.0.guests.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(shared: &Shared, engine: &EngineWeak) {
    let mut idle_ticks = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.guests.load(Ordering::SeqCst) > 0 {
            idle_ticks = 0;
        } else {
            idle_ticks += 1;
        }
        if idle_ticks > IDLE_TICKS_BEFORE_PARK {
            // `parked` before the second look at `guests`: whoever raises it in between sees `parked` and unparks.
            shared.parked.store(true, Ordering::SeqCst);
            while shared.guests.load(Ordering::SeqCst) == 0 && !shared.stop.load(Ordering::SeqCst) {
                std::thread::park();
            }
            shared.parked.store(false, Ordering::SeqCst);
            idle_ticks = 0;
        }
        std::thread::sleep(TICK);
        match engine.upgrade() {
            Some(engine) => engine.increment_epoch(),
            None => return,
        }
    }
}

/// At each tick the guest gives way to every other task of its worker, and to the sockets the worker polls.
///
/// tokio's own yield is used because a task that merely wakes itself goes to the back of the run queue without the
/// I/O driver being polled, and a worker full of such tasks looks at its sockets only every 61 polls.
pub(super) fn yield_at_every_tick<T: 'static>(store: &mut Store<T>) {
    store.epoch_deadline_callback(|_store| Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))));
    store.set_epoch_deadline(1);
}
