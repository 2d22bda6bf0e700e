//! `wasi:keyvalue@0.2.0-draft` over whatever backend is live when a guest calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wasmtime::component::{HasData, Resource, ResourceTable, ResourceTableError};

use self::bindings::wasi::keyvalue::{atomics, batch, store};
use super::backend::{Answer, Bucket, StoreError};
use super::{ID, KeyvalueBinding, Lease};
use crate::engine::ctx::{ItemCtx, SharedCtx};
use crate::plugin::GuestLinker;
use crate::wit::ImportName;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/keyvalue",
        world: "imports",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::OpenBucket },
        trappable_error_type: { "wasi:keyvalue/store.error" => super::CallError },
    });
}

/// One operation of a backend may take so long; then it fails, and the guest goes on.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Names of buckets are kept with each handle, so a guest may not make them as long as it likes. 1 KiB: no backend
/// takes a longer one.
const BUCKET_NAME_BYTES_MAX: usize = 1 << 10;

/// A guest's handle: how the bucket was opened, nothing of the backend, which may be another one at the next call.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated code re-exports it")]
pub struct OpenBucket {
    binding: Arc<KeyvalueBinding>,
    bucket: Bucket,
}

/// Why a host function fails.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated code re-exports it")]
pub enum CallError {
    /// The guest gets the interface's own error.
    Store(StoreError),
    /// The guest used a handle that it does not have: a trap.
    Handle(ResourceTableError),
}

impl From<StoreError> for CallError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ResourceTableError> for CallError {
    fn from(error: ResourceTableError) -> Self {
        Self::Handle(error)
    }
}

/// The calling component and its handles.
struct Caller<'a> {
    table: &'a mut ResourceTable,
    item: &'a ItemCtx,
}

struct HasCaller;

impl HasData for HasCaller {
    type Data<'a> = Caller<'a>;
}

fn caller(ctx: &mut SharedCtx) -> Caller<'_> {
    Caller { table: &mut ctx.table, item: &ctx.item }
}

/// Adds one interface of the package.
pub(super) fn link(linker: &mut GuestLinker, import: &ImportName) -> wasmtime::Result<()> {
    match import.interface.as_str() {
        "store" => store::add_to_linker::<SharedCtx, HasCaller>(linker, caller),
        "atomics" => atomics::add_to_linker::<SharedCtx, HasCaller>(linker, caller),
        "batch" => batch::add_to_linker::<SharedCtx, HasCaller>(linker, caller),
        other => Err(wasmtime::format_err!("wasi:keyvalue has no interface {other}")),
    }
}

impl Caller<'_> {
    /// The bucket behind a handle, and what to use for this one call.
    fn access(&self, handle: &Resource<OpenBucket>) -> Result<(Lease, &Bucket), CallError> {
        let OpenBucket { binding, bucket } = self.table.get(handle)?;
        Ok((binding.access(bucket)?, bucket))
    }
}

/// Waits for a backend, but not for ever, and not past the time that a replaced one has to finish.
async fn limited<T>(access: &Lease, answer: Answer<'_, T>) -> Result<T, CallError> {
    let failed = |text: String| Err(StoreError::Other(text).into());
    tokio::select! {
        biased;
        result = tokio::time::timeout(OPERATION_TIMEOUT, answer) => match result {
            Ok(result) => Ok(result?),
            Err(_elapsed) => failed(format!("no answer within {OPERATION_TIMEOUT:?}")),
        },
        () = access.cut() => failed("the store was replaced by another one while the call was under way".to_owned()),
    }
}

