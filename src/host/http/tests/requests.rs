//! What a guest sees of a request, and what a client hears of a response or of its absence.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};

use super::support::{
    Fake, Raw, binding, client, eventually, frames, full, get, h2_client, named, ok, reason, serve, text, within,
};
use crate::workload::http::{BodyError, CallError, HttpTarget, RouteSink as _};

/// Answers with what it sees of the request.
fn mirror() -> Arc<Fake> {
    Fake::new("mirror", |request| async move {
        let mut seen = format!("{} {}\n", request.method(), request.uri());
        for (name, value) in request.headers() {
            seen.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
        }
        ok(seen)
    })
}

#[tokio::test]
async fn a_guest_sees_the_clients_authority_over_both_versions() {
    let (server, router) = serve(mirror());
    let mut raw = Raw::connect(&server).await;
    raw.send("GET /x?y=1 HTTP/1.1\r\nHost: A:8080\r\nConnection: close\r\n\r\n").await;
    let heard = raw.rest().await;
    assert!(heard.contains("GET http://A:8080/x?y=1\n"), "{heard}");
    assert!(heard.contains("host: A:8080\n"), "{heard}");

    let name = server.local_addr().to_string();
    router.publish(&binding("127.0.0.1", "/"), mirror());
    let response = h2_client().get(format!("http://{name}/x").parse().unwrap()).await.unwrap();
    let heard = text(response).await;
    assert_eq!(heard, format!("GET http://{name}/x\nhost: {name}\n"));
}

#[tokio::test]
async fn hop_by_hop_headers_end_here_and_the_rest_passes_in_order() {
    let (server, _router) = serve(mirror());
    let mut raw = Raw::connect(&server).await;
    raw.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x-a\r\nKeep-Alive: 1\r\nTE: trailers, deflate\r\n\
         Upgrade: websocket\r\nProxy-Authorization: x\r\nProxy-Connection: y\r\nX-A: 1\r\nX-B: \u{ff}\r\nX-A: 2\r\n\r\n",
    )
    .await;
    let heard = raw.rest().await;
    let (head, seen) = heard.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut lines: Vec<_> = seen.lines().skip(1).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["host: a", "te: trailers", "x-a: 1", "x-a: 2", "x-b: \u{ff}"]);
    assert!(seen.find("x-a: 1") < seen.find("x-a: 2"));
}

#[tokio::test]
async fn a_request_without_a_usable_host_is_a_bad_one() {
    let (server, _router) = serve(named("a"));
    for head in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\nConnection: close\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut raw = Raw::connect(&server).await;
        raw.send(head).await;
        let heard = raw.rest().await;
        assert!(heard.get(8..13) == Some(" 400 "), "{head:?}: {heard:?}");
    }
    assert_eq!(server.totals().responses(4), 7, "hyper answers the one that is no request");
}

#[tokio::test]
async fn requests_go_by_host_and_path_and_the_named_workload() {
    let (server, router) = serve(named("root"));
    router.publish(&binding("a", "/api"), named("api"));
    router.publish(&binding("*.apps.example", "/"), named("wild"));
    router.publish(&binding("b.team.svc", "/"), named("team"));
    let ask = async |host: &str, path: &str, wanted: &str| {
        let mut request = get(&server, path);
        request.headers_mut().insert("host", host.parse().unwrap());
        request.headers_mut().insert("x-workload-id", wanted.parse().unwrap());
        let response = client().request(request).await.unwrap();
        let status = response.status();
        (status, text(response).await)
    };
    let found = |name: &str| (StatusCode::OK, name.to_owned());
    assert_eq!(ask("A.:80", "/", "").await, found("root"));
    assert_eq!(ask("a", "/api?x", "").await, found("api"));
    assert_eq!(ask("a", "/apix", "").await, found("root"));
    assert_eq!(ask("x.y.apps.example", "/", "").await, found("wild"));
    assert_eq!(ask("b.team.svc.cluster.local", "/", "").await, found("team"));
    assert_eq!(ask("apps.example", "/", "").await.0, StatusCode::NOT_FOUND);
    router.publish(&binding("a", "/"), named("second"));
    for wanted in ["root", "second", "root"] {
        assert_eq!(ask("a", "/", wanted).await, found(wanted));
    }
}

