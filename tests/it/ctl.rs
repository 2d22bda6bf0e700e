//! `washlet ctl` against a real nats-server and real hosts: what it prints, in both forms, and how it ends.

use serde_json::{Value, json};

use crate::support::process::TestProcessBuilder;
use crate::support::{FakeServer, NatsServer, PATIENCE, Registry, TestProcess, eventually, free_port, http};
use crate::tls::authority::Authority;

/// What a command said, and how it ended.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

async fn run(builder: TestProcessBuilder, args: &[&str]) -> Said {
    let args: Vec<&str> = ["ctl"].into_iter().chain(args.iter().copied()).collect();
    let mut process = builder.args(&args).start();
    let code = process.wait_exit().await;
    Said { code, stdout: process.stdout(), stderr: process.stderr() }
}

/// `washlet ctl` with these arguments, connecting to `nats` as a variable says.
async fn ctl(nats: &NatsServer, args: &[&str]) -> Said {
    run(TestProcess::builder("").env("NATS_URL", &nats.url()), args).await
}

struct Host {
    washlet: TestProcess,
    id: String,
    http_port: u16,
}

impl Host {
    /// Beats each second; `more` is further text of its file.
    async fn start(nats: &NatsServer, more: &str) -> Self {
        let mut heartbeats = nats.client().await.subscribe("runtime.operator.heartbeat.*").await;
        let http_port = free_port();
        let text = format!(
            "http.listen = \"127.0.0.1:{http_port}\"\nregistry.allow_insecure = true\ndrain.lame_duck = \"0s\"\n{more}\n\
             [nats.scheduler]\nurls = [\"{}\"]\nheartbeat_interval = \"1s\"\nstart_reply_wait = \"1s\"\n",
            nats.url()
        );
        let washlet = TestProcess::start(&text);
        let id = loop {
            let (_, heartbeat) = heartbeats.next(PATIENCE).await;
            if heartbeat["httpPort"] == json!(http_port) {
                break heartbeat["id"].as_str().expect("an id").to_owned();
            }
        };
        Self { washlet, id, http_port }
    }

    /// A draining host waits for its operator to stop what runs: that is us.
    async fn stop_all(&self, nats: &NatsServer) {
        let said = ctl(nats, &["workloads", "--host", &self.id, "--json"]).await.json();
        for id in said["workloads"].as_array().expect("a list").iter().filter_map(|workload| workload["id"].as_str()) {
            let said = ctl(nats, &["stop", "--host", &self.id, id]).await;
            assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
        }
    }

    async fn get(&self, host: &str) -> http::Answer {
        http::get(([127, 0, 0, 1], self.http_port).into(), host, "/").await
    }
}

