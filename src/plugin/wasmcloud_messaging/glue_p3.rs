//! `wasmcloud:messaging@0.3.0`, in which bodies are streams, over whatever broker is live when a guest calls.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, HasData, Source, StreamConsumer, StreamReader, StreamResult};

use self::bindings::MessagingIndices;
use self::bindings::exports::wasmcloud::messaging::handler::HandleMessageError;
use self::bindings::wasmcloud::messaging::types::{BrokerMessage, Error};
use self::bindings::wasmcloud::messaging::{consumer, types};
use super::ID;
use super::broker::{BrokerError, Message};
use super::inbox::Handler;
use super::messenger::Messenger;
use crate::engine::ctx::{ItemCtx, SharedCtx};
use crate::plugin::guest::{GuestAnswer, GuestJob};
use crate::plugin::{GuestInstance, GuestLinker, GuestPre, GuestStore};
use crate::wit::ImportName;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/messaging-0.3",
        world: "messaging",
        imports: { "wasmcloud:messaging/consumer": async | store | trappable, default: trappable },
        exports: { default: async | store },
        require_store_data_send: true,
    });
}

/// A body is collected before it is sent: no broker takes a larger message.
const BODY_BYTES_MAX: usize = 16 << 20;

/// How long a reply is waited for if the guest does not say.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The component that calls.
struct Caller<'a>(&'a ItemCtx);

struct HasCaller;

impl HasData for HasCaller {
    type Data<'a> = Caller<'a>;
}

fn caller(ctx: &mut SharedCtx) -> Caller<'_> {
    Caller(&ctx.item)
}

/// Adds one interface of the package.
pub(super) fn link(linker: &mut GuestLinker, import: &ImportName) -> wasmtime::Result<()> {
    match import.interface.as_str() {
        "types" => types::add_to_linker::<SharedCtx, HasCaller>(linker, caller),
        "consumer" => consumer::add_to_linker::<SharedCtx, HasCaller>(linker, caller),
        other => Err(wasmtime::format_err!("wasmcloud:messaging has no interface {other}")),
    }
}

/// What calls the handler of `pre`; an error if it is of another shape.
pub(super) fn handler(pre: &GuestPre) -> anyhow::Result<Arc<dyn Handler>> {
    Ok(Arc::new(ExportedHandler(MessagingIndices::new(pre)?)))
}

struct ExportedHandler(MessagingIndices);

impl std::fmt::Debug for ExportedHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("handler@0.3.0")
    }
}

struct HandleMessage {
    indices: MessagingIndices,
    message: Message,
}

impl Handler for ExportedHandler {
    fn job(&self, message: Message) -> Box<dyn GuestJob> {
        Box::new(HandleMessage { indices: self.0.clone(), message })
    }
}

impl GuestJob for HandleMessage {
    fn run<'a>(
        self: Box<Self>,
        store: &'a mut GuestStore,
        instance: &'a GuestInstance,
    ) -> BoxFuture<'a, anyhow::Result<GuestAnswer>> {
        let Self { indices, message } = *self;
        async move {
            let guest = indices.load(&mut *store, instance)?;
            let answer = store
                .run_concurrent(async |accessor| -> wasmtime::Result<GuestAnswer> {
                    let Message { subject, body, reply_to } = message;
                    let body = accessor.with(|mut store| StreamReader::new(&mut store, body))?;
                    let message = BrokerMessage { subject, body, reply_to };
                    let answer = guest.wasmcloud_messaging_handler().call_handle_message(accessor, message).await?;
                    // What it has spawned goes on behind its answer.
                    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                    Ok(answer.map_err(refusal))
                })
                .await??;
            Ok(answer)
        }
        .boxed()
    }
}

fn refusal(error: HandleMessageError) -> String {
    match error {
        HandleMessageError::Reject => "reject".to_owned(),
        HandleMessageError::Retry => "retry".to_owned(),
        HandleMessageError::Other(text) => text,
    }
}

