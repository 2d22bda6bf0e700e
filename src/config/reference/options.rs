//! The table of all options of the reference host.

use super::Takes::{Switch, Value, Values};
use super::{Form, Meaning, ReferenceOption, Takes};

const NO_HOST_PLUGINS: &str = "host plugins that are components are not implemented yet";
const NO_TOTAL: &str = "no effect yet: guests are held to limits.memory, each for itself";
const POOLING: &[(&str, &str)] =
    &[("1", "on"), ("true", "on"), ("yes", "on"), ("0", "off"), ("false", "off"), ("no", "off")];

/// All options, in the order of the help.
pub static OPTIONS: &[ReferenceOption] = &[
    // The process
    key("--log-level", Value("LEVEL"), "log.level", "Level or directives of the log").short('l').common(),
    nothing("--output", Value("FORMAT"), "Accepted, no effect").short('o'),
    nothing("--verbose", Switch, "Accepted, no effect: see --log-level"),
    nothing("--non-interactive", Switch, "Accepted, no effect: a host asks nothing"),
    nothing("--help-markdown", Switch, "Accepted, no effect: see --help"),
    nothing("-C", Value("DIR"), "Accepted, no effect"),
    nothing("--enable-meters", Switch, "Accepted, no effect: metrics are always on"),
    missing("--user-config", Value("FILE"), NO_HOST_PLUGINS, "Not implemented yet, refused: settings of host plugins"),
    // Who the host is
    key("--host-group", Value("GROUP"), "host.group", "Label by which the operator picks hosts").common(),
    key("--host-name", Value("ADDRESS"), "host.advertise_address", "Address under which others reach this host")
        .common(),
    key("--environment", Value("NAME"), "host.environment", "Environment named in heartbeats")
        .variables(&["WASMCLOUD_HOST_ENVIRONMENT"])
        .common(),
    // The control plane
    key("--scheduler-nats-url", Value("URLS"), "nats.scheduler.urls", "NATS servers of the control plane")
        .form(Form::List)
        .common(),
    key(
        "--scheduler-nats-tls-ca",
        Value("FILE"),
        "nats.scheduler.tls.ca",
        "Authorities that may sign the servers' certificates",
    ),
    key(
        "--scheduler-nats-tls-cert",
        Value("FILE"),
        "nats.scheduler.tls.cert",
        "Client certificate for the control plane",
    ),
    key("--scheduler-nats-tls-key", Value("FILE"), "nats.scheduler.tls.key", "Key of that certificate"),
    key("--scheduler-nats-tls-first", Switch, "nats.scheduler.tls.first", "TLS handshake before the server speaks"),
    key("--max-concurrent-starts", Value("N"), "nats.scheduler.starts_in_flight_max", "Starts worked on at once")
        .variables(&["WASH_MAX_CONCURRENT_STARTS"]),
    // The data plane
    key("--data-nats-url", Value("URLS"), "nats.data.urls", "NATS servers of the data plane")
        .form(Form::List)
        .may_wait(),
    key("--data-nats-tls-ca", Value("FILE"), "nats.data.tls.ca", "Authorities that may sign the servers' certificates")
        .may_wait(),
    key("--data-nats-tls-cert", Value("FILE"), "nats.data.tls.cert", "Client certificate for the data plane")
        .may_wait(),
    key("--data-nats-tls-key", Value("FILE"), "nats.data.tls.key", "Key of that certificate").may_wait(),
    key("--data-nats-tls-first", Switch, "nats.data.tls.first", "TLS handshake before the server speaks").may_wait(),
    nothing("--nats-connect-timeout", Value("DURATION"), "Accepted, no effect: connecting is retried for ever"),
    // Incoming HTTP
    key("--http-addr", Value("IP:PORT"), "http.listen", "Address to take HTTP requests on").common(),
    key("--tls-cert-path", Value("FILE"), "http.tls.cert", "Certificate chain for incoming connections"),
    key("--tls-key-path", Value("FILE"), "http.tls.key", "Key of that certificate"),
    key(
        "--tls-ca-path",
        Value("FILE"),
        "http.tls.client_ca",
        "Authorities of which every client must have a certificate",
    ),
    key("--max-http-ingress-connections", Value("N"), "http.max_connections", "Incoming connections at once")
        .variables(&["WASH_MAX_HTTP_INGRESS_CONNECTIONS"]),
    key("--probe-addr", Value("IP:PORT"), "admin.listen", "Address of /livez, /readyz, /status and /metrics")
        .variables(&["WASH_PROBE_ADDR"]),
    ignored(
        "--drain-delay",
        Value("DURATION"),
        "no effect: a draining host takes requests until its work has ended, see drain.timeout",
        "Accepted, no effect: see drain.timeout",
    )
    .variables(&["WASH_DRAIN_DELAY"]),
    // Outgoing connections
    key("--http-client-ca-path", Values("FILE"), "egress.ca", "Further authorities for outgoing HTTPS")
        .variables(&["WASH_HTTP_CLIENT_CA_PATHS"])
        .may_wait(),
    key("--http-client-trust-roots", Value("ROOTS"), "egress.trust_roots", "Authorities that outgoing HTTPS trusts")
        .variables(&["WASH_HTTP_CLIENT_TRUST_ROOTS"]),
    key("--max-connections", Value("N"), "limits.connections", "Connections of all workloads")
        .variables(&["WASH_MAX_CONNECTIONS"])
        .may_wait(),
    key(
        "--max-outbound-http-connections-per-workload",
        Value("N"),
        "limits.http_connections",
        "Pooled outgoing HTTP connections",
    )
    .variables(&["WASH_MAX_OUTBOUND_HTTP_CONNECTIONS_PER_WORKLOAD"])
    .may_wait(),
    key("--max-outbound-socket-connections-per-workload", Value("N"), "limits.socket_connections", "Outgoing sockets")
        .variables(&["WASH_MAX_OUTBOUND_SOCKET_CONNECTIONS_PER_WORKLOAD"])
        .may_wait(),
    key(
        "--max-inbound-socket-connections-per-workload",
        Value("N"),
        "limits.inbound_connections",
        "Connections to published ports",
    )
    .variables(&["WASH_MAX_INBOUND_SOCKET_CONNECTIONS_PER_WORKLOAD"])
    .may_wait(),
    key("--http-connection-wait", Value("DURATION"), "limits.connection_wait", "Wait for a pooled connection")
        .variables(&["WASH_HTTP_CONNECTION_WAIT"])
        .may_wait(),
    key("--allow-host-loopback", Switch, "egress.allow_host_loopback", "Let workloads reach the machine's loopback"),
    key("--socket-egress", Value("MODE"), "egress.mode", "What a denied connection does: enforce or count")
        .form(Form::Words(&[("count", "audit")])),
    key(
        "--deny-special-ranges",
        Switch,
        "egress.deny_special_ranges",
        "Deny loopback, link-local and metadata addresses",
    ),
    key("--deny-private-ranges", Switch, "egress.deny_private_ranges", "Deny private addresses"),
    // Plugins
    key(
        "--wasmcloud-messaging-max-in-flight",
        Value("N"),
        "plugins.wasmcloud-messaging.max_in_flight",
        "Messages in flight",
    )
    .variables(&["WASH_WASMCLOUD_MESSAGING_MAX_IN_FLIGHT"])
    .may_wait(),
    key(
        "--wasmcloud-messaging-max-in-flight-per-component",
        Value("N"),
        "plugins.wasmcloud-messaging.max_in_flight_per_component",
        "Messages in flight per component",
    )
    .variables(&["WASH_WASMCLOUD_MESSAGING_MAX_IN_FLIGHT_PER_COMPONENT"])
    .may_wait(),
    key("--wasi-webgpu", Switch, "plugins.wasi-webgpu.enabled", "Serve wasi:webgpu"),
    key("--wasi-otel", Switch, "plugins.wasi-otel.enabled", "Serve wasi:otel"),
    key("--postgres-url", Value("URL"), "plugins.wasmcloud-postgres.url", "Database of wasmcloud:postgres")
        .variables(&["WASH_POSTGRES_URL"]),
    missing(
        "--host-plugin",
        Value("SPEC"),
        NO_HOST_PLUGINS,
        "Not implemented yet, refused: a host plugin that is a component",
    )
    .variables(&["WASH_HOST_PLUGINS"]),
    missing(
        "--host-plugin-registry-user",
        Value("USER"),
        NO_HOST_PLUGINS,
        "Not implemented yet, refused: for pulling host plugins",
    )
    .variables(&["WASH_HOST_PLUGIN_REGISTRY_USER"]),
    missing(
        "--host-plugin-registry-password",
        Value("PASSWORD"),
        NO_HOST_PLUGINS,
        "Not implemented yet, refused: for pulling host plugins",
    )
    .variables(&["WASH_HOST_PLUGIN_REGISTRY_PASSWORD"]),
    // Artifacts
    key("--allow-insecure-registries", Switch, "registry.allow_insecure", "Plain HTTP for every registry").common(),
    key("--oci-ca-path", Values("FILE"), "registry.ca", "Further authorities for registries")
        .variables(&["WASH_OCI_CA_PATHS"])
        .may_wait(),
    key("--registry-pull-timeout", Value("DURATION"), "registry.pull_timeout", "Time for pulling one artifact")
        .common(),
    key("--oci-cache-dir", Value("DIR"), "artifacts.cache_dir", "Directory of the artifact cache").common(),
    // The engine
    key("--wasm-proposal", Values("NAME"), "engine.proposals", "A further WebAssembly proposal to switch on")
        .variables(&["WASH_WASM_PROPOSALS"])
        .form(Form::Proposals)
        .may_wait(),
    variable(&["WASMTIME_POOLING"], "engine.pooling", Form::Words(POOLING), "Whether instances come from a pool"),
    variable(&["WASMTIME_POOLING_TOTAL_CORE_INSTANCES"], "engine.max_instances", Form::Same, "Instances at once"),
    key("--core-instances", Value("N"), "engine.max_instances", "Instances at once, over all workloads")
        .variables(&["WASH_CORE_INSTANCES"]),
    key("--default-heap-memory", Value("QUANTITY"), "limits.memory", "Linear memory of one instance")
        .variables(&["WASH_DEFAULT_HEAP_MEMORY"])
        .form(Form::Quantity),
    ignored("--max-guest-memory", Value("QUANTITY"), NO_TOTAL, "Accepted, no effect yet")
        .aliases(&["max-memory"])
        .variables(&["WASH_MAX_MEMORY", "WASH_HOST_MAX_GUEST_MEMORY"]),
    ignored("--guest-memory-mode", Value("MODE"), NO_TOTAL, "Accepted, no effect yet")
        .variables(&["WASH_GUEST_MEMORY_MODE"]),
    // Variables without a flag
    variable(&["WASH_EPHEMERAL_CALL_TIMEOUT_SECS"], "limits.call_timeout", Form::Seconds, "One call of a guest"),
    variable(
        &["WASH_HTTP_RESPONSE_TIMEOUT_SECS"],
        "http.request_timeout",
        Form::Seconds,
        "Until the head of a response",
    ),
    without_key(&["WASH_SHARED_STORE_CALL_TIMEOUT_SECS"]),
    without_key(&["WASH_STREAM_DRAIN_TIMEOUT_SECS"]),
    without_key(&["WASH_PLUGIN_STOP_TIMEOUT_SECS"]),
    without_key(&["WASH_PLUGIN_HEALTHY_UPTIME_SECS"]),
    without_key(&["WASH_PLUGIN_LIFECYCLE_CALL_TIMEOUT_SECS"]),
    without_key(&["WASH_PLUGIN_RESTART_BACKOFF_MAX_SECS"]),
    without_key(&["WASH_ABANDONED_CALL_GRACE_SECS"]),
];