async fn image(name: &str) -> String {
    let registry = Registry::shared();
    registry.push(name, "1", std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture")).await;
    registry.image(name, "1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_started_seen_and_stopped() {
    let nats = NatsServer::start("").await;
    let host = Host::start(&nats, "").await;
    let image = image("ctl-flags").await;
    let start =
        ["start", "--host", &host.id, "--id", "one", "--image", &image, "--http-host", "hello.test", "--name", "hello"];
    let said = ctl(&nats, &start).await;
    // In the words of the start, or of the status if the host answered that it takes longer.
    assert!(
        said.code == Some(0) && said.stdout.starts_with("one Running: Workload "),
        "{}{}",
        said.stdout,
        said.stderr
    );
    assert!(said.stderr.starts_with(&format!("starting one on {}\n", host.id)), "{}", said.stderr);
    assert_eq!(host.get("hello.test").await.text(), "Hello from http2\n");

    let said = ctl(&nats, &["status", "--host", &host.id, "one", "--json"]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let expected = json!({ "host": host.id, "id": "one", "state": "Running", "message": "Workload is Running" });
    assert_eq!((said.json(), said.stderr.as_str()), (expected, ""));

    let said = ctl(&nats, &["workloads", "--host", &host.id]).await;
    let row = said.stdout.lines().nth(1).unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    assert_eq!((said.code, row), (Some(0), vec![host.id.as_str(), "one", "default/hello", "Running", "0", "-"]));
    let said = ctl(&nats, &["workloads", "--expect", "1", "--json"]).await;
    let workload = &said.json()["workloads"][0];
    assert_eq!((&workload["id"], &workload["host"]), (&json!("one"), &json!(host.id)));

    let said = ctl(&nats, &["stop", "--host", &host.id, "one"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "one NotFound: Workload is gone\n"), "{}", said.stderr);
    let said = ctl(&nats, &["status", "--host", &host.id, "one"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), "one NotFound: Workload not found: one\n"));
    let said = ctl(&nats, &["stop", "--host", &host.id, "one"]).await;
    assert_eq!(said.code, Some(1), "what was not there cannot be stopped: {}", said.stdout);
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_comes_from_a_file_in_either_form() {
    let nats = NatsServer::start("").await;
    let host = Host::start(&nats, "").await;
    let image = image("ctl-file").await;
    let toml = format!(
        "[[workloads]]\nname = \"a\"\nhost_interfaces = [{{ interface = \"wasi:http/incoming-handler\", config = {{ host = \
         \"a.test\" }} }}]\n[[workloads.components]]\nname = \"main\"\nimage = \"{image}\"\nmemory_limit = \"64MiB\"\n\
         [[workloads]]\nname = \"b\"\n"
    );
    let wire = json!({ "workload": { "name": "c", "futureField": [1], "witWorld": {
        "components": [{ "name": "main", "image": image }],
        "hostInterfaces": [{ "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"],
            "config": { "host": "c.test" } }] } } });
    let files = || {
        let builder = TestProcess::builder("").env("NATS_URL", &nats.url());
        let local = "[[workloads]]\nname = \"d\"\n[[workloads.components]]\nname = \"m\"\nimage = \"file:m.wasm\"\n";
        builder
            .file("w.toml", &toml)
            .file("w.json", wire.to_string())
            .file("local.toml", local)
            .file("bad.toml", "x = 1\n")
    };
    let start = ["start", "--host", &host.id];
    let said = run(files(), &[&start[..], &["w.toml", "--workload", "a"]].concat()).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(host.get("a.test").await.text(), "Hello from http2\n");
    let said = run(files(), &[&start[..], &["w.json", "--json"]].concat()).await;
    assert_eq!((said.code, &said.json()["state"]), (Some(0), &json!("Running")), "{}", said.stderr);
    assert_eq!(host.get("c.test").await.text(), "Hello from http2\n");

    for (args, error) in [
        (&["w.toml"][..], "w.toml lists 2 workloads: pick one with --workload (a, b)"),
        (&["local.toml"], "m.wasm is a file of this machine"),
        (&["bad.toml"], "unknown key"),
        (&["none.toml"], "cannot read none.toml"),
    ] {
        let said = run(files(), &[&start[..], args].concat()).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""));
        assert!(said.stderr.contains(error), "{error} is in {}", said.stderr);
    }
    host.stop_all(&nats).await;
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_takes_long_is_told_and_has_an_end() {
    let nats = NatsServer::start("").await;
    let mut host = Host::start(&nats, "").await;
    host.washlet.allow_log("workload failed to start");
    let registry = FakeServer::hanging().await;
    let image = format!("{}/hang:1", registry.addr());
    let start = ["start", "--host", &host.id, "--id", "slow", "--image", &image];
    let said = ctl(&nats, &[&start[..], &["--patience", "500ms"]].concat()).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""));
    assert!(said.stderr.contains("Workload is Starting (0 s)\n"), "{}", said.stderr);
    assert!(said.stderr.contains("error: workload slow is still starting after 500ms"), "{}", said.stderr);
    let said = ctl(&nats, &[&start[..], &["--no-wait"]].concat()).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "slow Starting: Workload is Starting\n"));
    let said = ctl(&nats, &["stop", "--host", &host.id, "slow", "--no-wait"]).await;
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);

    let nowhere = format!("127.0.0.1:{}/none:1", free_port());
    let failing = ["start", "--host", &host.id, "--id", "bad", "--image", &nowhere, "--patience", "60s"];
    let said = ctl(&nats, &failing).await;
    assert_eq!(said.code, Some(1), "{}", said.stdout);
    assert!(said.stdout.contains("failed to pull image for component 'workload'"), "{}", said.stdout);
    eventually("both are gone or failed", PATIENCE, async || {
        let said = ctl(&nats, &["workloads", "--host", &host.id, "--json"]).await.json();
        let workloads = said["workloads"].as_array().expect("a list").clone();
        workloads.iter().all(|workload| workload["state"] == "Error").then_some(())
    })
    .await;
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_shows_whose_file_differs_and_what_became_of_its_last_reload() {
    let nats = NatsServer::start("").await;
    let same = "host.name = \"same-1\"\nhost.group = \"edge\"";
    let first = Host::start(&nats, same).await;
    let mut other = Host::start(&nats, "host.name = \"other\"\nhost.group = \"edge\"\nlimits.memory = \"64MiB\"").await;
    let alone = Host::start(&nats, "host.name = \"alone\"\nhost.group = \"core\"").await;
    other.washlet.allow_log("configuration rejected");
    other.washlet.rewrite_config("nonsense = 1\n");
    other.washlet.wait_for_message("configuration rejected").await;

    let said = ctl(&nats, &["hosts", "--expect", "3", "--json"]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let hosts = said.json();
    let names: Vec<&str> = hosts.as_array().expect("a list").iter().filter_map(|host| host["name"].as_str()).collect();
    assert_eq!(names, ["alone", "other", "same-1"], "by group and name");
    let by_name = |name: &str| hosts.as_array().and_then(|all| all.iter().find(|host| host["name"] == name).cloned());
    let (told, quiet) = (by_name("other").expect("it is there"), by_name("alone").expect("it is there"));
    assert_eq!((&told["generation"], &told["differs"], &quiet["differs"]), (&json!(1), &json!(true), &json!(false)));
    assert_eq!(told["last_reload"]["outcome"], "rejected", "{told}");
    assert!(told["last_reload"]["error"].as_str().is_some_and(|error| error.contains("nonsense")), "{told}");
    assert_eq!(
        (&quiet["last_reload"]["outcome"], &quiet["version"]),
        (&json!("applied"), &json!(env!("CARGO_PKG_VERSION")))
    );

    let said = ctl(&nats, &["hosts", "--host", &first.id, "--host", &other.id, "--group", "edge"]).await;
    let text = &said.stdout;
    assert_eq!((said.code, text.lines().filter(|line| line.contains(" * ")).count()), (Some(0), 2), "{text}");
    assert!(text.contains("* its file is not that of the other hosts of its group\n"), "{text}");
    assert!(text.contains(&format!("{}: rejected: ", other.id)), "{text}");
    let said = ctl(&nats, &["hosts", "--group", "core", "--wait", "1500ms"]).await;
    assert_eq!((said.stdout.lines().count(), said.stdout.contains(&alone.id)), (2, true), "{}", said.stdout);
    for host in [first, other, alone] {
        host.washlet.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_answer_is_named_with_what_to_do() {
    let nats = NatsServer::start("").await;
    for args in [&["status", "--host", "gone", "w"][..], &["stop", "--host", "gone", "w"], &["hosts", "--host", "gone"]]
    {
        let said = ctl(&nats, args).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""));
        assert!(
            said.stderr.contains("error: no host gone answers; `washlet ctl hosts` lists who is there"),
            "{}",
            said.stderr
        );
    }
    let said = ctl(&nats, &["hosts", "--wait", "100ms"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "no host was heard\n"));

    // Whoever takes requests and answers none.
    let client = nats.client().await;
    let mut silent = client.subscribe("runtime.host.silent.>").await;
    let said = ctl(&nats, &["status", "--host", "silent", "w", "--timeout", "200ms"]).await;
    assert_eq!(said.code, Some(1));
    let error = "error: host silent did not answer: no answer on runtime.host.silent.workload.status within 200ms";
    assert!(said.stderr.contains(error), "{}", said.stderr);
    silent.next(PATIENCE).await;

    let nobody = format!("nats://127.0.0.1:{}", free_port());
    let said = run(TestProcess::builder(""), &["hosts", "--nats-url", &nobody]).await;
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr.contains("cannot reach the control plane: cannot connect to NATS at 127.0.0.1:"),
        "{}",
        said.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_ends_with_2() {
    for (args, name) in [
        (&["hosts", "--hots", "x"][..], "--hots"),
        (&["status", "w"], "--host"),
        (&["start", "--host", "h"], "--image"),
        (&["status", "--host", "a.b", "w"], "cannot be a host id"),
        (&["hosts", "--wait", "soon"], "expected a duration"),
        (&["hosts", "--nats-user", "u"], "a user needs a password"),
        (&["hosts", "--nats-creds", "a", "--nats-nkey", "b"], "only one way to authenticate"),
        (&["hosts", "--nats-cert", "a"], "need each other"),
        (&["hosts", "--config", "washlet.toml"], "--config"),
        (&[], "Usage"),
    ] {
        let said = run(TestProcess::builder("# not read\n"), args).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{}", said.stderr);
        assert!(said.stderr.contains(name), "{name} is in {}", said.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_permissions_are_enough_and_a_deaf_user_is_told() {
    let permissions = r#"
        authorization { users: [
            { user: "host", password: "host" },
            { user: "person", password: "p@ss", permissions: {
                publish: ["runtime.host.>"], subscribe: ["runtime.operator.heartbeat.>", "_INBOX.>"] } },
            { user: "deaf", password: "deaf", permissions: { publish: ["runtime.host.>"], subscribe: ["_INBOX.>"] } }
        ] }"#;
    let nats = NatsServer::start(permissions).await;
    let url = nats.url().replace("nats://", "nats://host:host@");
    let text = format!("[nats.scheduler]\nurls = [\"{url}\"]\nheartbeat_interval = \"1s\"\n");
    let washlet = TestProcess::start(&text);
    washlet.wait_for_message("joined the control plane").await;

    let person = || TestProcess::builder("").env("NATS_URL", &nats.url()).env("NATS_USER", "person");
    let said = run(person().env("NATS_PASSWORD", "p@ss"), &["hosts", "--expect", "1", "--json"]).await;
    assert_eq!((said.code, said.json().as_array().map(Vec::len)), (Some(0), Some(1)), "{}", said.stderr);
    let id = said.json()[0]["id"].as_str().expect("an id").to_owned();
    let by_file = TestProcess::builder("").file("password", "p@ss\n");
    let flags =
        ["--nats-user", "person", "--nats-password-file", "password", "-s", &nats.url(), "hosts", "--host", &id];
    let said = run(by_file, &flags).await;
    assert_eq!((said.code, said.stdout.lines().count()), (Some(0), 2), "{}", said.stderr);

    let said = run(person().env("NATS_PASSWORD", "wrong"), &["hosts"]).await;
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("as person") && !said.stderr.contains("wrong"), "{}", said.stderr);
    let deaf =
        TestProcess::builder("").env("NATS_URL", &nats.url()).env("NATS_USER", "deaf").env("NATS_PASSWORD", "deaf");
    let said = run(deaf, &["hosts"]).await;
    assert_eq!(said.code, Some(1), "{}", said.stdout);
    assert!(
        said.stderr.contains("does not let this user subscribe to runtime.operator.heartbeat.*"),
        "{}",
        said.stderr
    );
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_comes_from_flags_or_variables() {
    let authority = Authority::new("cluster");
    let (server, client) = (authority.issue("127.0.0.1"), authority.issue("person"));
    let dir = tempfile::TempDir::with_prefix("washlet-ctl-").expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let files = [
        ("ca", &authority.pem()),
        ("s.crt", &server.cert),
        ("s.key", &server.key),
        ("c.crt", &client.cert),
        ("c.key", &client.key),
    ];
    for (name, text) in files {
        std::fs::write(path(name), text).expect("the file can be written");
    }
    let (ca, cert, key) = (path("ca"), path("s.crt"), path("s.key"));
    let first = "handshake_first: true";
    let nats = NatsServer::start(&format!(
        "tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true, {first} }}"
    ))
    .await;
    let (url, cert, key) = (nats.url(), path("c.crt"), path("c.key"));
    let hosts = ["--nats-tls-first", "-s", &url, "hosts", "--wait", "100ms"];
    let by_flag = [&hosts[..], &["--nats-ca", &ca, "--nats-cert", &cert, "--nats-key", &key]].concat();
    let said = run(TestProcess::builder(""), &by_flag).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "no host was heard\n"), "{}", said.stderr);
    let by_variable = TestProcess::builder("").env("NATS_CA", &ca).env("NATS_CERT", &cert).env("NATS_KEY", &key);
    let said = run(by_variable, &hosts).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let said = run(TestProcess::builder("").env("NATS_CA", &ca), &hosts).await;
    assert_eq!((said.code, said.stderr.contains("cannot reach the control plane")), (Some(1), true), "{}", said.stderr);
}
