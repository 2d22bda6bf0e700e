//! A network between a host and its NATS that can be cut.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on, while it is not cut. Dropped, it is gone with all its connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    is_open: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Passes on to `port` of this machine.
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("a bound socket").port();
        let (is_open, open_rx) = watch::channel(true);
        let task = tokio::spawn(accept(listener, port, open_rx));
        Self { port: own, is_open, task }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Breaks all connections, and each one that is tried from now on.
    pub(crate) fn cut(&self) {
        self.is_open.send_replace(false);
    }

    /// Passes on again.
    pub(crate) fn mend(&self) {
        self.is_open.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, port: u16, open_rx: watch::Receiver<bool>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut near, _peer)) = listener.accept().await {
        let mut is_open = open_rx.clone();
        connections.spawn(async move {
            if !*is_open.borrow_and_update() {
                return;
            }
            let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            tokio::select! {
                _ended = copy_bidirectional(&mut near, &mut far) => {}
                _cut = is_open.wait_for(|is_open| !*is_open) => {}
            }
        });
    }
}
