//! One connection, from accept to close: hyper drives it, a single timer watches it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

use crate::host::http::activity::{Activity, FAREWELL, Protocol};
use crate::host::http::serve;
use crate::host::http::settings::Settings;
use crate::host::http::shared::{Phase, Shared};
use crate::host::http::socket::Socket;

/// All that a request needs to know of its connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    /// As they were when the connection was accepted.
    pub(super) settings: Arc<Settings>,
    pub(super) activity: Activity,
}

/// Serves `stream` until it is closed, cut, or has been idle for too long.
pub(super) async fn run<S>(stream: S, shared: Arc<Shared>, settings: Arc<Settings>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new(settings.http.header_read_timeout);
    let accepted = Instant::now();
    let connection = Arc::new(Connection { shared: Arc::clone(&shared), settings: Arc::clone(&settings), activity });
    let socket = TokioIo::new(Socket::new(stream, Arc::clone(&connection)));
    let service = service_fn(|request| serve::handle(Arc::clone(&connection), request));
    let mut hyper = pin!(settings.protocols.serve_connection(socket, service));

    let mut sleep = pin!(sleep_until(accepted));
    let mut is_armed = false;
    let mut changed = pin!(shared.changed());
    let mut is_registered = false;
    let mut phase = Phase::Serving;
    let mut said_goodbye = false;

    let ended = poll_fn(|cx| {
        loop {
            // Registered once and polled again only after a change: polling it takes a lock that all share. The
            // task's waker is the same for all its life. A phase is stored before it is told of, so that the telling
            // may use up a registration for the next phase: from the first change on, each turn looks.
            if !is_registered || phase != Phase::Serving {
                is_registered = changed.as_mut().poll(cx).is_pending();
            }
            if phase != shared.phase() || !is_registered {
                phase = shared.phase();
                changed.set(shared.changed());
                is_registered = false;
                continue;
            }
            if phase == Phase::Cut {
                return Poll::Ready(Ok(()));
            }
            let is_draining = phase == Phase::Draining;
            let activity = &connection.activity;
            let owes_goodbye = is_draining && !said_goodbye && activity.protocol() == Protocol::Http2;
            if owes_goodbye && (activity.has_served() || accepted.elapsed() >= FAREWELL) {
                said_goodbye = true;
                hyper.as_mut().graceful_shutdown();
            }
            if let Poll::Ready(result) = hyper.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            let limit = activity.limit(is_draining);
            let due = if owes_goodbye && !said_goodbye { Some(accepted + FAREWELL) } else { limit };
            match poll_watch(sleep.as_mut(), &mut is_armed, due, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if due != limit => {}
                // Told once, hyper ends the connection or cancels the call; then it is only waited for.
                Poll::Ready(()) if activity.can_be_told() => activity.expire(),
                Poll::Ready(()) => return Poll::Ready(Ok(())),
            }
        }
    })
    .await;
    if let Err(error) = ended {
        debug!(%error, "connection ended early");
    }
}

/// Ready when `due` is over. The timer is moved only when it would fire too late, or has fired: not at every request.
fn poll_watch(mut sleep: Pin<&mut Sleep>, is_armed: &mut bool, due: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        if let Some(due) = due
            && (!*is_armed || due < sleep.deadline())
        {
            sleep.as_mut().reset(due);
            *is_armed = true;
        }
        if !*is_armed || sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        *is_armed = false;
        if due.is_some_and(|due| due <= Instant::now()) {
            return Poll::Ready(());
        }
    }
}