const fn option(flag: Option<&'static str>, takes: Takes, meaning: Meaning, help: &'static str) -> ReferenceOption {
    ReferenceOption {
        flag,
        short: None,
        aliases: &[],
        variables: &[],
        takes,
        meaning,
        help,
        is_common: false,
        is_lenient: false,
    }
}

const fn key(flag: &'static str, takes: Takes, key: &'static str, help: &'static str) -> ReferenceOption {
    let form = match takes {
        Values(_) => Form::List,
        Value(_) | Switch => Form::Same,
    };
    option(Some(flag), takes, Meaning::Key { key, form, may_wait: false }, help)
}

const fn nothing(flag: &'static str, takes: Takes, help: &'static str) -> ReferenceOption {
    option(Some(flag), takes, Meaning::Nothing, help)
}

const fn ignored(flag: &'static str, takes: Takes, why: &'static str, help: &'static str) -> ReferenceOption {
    option(Some(flag), takes, Meaning::Ignored(why), help)
}

const fn missing(flag: &'static str, takes: Takes, why: &'static str, help: &'static str) -> ReferenceOption {
    option(Some(flag), takes, Meaning::Missing(why), help)
}

const fn variable(name: &'static [&'static str], key: &'static str, form: Form, help: &'static str) -> ReferenceOption {
    let option = option(None, Value("TEXT"), Meaning::Key { key, form, may_wait: false }, help);
    ReferenceOption { variables: name, is_lenient: true, ..option }
}

const fn without_key(name: &'static [&'static str]) -> ReferenceOption {
    let meaning = Meaning::Ignored("ignored: no key means this yet");
    ReferenceOption { variables: name, ..option(None, Value("TEXT"), meaning, "Accepted, no effect yet") }
}

impl ReferenceOption {
    const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    const fn aliases(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    const fn variables(self, variables: &'static [&'static str]) -> Self {
        Self { variables, ..self }
    }

    const fn common(self) -> Self {
        Self { is_common: true, ..self }
    }

    const fn form(mut self, form: Form) -> Self {
        if let Meaning::Key { key, may_wait, form: _ } = self.meaning {
            self.meaning = Meaning::Key { key, form, may_wait };
        }
        self
    }

    /// Until its key is implemented, a warning is enough.
    const fn may_wait(mut self) -> Self {
        if let Meaning::Key { key, form, may_wait: _ } = self.meaning {
            self.meaning = Meaning::Key { key, form, may_wait: true };
        }
        self
    }
}
