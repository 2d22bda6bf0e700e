//! Files that the configuration names are watched like the configuration, each kind of them, and as it changes.

use std::fs;

use tempfile::TempDir;

use super::APPLIED;
use crate::reload::{HELLO, HTTP2};
use crate::support::{Editor, LogLine, NatsServer, TestProcess, free_port, volume};
use crate::tls::authority::Authority;

/// A host that names files of a mounted secret and beside its own file.
struct Rotated {
    process: TestProcess,
    mounted: TempDir,
    files: Vec<(&'static str, String)>,
}

impl Rotated {
    fn swap(&mut self) {
        self.process.mark();
        let files: Vec<(&str, &str)> = self.files.iter().map(|(name, content)| (*name, content.as_str())).collect();
        volume::swap(self.mounted.path(), &files);
    }

    fn set(&mut self, name: &str, content: String) {
        let file = self.files.iter_mut().find(|(other, _content)| *other == name);
        file.expect("a file of the secret").1 = content;
    }

    async fn applied(&self, changed: &str) -> LogLine {
        let line = self.process.wait_for_log(|line| line.message().starts_with("configuration ")).await;
        assert_eq!(line.message(), APPLIED, "{line}");
        let told = line.field("changed").unwrap_or_default();
        assert!(told.contains(changed), "{changed} in {line}");
        line
    }
}

fn text(port: u16, nats: &NatsServer, mounted: &TempDir, scheduler: &str) -> String {
    let secret = mounted.path().display();
    format!(
        "[http]\nlisten = \"127.0.0.1:{port}\"\n\
         [http.tls]\ncert = \"{secret}/tls.crt\"\nkey = \"{secret}/tls.key\"\nclient_ca = \"{secret}/clients.pem\"\n\
         [nats.scheduler]\nurls = [\"{}\"]\n{}\n\
         [registry.hosts.\"localhost:5000\"]\nuser = \"u\"\npassword_file = \"{secret}/registry\"\n\
         [reload]\npoll_interval = \"0s\"\n\
         [[workloads]]\nname = \"guest\"\n\
         host_interfaces = [{{ interface = \"wasi:http/incoming-handler\", config = {{ host = \"guest.test\" }} }}]\n\
         [[workloads.components]]\nname = \"guest\"\nimage = \"file:guest.wasm\"\n",
        nats.url(),
        scheduler.replace("{secret}", &secret.to_string()),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_file_rotates_also_when_a_reload_names_it_first() {
    let nats = NatsServer::start("").await;
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let mounted = TempDir::with_prefix("washlet-secret-").expect("a temporary directory");
    let first = servers.issue("guest.test");
    let files = vec![
        ("tls.crt", first.cert),
        ("tls.key", first.key),
        ("clients.pem", clients.pem()),
        ("token", "token 0\n".to_owned()),
        ("password", "password 0\n".to_owned()),
        ("registry", "registry 0\n".to_owned()),
    ];
    let borrowed: Vec<(&str, &str)> = files.iter().map(|(name, content)| (*name, content.as_str())).collect();
    volume::swap(mounted.path(), &borrowed);
    let port = free_port();
    let text = |scheduler: &str| text(port, &nats, &mounted, scheduler);
    let (token, password) =
        (text("token_file = \"{secret}/token\""), text("user = \"host\"\npassword_file = \"{secret}/password\""));
    let process = TestProcess::builder(&token).file("guest.wasm", HELLO).start();
    process.wait_for_message(APPLIED).await;
    let mut host = Rotated { process, mounted, files };

    let second = servers.issue("guest.test");
    host.set("tls.crt", second.cert);
    host.set("tls.key", second.key);
    host.swap();
    host.applied("http.tls.cert(rotate) http.tls.key(rotate)").await;
    host.set("clients.pem", Authority::new("others").pem());
    host.swap();
    host.applied("http.tls.client_ca(").await;
    host.set("token", "token 1\n".to_owned());
    host.swap();
    host.applied("nats.scheduler.token(").await;
    host.set("registry", "registry 1\n".to_owned());
    host.swap();
    host.applied("registry.hosts").await;
    host.process.mark();
    host.process.rewrite_file("guest.wasm", HTTP2);
    host.applied("guest").await;

    // Another file is named, by a reload.
    host.process.rewrite_config(&password);
    host.applied("nats.scheduler").await;
    host.set("password", "password 1\n".to_owned());
    host.swap();
    host.applied("nats.scheduler.password(").await;
    // What no file names any more is not looked at: the same swap brings the one that is.
    host.set("token", "token 2\n".to_owned());
    host.set("registry", "registry 2\n".to_owned());
    host.swap();
    let line = host.applied("registry.hosts").await;
    assert!(!line.contains("token"), "{line}");

    // In place, and by an editor, where nothing is a link.
    let registry = host.process.dir().join("secrets/registry");
    fs::create_dir(registry.parent().expect("a directory")).expect("a new directory");
    fs::write(&registry, "registry 2\n").expect("the file can be written");
    let secret = host.mounted.path().display().to_string();
    host.process.rewrite_config(&password.replace(&format!("{secret}/registry"), "secrets/registry"));
    host.process.wait_for_log(|line| line.message().starts_with("configuration ")).await;
    for (number, editor) in [Editor::CopyOver, Editor::VimBackupAndCreate, Editor::DeleteAndCreate].iter().enumerate() {
        host.process.mark();
        editor.save(&registry, &format!("registry {}\n", number + 3));
        host.applied("registry.hosts").await;
    }
    let stderr = host.process.stderr();
    assert!(!stderr.contains("registry 2") && !stderr.contains("token 1"), "no secret is in the log");
    host.process.finish().await;
}
