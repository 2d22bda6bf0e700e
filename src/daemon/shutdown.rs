//! The orderly end, in phases that share one deadline:
//!
//! ```text
//!  no more heartbeats, no more starts -> serve on until drained or [drain] timeout -> listener, workloads, NATS
//! ```
//!
//! Drained is: whoever placed workloads here has stopped them, stops have ended, and nothing is in flight. Messages are
//! taken on no more. Static workloads are not waited for: nobody would stop them. A second signal ends the process at once, whatever the phase.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use crate::daemon::sections::Shared;
use crate::daemon::signal::{Ending, Signals};

/// How often the counters are looked at: they have no way to wake anyone without a cost to every request.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// For the last messages of the control plane, after everything else is over.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

/// How the drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything ended, or was cut at the deadline.
    Drained,
    /// A second signal came.
    Interrupted(Ending),
}

pub(super) async fn drain(shared: &Shared, signals: &mut Signals) -> Ended {
    tokio::select! {
        () = drain_all(shared) => Ended::Drained,
        signal = signals.next() => {
            warn!(signal = signal.name(), "second signal: the drain is cut short");
            Ended::Interrupted(signal)
        }
    }
}

async fn drain_all(shared: &Shared) {
    let (http, control, timeout) = {
        let live = shared.live();
        (live.http.clone(), live.control.clone(), live.drain.timeout)
    };
    let deadline = Instant::now() + timeout;
    let Some(workloads) = shared.host().map(|host| host.workloads().clone()) else { return };
    workloads.begin_drain();
    if let Some(http) = &http {
        http.begin_drain();
    }
    if let Some(control) = &control {
        control.drain().await;
    }
    let drained = async {
        // Others of a queue group take over what plugins would deliver here.
        workloads.close_triggers(deadline).await;
        while workloads.placed() > 0 || workloads.in_flight() > 0 || workloads.stopping() > 0 {
            sleep(LOOK_EVERY).await;
        }
    };
    if timeout_at(deadline, drained).await.is_err() {
        let unfinished = workloads.placed().saturating_add(workloads.stopping());
        warn!(workloads = unfinished, in_flight = workloads.in_flight(), "not drained within drain.timeout");
    }
    let mut forced = 0;
    if let Some(http) = &http {
        forced += http.drain(deadline).await;
    }
    forced += workloads.end_all(deadline).await;
    if let Some(control) = &control {
        control.close(CLOSE_TIME_MAX).await;
    }
    let data = shared.live().data.take();
    if let Some(data) = data {
        data.close().await;
    }
    info!(forced, "washlet ends");
}