impl From<BrokerError> for Error {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::SubjectInvalid(_) => Self::SubjectInvalid,
            BrokerError::AccessDenied(_) => Self::AccessDenied,
            BrokerError::Timeout(_) => Self::Timeout,
            BrokerError::Unavailable => Self::BrokerUnavailable,
            BrokerError::TooLarge { .. } => Self::MessageTooLarge,
            BrokerError::QueueFull => Self::QuotaExceeded,
            BrokerError::Request(_) | BrokerError::Other(_) => Self::Other(error.to_string()),
        }
    }
}

/// Collects a body, and hands it over when it is whole.
struct Body {
    bytes: BytesMut,
    whole: Option<oneshot::Sender<Result<Bytes, BrokerError>>>,
}

impl Body {
    fn end(&mut self, body: Result<Bytes, BrokerError>) {
        if let Some(whole) = self.whole.take() {
            // Nobody waits any more when the call was given up.
            let _given_up = whole.send(body);
        }
    }
}

impl<D> StreamConsumer<D> for Body {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        let piece = source.remaining();
        let (bytes, bytes_max) = (self.bytes.len().saturating_add(piece.len()), BODY_BYTES_MAX);
        if bytes > bytes_max {
            self.end(Err(BrokerError::TooLarge { bytes, bytes_max }));
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        self.bytes.extend_from_slice(piece);
        let read = piece.len();
        source.mark_read(read);
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// The writer has dropped its end: what came is all.
impl Drop for Body {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes).freeze();
        self.end(Ok(bytes));
    }
}

/// Who calls, and the body that it sends.
async fn received<U: Send>(
    accessor: &Accessor<U, HasCaller>,
    body: StreamReader<u8>,
) -> wasmtime::Result<(Option<Arc<Messenger>>, Result<Bytes, BrokerError>)> {
    let (whole, is_whole) = oneshot::channel();
    let messenger = accessor.with(|mut access| {
        let messenger = access.get().0.bindings.get::<Messenger>(ID);
        body.pipe(&mut access, Body { bytes: BytesMut::new(), whole: Some(whole) })?;
        wasmtime::error::Ok(messenger)
    })?;
    let body = is_whole.await.unwrap_or_else(|_dropped| Err(BrokerError::Other("the body ended in error".to_owned())));
    Ok((messenger, body))
}

fn unbound() -> BrokerError {
    BrokerError::Other("wasmcloud:messaging is not bound to this component".to_owned())
}

impl types::Host for Caller<'_> {}
impl consumer::Host for Caller<'_> {}

impl<U: Send> consumer::HostWithStore<U> for HasCaller {
    async fn request(
        accessor: &Accessor<U, Self>,
        subject: String,
        body: StreamReader<u8>,
        timeout_ms: Option<u32>,
    ) -> wasmtime::Result<Result<BrokerMessage, Error>> {
        let (messenger, body) = received(accessor, body).await?;
        let limit = timeout_ms.map_or(REQUEST_TIMEOUT, |ms| Duration::from_millis(ms.into()));
        let reply = async {
            messenger.ok_or_else(unbound)?.request(Message { subject, body: body?, reply_to: None }, limit).await
        };
        match reply.await {
            Ok(Message { subject, body, reply_to }) => {
                let body = accessor.with(|mut access| StreamReader::new(&mut access, body))?;
                Ok(Ok(BrokerMessage { subject, body, reply_to }))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn publish(accessor: &Accessor<U, Self>, msg: BrokerMessage) -> wasmtime::Result<Result<(), Error>> {
        let BrokerMessage { subject, body, reply_to } = msg;
        let (messenger, body) = received(accessor, body).await?;
        let sent = async { messenger.ok_or_else(unbound)?.publish(Message { subject, body: body?, reply_to }).await };
        Ok(sent.await.map_err(Error::from))
    }
}
