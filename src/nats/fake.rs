//! A NATS server for tests that need a connection and no messages: it greets, and answers each PING.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::task::spawn;

/// Ends with its connections when it is dropped.
pub(crate) struct FakeNats {
    address: SocketAddr,
    /// The other ends of the open connections.
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    _accepting: AbortOnDropHandle<Option<()>>,
}

/// One connection, for as long as it is open.
struct Peer(SocketAddr, Arc<Mutex<Vec<SocketAddr>>>);

impl FakeNats {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peers = Arc::<Mutex<Vec<SocketAddr>>>::default();
        let accepted = Arc::clone(&peers);
        let accepting = spawn("fake nats", async move {
            let mut connections = Vec::new();
            while let Ok((stream, peer)) = listener.accept().await {
                accepted.lock().unwrap().push(peer);
                let peer = Peer(peer, Arc::clone(&accepted));
                connections.push(AbortOnDropHandle::new(spawn("fake nats connection", serve(stream, peer))));
            }
        });
        Self { address, peers, _accepting: AbortOnDropHandle::new(accepting) }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Who is connected.
    pub(crate) fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().unwrap().clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.1.lock().unwrap().retain(|other| *other != self.0);
    }
}

async fn serve(stream: TcpStream, _peer: Peer) {
    let (read, mut write) = stream.into_split();
    let info =
        "INFO {\"server_id\":\"fake\",\"version\":\"2.12.0\",\"max_payload\":1048576,\"headers\":true,\"proto\":1}\r\n";
    let mut lines = BufReader::new(read).lines();
    let mut answer = write.write_all(info.as_bytes()).await;
    while let (Ok(()), Ok(Some(line))) = (&answer, lines.next_line().await) {
        // What is published is JSON, which no line of the protocol begins like.
        if line == "PING" {
            answer = write.write_all(b"PONG\r\n").await;
        }
    }
}