#[tokio::test]
async fn each_failure_before_the_head_has_its_status() {
    let (server, router) = serve(Fake::new("a", |request| async move {
        Err(match request.uri().path() {
            "/busy" => CallError::Busy,
            "/gone" => CallError::Unavailable,
            "/late" => CallError::Deadline(std::time::Duration::from_secs(1)),
            "/panic" => panic!("a bug"),
            "/switch" => return Ok(Response::builder().status(101).body(full("")).unwrap()),
            _ => CallError::Guest(anyhow::anyhow!("secret detail")),
        })
    }));
    let cases = [
        ("/busy", 503, "busy", 14),
        ("/gone", 503, "not-ready", 14),
        ("/late", 504, "deadline", 4),
        ("/switch", 502, "bad-status", 13),
        ("/panic", 500, "host-failed", 13),
        ("/trap", 502, "guest-failed", 13),
    ];
    for (path, status, code, grpc_status) in cases {
        let response = client().request(get(&server, path)).await.unwrap();
        assert_eq!((response.status().as_u16(), reason(&response)), (status, code));
        assert_eq!(response.headers().contains_key("retry-after"), status == 503);
        let line = text(response).await;
        assert!(line.lines().count() == 1 && !line.contains("secret"), "{line}");

        let mut call = get(&server, path);
        call.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
        let response = client().request(call).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], grpc_status.to_string().as_str());
        assert_eq!(response.headers()["content-type"], "application/grpc");
    }
    let gone: Arc<dyn HttpTarget> = named("other");
    router.withdraw(&gone);
    let mut request = get(&server, "/");
    request.headers_mut().insert("host", "nobody".parse().unwrap());
    let response = client().request(request).await.unwrap();
    assert_eq!((response.status(), reason(&response)), (StatusCode::NOT_FOUND, "no-route"));
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    for client in [client(), h2_client()] {
        let (server, router) = serve(named("a"));
        router.publish(
            &binding("127.0.0.1", "/"),
            Fake::new("echo", |request| async move {
                let collected = request.into_body().collect().await.map_err(|error| CallError::Guest(error.into()))?;
                let mut trailers = collected.trailers().cloned().unwrap_or_default();
                trailers.insert("x-end", "1".parse().unwrap());
                let data = collected.to_bytes();
                Ok(Response::builder()
                    .header("trailer", "x-end")
                    .body(frames(vec![Ok(Frame::data(data)), Ok(Frame::trailers(trailers))]))
                    .unwrap())
            }),
        );
        let request = Request::post(format!("http://{}/", server.local_addr()))
            .header("te", "trailers")
            .body(Full::new(Bytes::from_static(b"hello")))
            .unwrap();
        let collected = client.request(request).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().map(|trailers| trailers["x-end"].clone()), Some("1".parse().unwrap()));
        assert_eq!(collected.to_bytes(), "hello");
    }
}

#[tokio::test]
async fn request_trailers_reach_the_guest() {
    let (server, _router) = serve(Fake::new("a", |request| async move {
        let trailers = request.into_body().collect().await.unwrap().trailers().cloned().unwrap_or_default();
        ok(format!("{:?}", trailers.get("x-sum")))
    }));
    let mut raw = Raw::connect(&server).await;
    raw.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\
              Connection: close\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n",
    )
    .await;
    assert!(raw.rest().await.ends_with("Some(\"7\")"));
}

