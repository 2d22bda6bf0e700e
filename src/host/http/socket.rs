//! A connection's socket, which tells its [`Activity`] what passes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::host::http::activity::Protocol;
use crate::host::http::connection::Connection;
use crate::host::http::refusal::HEAD_TIMEOUT;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client may send after its last response until the connection is closed under it.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// `S` is a TCP stream, or a TLS stream over one.
#[derive(Debug)]
pub(super) struct Socket<S> {
    stream: S,
    connection: Arc<Connection>,
    /// Bytes of the HTTP/2 preface seen so far.
    preface_seen: usize,
    lingered: usize,
}

impl<S> Socket<S> {
    pub(super) fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream, connection, preface_seen: 0, lingered: 0 }
    }

    fn recognise(&mut self, bytes: &[u8]) {
        let activity = &self.connection.activity;
        let rest = PREFACE.get(self.preface_seen..).unwrap_or_default();
        if bytes.starts_with(rest) {
            activity.is(Protocol::Http2);
        } else if rest.starts_with(bytes) {
            self.preface_seen += bytes.len();
        } else {
            activity.is(Protocol::Http1);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Tells the client why its connection ends, if it is listening: nothing of an earlier response may be left, and
    /// the few bytes fit into any empty socket.
    fn say_head_timeout(&mut self, cx: &mut Context<'_>) {
        let activity = &self.connection.activity;
        if activity.in_head() && !activity.is_blocked() && self.preface_seen == 0 {
            let _sent_or_given_up = Pin::new(&mut self.stream).poll_write(cx, HEAD_TIMEOUT);
        }
    }

    /// Throws away what still comes; ready when the client has closed, or has sent too much.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 4096];
        while self.lingered < LINGER_BYTES_MAX {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.lingered += buffer.filled().len(),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.connection.activity.is_expired() && this.connection.activity.in_head() {
            this.say_head_timeout(cx);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if !bytes.is_empty() {
            if this.connection.activity.protocol() == Protocol::Unknown {
                this.recognise(bytes);
            }
            this.connection.activity.received();
        } else if buffer.remaining() > 0 && this.connection.activity.half_closed() {
            // The end of the response, or of the wait for it, makes the connection read again.
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.connection.activity.wrote(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.connection.activity.wrote(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if self.connection.activity.should_linger() {
            self.connection.activity.linger();
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
