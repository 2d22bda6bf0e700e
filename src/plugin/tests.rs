//! Guests against the built-in plugins: small components that call through a real linker.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use wasmtime::component::{Component, Instance, Linker};
use wasmtime::{Engine, Store};

use super::*;
use crate::config::{ConfigPlugin, KeyvaluePlugin, LoggingPlugin, Plugins};
use crate::engine::ctx::Bindings;

fn plugins(allow_buckets: &[&str]) -> Plugins {
    let allow_buckets = allow_buckets.iter().map(|&rule| rule.to_owned()).collect();
    Plugins {
        wasi_config: Some(ConfigPlugin::default()),
        wasi_logging: Some(LoggingPlugin::default()),
        wasi_keyvalue: Some(KeyvaluePlugin { allow_buckets, ..KeyvaluePlugin::default() }),
        wasmcloud_messaging: None,
    }
}

fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn entry(text: &str, config: &[(&str, &str)]) -> WitInterface {
    WitInterface { config: settings(config), ..text.parse().unwrap() }
}

/// The bindings of one component, as a start makes them.
fn bind(set: &PluginSet, entries: &[WitInterface], local_resources: &LocalResources) -> Result<Bindings, BindError> {
    let request = BindRequest {
        workload_id: &WorkloadId::from("workload-id"),
        workload_name: "workload",
        workload_namespace: "default",
        component: &ComponentName::from("component"),
        entries,
        local_resources,
    };
    let mut bindings = Bindings::default();
    for plugin in set.plugins() {
        bindings.insert(plugin.id(), plugin.bind(&request)?);
    }
    Ok(bindings)
}

/// Links every import of `wat` and instantiates it.
async fn instantiate(set: &PluginSet, bindings: Bindings, wat: &str) -> (Store<SharedCtx>, Instance) {
    let engine = Engine::default();
    let component = Component::new(&engine, wat::parse_str(wat).unwrap()).unwrap();
    let mut linker: Linker<SharedCtx> = Linker::new(&engine);
    for (name, _) in component.component_type().imports(&engine) {
        let import: ImportName = name.parse().unwrap();
        let plugin = set.provider_of(&import).unwrap_or_else(|| panic!("nothing serves {import}"));
        plugin.link(&mut linker, &import).unwrap();
    }
    let mut store = Store::new(&engine, SharedCtx::for_test(bindings));
    let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
    (store, instance)
}