#[tokio::test]
async fn a_failure_after_the_head_is_never_a_clean_end() {
    let (server, router) = serve(named("a"));
    let broken = Fake::new("broken", |_request| async move {
        let frames_then_error = vec![Ok(Frame::data(Bytes::from_static(b"part"))), Err(BodyError::InternalError(None))];
        Ok(Response::new(frames(frames_then_error)))
    });
    router.publish(&binding("127.0.0.1", "/"), broken);
    for client in [client(), h2_client()] {
        let uri = format!("http://{}/", server.local_addr()).parse().unwrap();
        let outcome = match client.get(uri).await {
            Ok(response) => response.into_body().collect().await.map(|_| ()).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        assert!(outcome.is_err());
    }
    let mut raw = Raw::connect(&server).await;
    raw.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await;
    let heard = raw.rest().await;
    assert!(!heard.contains("0\r\n\r\n"), "{heard}");
}

#[tokio::test]
async fn a_frame_leaves_when_the_guest_writes_it() {
    let (frame_tx, frame_rx) = tokio::sync::mpsc::channel::<&'static str>(1);
    let frame_rx = std::sync::Mutex::new(Some(frame_rx));
    let (server, _router) =
        serve(Fake::new("a", move |_request| {
            let frame_rx = frame_rx.lock().unwrap().take().unwrap();
            async move {
                let stream = futures::stream::unfold(frame_rx, |mut frame_rx| async move {
                    Some((frame_rx.recv().await?, frame_rx))
                });
                let body = http_body_util::StreamBody::new(
                    stream.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))),
                );
                Ok(Response::new(body.boxed_unsync()))
            }
        }));
    let mut body = client().request(get(&server, "/")).await.unwrap().into_body();
    for event in ["one", "two"] {
        frame_tx.send(event).await.unwrap();
        assert_eq!(within(body.frame()).await.unwrap().unwrap().into_data().unwrap(), event);
    }
    drop(frame_tx);
    assert!(within(body.frame()).await.is_none());
}

#[tokio::test]
async fn head_204_and_304_have_no_body_and_head_keeps_the_length() {
    let (server, _router) = serve(Fake::new("a", |request| async move {
        let status: u16 = request.uri().path().trim_start_matches('/').parse().unwrap();
        Ok(Response::builder().status(status).body(full("hello")).unwrap())
    }));
    for client in [client(), h2_client()] {
        let ask = async |method: Method, path: &str| {
            let uri = format!("http://{}{path}", server.local_addr());
            let request = Request::builder().method(method).uri(uri).header("host", "a").body(Full::default()).unwrap();
            let response = client.request(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let headers: HeaderMap = parts.headers;
            let length = headers.get("content-length").map(|value| value.to_str().unwrap().to_owned());
            (parts.status.as_u16(), length, body.collect().await.unwrap().to_bytes().len())
        };
        assert_eq!(ask(Method::HEAD, "/200").await, (200, Some("5".to_owned()), 0));
        assert_eq!(ask(Method::GET, "/204").await, (204, None, 0));
        assert_eq!(ask(Method::GET, "/304").await.2, 0);
        assert_eq!(ask(Method::GET, "/200").await, (200, Some("5".to_owned()), 5));
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_call() {
    let slow = Fake::new("slow", |_request| std::future::pending());
    let (server, _router) = serve(Arc::clone(&slow));
    let mut raw = Raw::connect(&server).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the call begins", || slow.in_flight() == 1).await;
    drop(raw);
    eventually("the call is cancelled", || slow.cancelled.load(Ordering::SeqCst) == 1).await;
    eventually("the connection ends", || server.connections() == 0).await;
}

#[tokio::test]
async fn a_large_body_streams_both_ways_at_once() {
    let (server, _router) = serve(Fake::new("a", |request| async move { Ok(Response::new(request.into_body())) }));
    let body = Bytes::from(vec![7; 8 << 20]);
    for client in [client(), h2_client()] {
        let request = get(&server, "/").map(|_| Full::new(body.clone()));
        let (mut parts, whole) = request.into_parts();
        parts.method = Method::POST;
        let response = client.request(Request::from_parts(parts, whole)).await.unwrap();
        assert_eq!(within(response.into_body().collect()).await.unwrap().to_bytes(), body);
    }
}

#[tokio::test]
async fn a_slow_reader_is_waited_for_and_holds_the_guest_back() {
    let written = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let (server, _router) = serve(Fake::new("a", move |_request| {
        let count = Arc::clone(&count);
        let chunks = futures::stream::iter(0..1024).map(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(Frame::data(Bytes::from_static(&[b'x'; 64 << 10])))
        });
        let body = http_body_util::StreamBody::new(chunks).boxed_unsync();
        async { Ok(Response::new(body)) }
    }));
    let mut raw = Raw::connect(&server).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    raw.until("\r\n\r\n").await;
    assert!(written.load(Ordering::SeqCst) < 512, "the sockets' buffers and ours do not hold 32 MiB");
    let heard = raw.rest().await;
    assert!(heard.len() > 64 << 20 && heard.ends_with("0\r\n\r\n"));
}
