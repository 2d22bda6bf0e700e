//! What a guest sees of a request, and what a client sees of its answer, in WASI 0.2 and 0.3.

use crate::support::http::{self, Answer, full, request, request_h2c};
use crate::support::{Standalone, Workload};

/// Both guests, each under its name.
async fn both() -> Standalone {
    let environment = r#"environment = { GREETING = "hello", EMPTY = "" }"#;
    let workloads = ["http2", "http3"].map(|guest| Workload::new(guest, guest).key(environment));
    Standalone::start("", &workloads).await
}

async fn over_both_protocols(host: &Standalone, method: &str, name: &str, path: &str) -> [Answer; 2] {
    let h1 = host.send(method, name, path, full("")).await;
    let h2 = http::send_h2c(host.addr, request_h2c(method, name, path, full(""))).await.unwrap();
    [h1, h2]
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_wasi_http_answer_over_both_protocols() {
    let host = both().await;
    for guest in ["http2", "http3"] {
        for answer in over_both_protocols(&host, "GET", &format!("{guest}.test"), "/").await {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.text(), format!("Hello from {guest}\n"));
            assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        }
        for answer in over_both_protocols(&host, "GET", &format!("{guest}.test"), "/env").await {
            assert_eq!(answer.text(), "EMPTY=\nGREETING=hello\n");
        }
        // A fresh instance for each request.
        for answer in over_both_protocols(&host, "GET", &format!("{guest}.test"), "/count").await {
            assert_eq!(answer.text(), "1\n");
        }
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn method_authority_and_path_reach_the_guest_as_the_client_sent_them() {
    let host = both().await;
    for guest in ["http2", "http3"] {
        let name = format!("{}.test:8080", guest.to_uppercase());
        for method in ["GET", "POST", "DELETE", "PATCH", "PURGE"] {
            for answer in over_both_protocols(&host, method, &name, "/request?a=%20b&c").await {
                let expected = format!("method={method}\nscheme=http\nauthority={name}\npath=/request?a=%20b&c\n");
                assert_eq!(answer.text(), expected);
            }
        }
        for answer in over_both_protocols(&host, "GET", &name, "/headers").await {
            assert!(answer.text().contains(&format!("host: {name}\n")), "{}", answer.text());
        }
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_pass_in_order_but_for_those_of_the_connection() {
    let host = both().await;
    for guest in ["http2", "http3"] {
        let mut request = request("GET", &format!("{guest}.test"), "/headers", full(""));
        for (name, value) in [("X-Many", "1"), ("x-many", "2"), ("connection", "keep-alive, te"), ("te", "trailers")] {
            request.headers_mut().append(name.parse::<hyper::header::HeaderName>().unwrap(), value.parse().unwrap());
        }
        request.headers_mut().append("x-bytes", hyper::header::HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        request.headers_mut().append("keep-alive", "timeout=5".parse().unwrap());
        request.headers_mut().append("x-forwarded-for", "10.0.0.1".parse().unwrap());
        let answer = http::send(host.addr, request).await;
        let lines: Vec<&[u8]> = answer.body.split(|byte| *byte == b'\n').collect();
        let place = |line: &[u8]| lines.iter().position(|other| *other == line);
        assert!(place(b"x-many: 1") < place(b"x-many: 2") && place(b"x-many: 1").is_some(), "{:?}", answer.body);
        for expected in [&b"x-bytes: \xff\xfe"[..], b"te: trailers", b"x-forwarded-for: 10.0.0.1"] {
            assert!(place(expected).is_some(), "{:?}", answer.body);
        }
        for gone in ["connection:", "keep-alive:"] {
            assert!(!lines.iter().any(|line| line.starts_with(gone.as_bytes())), "{:?}", answer.body);
        }
        let forbidden = host.get(&format!("{guest}.test"), "/set-header/connection/close").await;
        assert_eq!(forbidden.text(), "forbidden\n");
        let allowed = host.get(&format!("{guest}.test"), "/set-header/x-own/1").await;
        assert_eq!((allowed.text(), &allowed.headers["x-own"]), ("ok\n", &"1".parse().unwrap()));
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_statuses_without_content_have_no_body() {
    let host = both().await;
    for guest in ["http2", "http3"] {
        let name = format!("{guest}.test");
        for answer in over_both_protocols(&host, "HEAD", &name, "/").await {
            assert_eq!((answer.status.as_u16(), answer.text()), (200, ""));
        }
        for answer in over_both_protocols(&host, "HEAD", &name, "/length/1000/1000").await {
            assert_eq!((answer.text(), &answer.headers["content-length"]), ("", &"1000".parse().unwrap()));
        }
        for status in [204, 304, 201, 404, 500] {
            for answer in over_both_protocols(&host, "GET", &name, &format!("/status/{status}")).await {
                assert_eq!((answer.status.as_u16(), answer.text()), (status, ""));
            }
        }
        for answer in over_both_protocols(&host, "GET", &name, "/length/5/5").await {
            assert_eq!((answer.text(), &answer.headers["content-length"]), ("xxxxx", &"5".parse().unwrap()));
        }
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_prints_is_logged_line_by_line_with_its_name() {
    let host = both().await;
    for guest in ["http2", "http3"] {
        assert_eq!(host.get(&format!("{guest}.test"), "/print/3").await.text(), "printed 3\n");
        for (stream, text) in [("stdout", "stdout line 1"), ("stdout", "stdout line 3"), ("stderr", "stderr line")] {
            let wanted = |line: &crate::support::LogLine| {
                line.field("text").as_deref() == Some(text) && line.field("workload.name").as_deref() == Some(guest)
            };
            let line = host.process.wait_for_log(wanted).await;
            let field = |name| line.field(name).unwrap_or_default();
            assert_eq!((field("stream").as_str(), field("component").as_str()), (stream, guest));
            assert_eq!((field("workload.namespace").as_str(), line.level()), ("default", "INFO"));
            assert!(field("workload.id").ends_with(guest), "{line}");
        }
    }
    host.finish().await;
}