/// `count` opens the bucket `b` once, keeps it, and increments `n` by one. It returns the counter, or -1 for
/// `no-such-store`, -2 for `access-denied`, -3 for `other`.
const COUNTER: &str = r#"(component
  (import "wasi:keyvalue/store@0.2.0-draft" (instance $store
    (export "bucket" (type $bucket (sub resource)))
    (type $variant (variant (case "no-such-store") (case "access-denied") (case "other" string)))
    (export "error" (type $error (eq $variant)))
    (type $record (record (field "keys" (list string)) (field "cursor" (option u64))))
    (export "key-response" (type $page (eq $record)))
    (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $error)))))
    (export "[method]bucket.get" (func (param "self" (borrow $bucket)) (param "key" string)
      (result (result (option (list u8)) (error $error)))))
    (export "[method]bucket.set" (func (param "self" (borrow $bucket)) (param "key" string)
      (param "value" (list u8)) (result (result (error $error)))))
    (export "[method]bucket.delete" (func (param "self" (borrow $bucket)) (param "key" string)
      (result (result (error $error)))))
    (export "[method]bucket.exists" (func (param "self" (borrow $bucket)) (param "key" string)
      (result (result bool (error $error)))))
    (export "[method]bucket.list-keys" (func (param "self" (borrow $bucket)) (param "cursor" (option u64))
      (result (result $page (error $error)))))))
  (alias export $store "bucket" (type $bucket))
  (alias export $store "error" (type $error))
  (import "wasi:keyvalue/atomics@0.2.0-draft" (instance $atomics
    (alias outer 1 $bucket (type $b))
    (export "bucket" (type $bucket (eq $b)))
    (alias outer 1 $error (type $e))
    (export "error" (type $error (eq $e)))
    (export "increment" (func (param "bucket" (borrow $bucket)) (param "key" string) (param "delta" u64)
      (result (result u64 (error $error)))))))
  (import "wasi:keyvalue/batch@0.2.0-draft" (instance $batch
    (alias outer 1 $bucket (type $b))
    (export "bucket" (type $bucket (eq $b)))
    (alias outer 1 $error (type $e))
    (export "error" (type $error (eq $e)))
    (export "get-many" (func (param "bucket" (borrow $bucket)) (param "keys" (list string))
      (result (result (list (option (tuple string (list u8)))) (error $error)))))
    (export "set-many" (func (param "bucket" (borrow $bucket)) (param "key-values" (list (tuple string (list u8))))
      (result (result (error $error)))))
    (export "delete-many" (func (param "bucket" (borrow $bucket)) (param "keys" (list string))
      (result (result (error $error)))))))
  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 0) "bn")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $memory (instantiate $memory))
  (core func $open (canon lower (func $store "open")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $increment (canon lower (func $atomics "increment")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $main
    (import "host" "memory" (memory 1))
    (import "host" "open" (func $open (param i32 i32 i32)))
    (import "host" "increment" (func $increment (param i32 i32 i32 i64 i32)))
    (global $handle (mut i32) (i32.const 0))
    (func $failure (param $at i32) (result i64)
      (i64.sub (i64.const -1) (i64.load8_u (local.get $at))))
    (func (export "count") (result i64)
      (if (i32.eqz (global.get $handle)) (then
        (call $open (i32.const 0) (i32.const 1) (i32.const 64))
        (if (i32.load8_u (i32.const 64)) (then (return (call $failure (i32.const 68)))))
        (global.set $handle (i32.load (i32.const 68)))))
      (call $increment (global.get $handle) (i32.const 1) (i32.const 1) (i64.const 1) (i32.const 128))
      (if (i32.load8_u (i32.const 128)) (then (return (call $failure (i32.const 136)))))
      (i64.load (i32.const 136))))
  (core instance $main (instantiate $main (with "host" (instance
    (export "memory" (memory $memory "memory"))
    (export "open" (func $open))
    (export "increment" (func $increment))))))
  (func (export "count") (result s64) (canon lift (core func $main "count"))))"#;

async fn count(store: &mut Store<SharedCtx>, instance: Instance) -> i64 {
    let function = instance.get_typed_func::<(), (i64,)>(&mut *store, "count").unwrap();
    function.call_async(store, ()).await.unwrap().0
}

#[tokio::test]
async fn a_bucket_that_a_guest_holds_lives_through_a_reload_and_keeps_its_values() {
    let (first, _change) = PluginSet::build(&plugins(&["*"]), &Means::default(), None);
    let bindings = bind(&first, &[], &LocalResources::default()).unwrap();
    let (mut store, instance) = instantiate(&first, bindings, COUNTER).await;
    assert_eq!(count(&mut store, instance).await, 1);

    let (denying, change) = PluginSet::build(&plugins(&["a", "other-*"]), &Means::default(), Some(&first));
    assert_eq!(count(&mut store, instance).await, 2, "prepared is not live");
    drop(change.commit());
    assert_eq!(count(&mut store, instance).await, -2, "access is checked at each call");

    let (_allowing, change) = PluginSet::build(&plugins(&["a", "b*"]), &Means::default(), Some(&denying));
    drop(change.commit());
    assert_eq!(count(&mut store, instance).await, 3);
}

#[tokio::test]
async fn components_of_a_workload_share_its_values_and_the_entry_restricts_its_buckets() {
    let (set, _change) = PluginSet::build(&plugins(&["*"]), &Means::default(), None);
    let allowed = [entry("wasi:keyvalue/store", &[("buckets", "a, b ,"), ("backend", "in-memory")])];
    let denied = [entry("wasi:keyvalue/store", &[("buckets", "a")])];
    let local = LocalResources::default();
    let bindings = bind(&set, &allowed, &local).unwrap();
    let (mut store, instance) = instantiate(&set, bindings, COUNTER).await;
    assert_eq!(count(&mut store, instance).await, 1);
    let (mut second, instance) = instantiate(&set, bind(&set, &allowed, &local).unwrap(), COUNTER).await;
    assert_eq!(count(&mut second, instance).await, 2);
    let (mut third, instance) = instantiate(&set, bind(&set, &denied, &local).unwrap(), COUNTER).await;
    assert_eq!(count(&mut third, instance).await, -2);
}

#[test]
fn an_unknown_backend_of_an_entry_fails_the_bind() {
    let (set, _change) = PluginSet::build(&plugins(&["*"]), &Means::default(), None);
    let unknown = entry("wasi:keyvalue/store", &[("backend", "tape")]);
    let error = bind(&set, std::slice::from_ref(&unknown), &LocalResources::default()).unwrap_err();
    assert_eq!(error.to_string(), "no wasi:keyvalue provider registered for backend 'tape'");
    let labelled = WitInterface { name: Some("team-a".to_owned()), ..unknown };
    assert!(bind(&set, &[labelled], &LocalResources::default()).is_ok(), "a plain import ignores labelled entries");
}

/// `all` hands on what `get-all` returns.
const READER: &str = r#"(component
  (import "wasi:config/store@0.2.0-rc.1" (instance $store
    (type $variant (variant (case "upstream" string) (case "io" string)))
    (export "error" (type $error (eq $variant)))
    (export "get" (func (param "key" string) (result (result (option string) (error $error)))))
    (export "get-all" (func (result (result (list (tuple string string)) (error $error)))))))
  (core module $memory
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get $size)))
      (local.get $at)))
  (core instance $memory (instantiate $memory))
  (core func $get-all (canon lower (func $store "get-all")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $main
    (import "host" "memory" (memory 1))
    (import "host" "get-all" (func $get-all (param i32)))
    (func (export "all") (result i32)
      (call $get-all (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then unreachable))
      (i32.const 68)))
  (core instance $main (instantiate $main (with "host" (instance
    (export "memory" (memory $memory "memory"))
    (export "get-all" (func $get-all))))))
  (func (export "all") (result (list (tuple string string)))
    (canon lift (core func $main "all") (memory (core memory $memory "memory")))))"#;

