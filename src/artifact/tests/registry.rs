//! A registry in this process that misbehaves on request: plain HTTP/1.1 by hand, so that it can also break it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::artifact::Digest;
use crate::task;

/// What to do with one request instead of answering it properly.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// Answer with a status, headers and a text.
    Status(u16, &'static str, &'static str),
    /// Send the head and so many bytes of the body, then close.
    CutAfter(usize),
    /// Send another body under the announced digest.
    Body(Vec<u8>),
    /// Never answer.
    Hang,
    /// Go on to another address.
    Redirect(String),
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
}

#[derive(Debug, Default)]
struct State {
    content: HashMap<String, (String, Vec<u8>)>,
    troubles: HashMap<&'static str, VecDeque<Trouble>>,
    permanent: HashMap<&'static str, Trouble>,
    basic_login: Option<String>,
    seen: Vec<Seen>,
}

#[derive(Debug, Clone)]
pub(super) struct FakeRegistry {
    address: std::net::SocketAddr,
    state: Arc<Mutex<State>>,
}

impl FakeRegistry {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let serving = registry.clone();
        task::spawn("fake registry", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                task::spawn("fake registry connection", async move {
                    // A client that goes away is part of the tests.
                    drop(serving.serve(stream).await);
                });
            }
        });
        registry
    }

    /// `host:port`.
    pub(super) fn name(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn image(&self, version: &str) -> String {
        format!("{}/team/hello{version}", self.address)
    }

    /// Stores a layer and a manifest under a tag; gives the manifest's digest.
    pub(super) fn push(&self, tag: &str, layer: &[u8]) -> Digest {
        self.push_manifest(tag, layer, layer.len(), "application/wasm")
    }

    pub(super) fn push_manifest(&self, tag: &str, layer: &[u8], size: usize, media_type: &str) -> Digest {
        let digest = Digest::of(layer);
        self.put(format!("/v2/team/hello/blobs/{digest}"), "application/octet-stream", layer.to_vec());
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": Digest::of(b"{}").to_string(), "size": 2},
            "layers": [{"mediaType": media_type, "digest": digest.to_string(), "size": size}],
        });
        self.push_document(tag, "application/vnd.oci.image.manifest.v1+json", &manifest)
    }

    pub(super) fn push_document(&self, tag: &str, media_type: &str, document: &serde_json::Value) -> Digest {
        let body = serde_json::to_vec(document).unwrap();
        let digest = Digest::of(&body);
        for version in [tag.to_owned(), digest.to_string()] {
            self.put(format!("/v2/team/hello/manifests/{version}"), media_type, body.clone());
        }
        digest
    }

    fn put(&self, path: String, media_type: &str, body: Vec<u8>) {
        self.state.lock().unwrap().content.insert(path, (media_type.to_owned(), body));
    }

    /// The next requests whose path contains `part` meet these, in order.
    pub(super) fn trouble(&self, part: &'static str, troubles: impl IntoIterator<Item = Trouble>) {
        self.state.lock().unwrap().troubles.entry(part).or_default().extend(troubles);
    }

    /// All requests whose path contains `part` meet this.
    pub(super) fn always(&self, part: &'static str, trouble: Trouble) {
        self.state.lock().unwrap().permanent.insert(part, trouble);
    }

    /// From now on only this `user:password`, in base64, gets anything.
    pub(super) fn require(&self, basic: &str) {
        self.state.lock().unwrap().basic_login = Some(format!("Basic {basic}"));
    }

    /// Every request so far but the ones for the API's root.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.iter().filter(|seen| seen.path != "/v2/").cloned().collect()
    }

    pub(super) fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.contains(part)).count()
    }

    /// Waits until so many requests contained `part`.
    pub(super) async fn until_seen(&self, part: &str, count: usize) {
        while self.count(part) < count {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        while let Some(request) = read_request(&mut stream).await? {
            let trouble = self.note(&request);
            match trouble {
                Some(Trouble::Hang) => std::future::pending().await,
                Some(Trouble::Status(status, headers, text)) => {
                    respond(&mut stream, status, headers, text.as_bytes(), usize::MAX).await?;
                }
                Some(Trouble::Redirect(to)) => {
                    respond(&mut stream, 307, &format!("location: {to}\r\n"), b"", usize::MAX).await?;
                }
                Some(Trouble::CutAfter(length)) => return self.answer(&mut stream, &request, None, length).await,
                Some(Trouble::Body(body)) => self.answer(&mut stream, &request, Some(body), usize::MAX).await?,
                None => self.answer(&mut stream, &request, None, usize::MAX).await?,
            }
        }
        Ok(())
    }

    /// Remembers the request and finds out what it meets.
    fn note(&self, request: &Seen) -> Option<Trouble> {
        let mut state = self.state.lock().unwrap();
        state.seen.push(request.clone());
        let next = state.troubles.iter_mut().find(|(part, _)| request.path.contains(**part));
        if let Some(trouble) = next.and_then(|(_, troubles)| troubles.pop_front()) {
            return Some(trouble);
        }
        if let Some((_, trouble)) = state.permanent.iter().find(|(part, _)| request.path.contains(**part)) {
            return Some(trouble.clone());
        }
        let login = request.headers.get("authorization");
        let is_refused = state.basic_login.is_some() && login != state.basic_login.as_ref();
        is_refused.then_some(Trouble::Status(401, "www-authenticate: Basic realm=\"test\"\r\n", "log in"))
    }

    async fn answer(
        &self,
        stream: &mut TcpStream,
        request: &Seen,
        other_body: Option<Vec<u8>>,
        cut: usize,
    ) -> std::io::Result<()> {
        let path = request.path.split('?').next().unwrap();
        let found = self.state.lock().unwrap().content.get(path).cloned();
        let Some((media_type, body)) = found else {
            let status = if request.path == "/v2/" { 200 } else { 404 };
            return respond(stream, status, "", b"no such thing", cut).await;
        };
        let digest = Digest::of(&body);
        let body = other_body.unwrap_or(body);
        let headers = format!("content-type: {media_type}\r\ndocker-content-digest: {digest}\r\n");
        if request.method == "HEAD" {
            return respond(stream, 200, &headers, b"", cut).await;
        }
        let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        match range {
            Some(from) => respond(stream, 206, &headers, &body[from.parse::<usize>().unwrap()..], cut).await,
            None => respond(stream, 200, &headers, &body, cut).await,
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<Seen>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            // The first byte of TLS: hang up, as a server of plain HTTP does.
            Ok(0x16) | Err(_) => return Ok(None),
            Ok(byte) => head.push(byte),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap().split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Ok(Some(Seen { method, path, headers }))
}

async fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8], cut: usize) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body[..body.len().min(cut)]).await?;
    stream.flush().await
}