impl store::Host for Caller<'_> {
    async fn open(&mut self, identifier: String) -> Result<Resource<OpenBucket>, CallError> {
        let unbound = || StoreError::Other("wasi:keyvalue is not bound to this component".to_owned());
        let binding = self.item.bindings.get::<KeyvalueBinding>(ID).ok_or_else(unbound)?;
        if identifier.len() > BUCKET_NAME_BYTES_MAX {
            let message = format!("the name of a bucket has at most {BUCKET_NAME_BYTES_MAX} bytes");
            return Err(StoreError::Other(message).into());
        }
        let bucket = binding.bucket(identifier);
        let access = binding.access(&bucket)?;
        limited(&access, access.store().open(&bucket)).await?;
        Ok(self.table.push(OpenBucket { binding, bucket })?)
    }

    fn convert_error(&mut self, error: CallError) -> wasmtime::Result<store::Error> {
        match error {
            CallError::Store(StoreError::NoSuchStore) => Ok(store::Error::NoSuchStore),
            CallError::Store(StoreError::AccessDenied) => Ok(store::Error::AccessDenied),
            CallError::Store(StoreError::Other(text)) => Ok(store::Error::Other(text)),
            CallError::Handle(error) => Err(error.into()),
        }
    }
}

impl store::HostBucket for Caller<'_> {
    async fn get(&mut self, handle: Resource<OpenBucket>, key: String) -> Result<Option<Vec<u8>>, CallError> {
        let (access, bucket) = self.access(&handle)?;
        Ok(limited(&access, access.store().get(bucket, &key)).await?.map(Vec::from))
    }

    async fn set(&mut self, handle: Resource<OpenBucket>, key: String, value: Vec<u8>) -> Result<(), CallError> {
        let (access, bucket) = self.access(&handle)?;
        limited(&access, access.store().set(bucket, &key, Bytes::from(value))).await
    }

    async fn delete(&mut self, handle: Resource<OpenBucket>, key: String) -> Result<(), CallError> {
        let (access, bucket) = self.access(&handle)?;
        limited(&access, access.store().delete(bucket, &key)).await
    }

    async fn exists(&mut self, handle: Resource<OpenBucket>, key: String) -> Result<bool, CallError> {
        let (access, bucket) = self.access(&handle)?;
        limited(&access, access.store().exists(bucket, &key)).await
    }

    async fn list_keys(
        &mut self,
        handle: Resource<OpenBucket>,
        cursor: Option<u64>,
    ) -> Result<store::KeyResponse, CallError> {
        let (access, bucket) = self.access(&handle)?;
        let page = limited(&access, access.store().list(bucket, cursor.unwrap_or(0))).await?;
        Ok(store::KeyResponse { keys: page.keys, cursor: page.next })
    }

    async fn drop(&mut self, handle: Resource<OpenBucket>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl atomics::Host for Caller<'_> {
    async fn increment(&mut self, handle: Resource<OpenBucket>, key: String, delta: u64) -> Result<u64, CallError> {
        let (access, bucket) = self.access(&handle)?;
        limited(&access, Arc::clone(access.store()).increment(bucket, &key, delta)).await
    }
}

impl batch::Host for Caller<'_> {
    async fn get_many(
        &mut self,
        handle: Resource<OpenBucket>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, CallError> {
        let (access, bucket) = self.access(&handle)?;
        let values = limited(&access, access.store().get_many(bucket, &keys)).await?;
        Ok(keys.into_iter().zip(values).map(|(key, value)| value.map(|value| (key, Vec::from(value)))).collect())
    }

    async fn set_many(&mut self, handle: Resource<OpenBucket>, pairs: Vec<(String, Vec<u8>)>) -> Result<(), CallError> {
        let (access, bucket) = self.access(&handle)?;
        let pairs = pairs.into_iter().map(|(key, value)| (key, Bytes::from(value))).collect();
        limited(&access, access.store().set_many(bucket, pairs)).await
    }

    async fn delete_many(&mut self, handle: Resource<OpenBucket>, keys: Vec<String>) -> Result<(), CallError> {
        let (access, bucket) = self.access(&handle)?;
        limited(&access, access.store().delete_many(bucket, &keys)).await
    }
}