#[tokio::test]
async fn a_component_reads_entries_then_its_config_then_its_environment() {
    let (set, _change) = PluginSet::build(&plugins(&["*"]), &Means::default(), None);
    let entries = [entry("wasi:config/store", &[("a", "entry"), ("b", "entry"), ("c", "entry")])];
    let local = LocalResources {
        config: settings(&[("b", "config"), ("c", "config")]),
        environment: settings(&[("c", "environment"), ("PATH", "/")]),
        ..LocalResources::default()
    };
    let (mut store, instance) = instantiate(&set, bind(&set, &entries, &local).unwrap(), READER).await;
    let all = instance.get_typed_func::<(), (Vec<(String, String)>,)>(&mut store, "all").unwrap();
    let expected = settings(&[("PATH", "/"), ("a", "entry"), ("b", "config"), ("c", "environment")]);
    assert_eq!(all.call_async(&mut store, ()).await.unwrap().0, Vec::from_iter(expected));
}

/// `log` hands its arguments on; the interface has a version that nobody published.
const LOGGER: &str = r#"(component
  (type $cases (enum "trace" "debug" "info" "warn" "error" "critical"))
  (import "wasi:logging/logging@0.9.9" (instance $logging
    (type $cases (enum "trace" "debug" "info" "warn" "error" "critical"))
    (export "level" (type $level (eq $cases)))
    (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
  (core module $memory
    (memory (export "memory") 4)
    (global $free (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (global.get $free)
      (global.set $free (i32.add (global.get $free) (local.get $size)))))
  (core instance $memory (instantiate $memory))
  (core func $log (canon lower (func $logging "log") (memory (core memory $memory "memory"))))
  (core module $main
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
    (func (export "log") (param i32 i32 i32 i32 i32)
      (call $log (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4))))
  (core instance $main (instantiate $main (with "host" (instance (export "log" (func $log))))))
  (func (export "log") (param "level" u8) (param "context" string) (param "message" string)
    (canon lift (core func $main "log") (memory (core memory $memory "memory"))
      (realloc (core func $memory "realloc")))))"#;

/// Keeps what is said to target `guest` as `LEVEL message field=value ..`.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "guest" && *metadata.level() <= tracing::Level::DEBUG
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[tokio::test]
async fn a_guest_message_is_one_event_with_its_text_as_a_field() {
    let (set, _change) = PluginSet::build(&plugins(&["*"]), &Means::default(), None);
    let bindings = bind(&set, &[], &LocalResources::default()).unwrap();
    let (mut store, instance) = instantiate(&set, bindings, LOGGER).await;
    let log = instance.get_typed_func::<(u8, &str, &str), ()>(&mut store, "log").unwrap();
    let long = format!("a{}", "ä".repeat(40_000));

    let listener = Listener::default();
    let guard = tracing::subscriber::set_default(listener.clone());
    for (level, message) in [(0, "quiet"), (2, "two\nlines"), (5, "the end"), (3, long.as_str())] {
        log.call_async(&mut store, (level, "here", message)).await.unwrap();
    }
    drop(guard);

    let lines = listener.0.lock().unwrap();
    let who =
        r#"workload.id="workload-id" workload.name="workload" workload.namespace="default" component="component""#;
    assert_eq!(lines[0], format!(r#"INFO message=guest log {who} context="here" text="two\nlines""#));
    assert_eq!(lines[1], format!(r#"ERROR message=guest log {who} context="here" critical=true text="the end""#));
    let (_, text) = lines[2].split_once(" text=").unwrap();
    assert_eq!(text.len() - 2, (64 << 10) - 1, "cut at 64 KiB, before the character that does not fit");
    assert_eq!(lines.len(), 3, "what is filtered out is no event");
}
