//! `wasi:config/store` over the settings of the calling component.

use wasmtime::component::HasData;

use self::bindings::wasi::config::store;
use super::{ID, Settings};
use crate::engine::ctx::{ItemCtx, SharedCtx};
use crate::plugin::GuestLinker;

mod bindings {
    wasmtime::component::bindgen!({ path: "wit/config", world: "imports" });
}

/// The calling component.
struct Caller<'a>(&'a ItemCtx);

struct HasCaller;

impl HasData for HasCaller {
    type Data<'a> = Caller<'a>;
}

pub(super) fn link(linker: &mut GuestLinker) -> wasmtime::Result<()> {
    store::add_to_linker::<SharedCtx, HasCaller>(linker, |ctx| Caller(&ctx.item))
}

impl store::Host for Caller<'_> {
    fn get(&mut self, key: String) -> Result<Option<String>, store::Error> {
        Ok(self.0.bindings.get::<Settings>(ID).and_then(|settings| settings.0.get(&key).cloned()))
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, store::Error> {
        let settings = self.0.bindings.get::<Settings>(ID).unwrap_or_default();
        Ok(settings.0.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::store::Host as _;
    use super::*;
    use crate::engine::ctx::Bindings;

    #[test]
    fn a_missing_key_is_none_and_so_is_every_key_without_a_binding() {
        let mut bindings = Bindings::default();
        bindings.insert(ID, Arc::new(Settings([("key".to_owned(), String::new())].into())));
        let bound = SharedCtx::for_test(bindings);
        assert_eq!(Caller(&bound.item).get("key".to_owned()).unwrap().as_deref(), Some(""));
        assert_eq!(Caller(&bound.item).get("other".to_owned()).unwrap(), None);

        let unbound = SharedCtx::for_test(Bindings::default());
        assert_eq!(Caller(&unbound.item).get("key".to_owned()).unwrap(), None);
        assert!(Caller(&unbound.item).get_all().unwrap().is_empty());
    }
}
