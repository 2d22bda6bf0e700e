//! `wasmcloud:messaging@0.2.0` over whatever broker is live when a guest calls, and the call of a guest's handler.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use wasmtime::component::HasData;

use self::bindings::MessagingIndices;
use self::bindings::wasmcloud::messaging::types::BrokerMessage;
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
        path: "wit/messaging-0.2",
        world: "messaging",
        imports: { default: async | trappable },
        exports: { default: async },
    });
}

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
        f.write_str("handler@0.2.0")
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
            let Message { subject, body, reply_to } = message;
            let message = BrokerMessage { subject, body: body.into(), reply_to };
            Ok(guest.wasmcloud_messaging_handler().call_handle_message(store, &message).await?)
        }
        .boxed()
    }
}

impl Caller<'_> {
    fn messenger(&self) -> Result<Arc<Messenger>, BrokerError> {
        let unbound = || BrokerError::Other("wasmcloud:messaging is not bound to this component".to_owned());
        self.0.bindings.get::<Messenger>(ID).ok_or_else(unbound)
    }

    async fn send_request(&self, subject: String, body: Bytes, limit: Duration) -> Result<Message, BrokerError> {
        self.messenger()?.request(Message { subject, body, reply_to: None }, limit).await
    }

    async fn send(&self, message: BrokerMessage) -> Result<(), BrokerError> {
        let BrokerMessage { subject, body, reply_to } = message;
        self.messenger()?.publish(Message { subject, body: body.into(), reply_to }).await
    }
}

impl types::Host for Caller<'_> {}

impl consumer::Host for Caller<'_> {
    async fn request(
        &mut self,
        subject: String,
        body: Vec<u8>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<BrokerMessage, String>> {
        let limit = Duration::from_millis(timeout_ms.into());
        let reply = self.send_request(subject, body.into(), limit).await;
        Ok(reply
            .map(|Message { subject, body, reply_to }| BrokerMessage { subject, body: body.into(), reply_to })
            .map_err(|error| error.to_string()))
    }

    async fn publish(&mut self, msg: BrokerMessage) -> wasmtime::Result<Result<(), String>> {
        Ok(self.send(msg).await.map_err(|error| error.to_string()))
    }
}
