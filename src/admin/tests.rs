//! The listener over a real socket, in front of a fake host.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::admin::{AdminPort, AdminServer, Check};
use crate::config::port::ConfigPort;

#[derive(Debug)]
struct Fake {
    is_ready: bool,
}

impl AdminPort for Fake {
    fn liveness(&self) -> Vec<Check> {
        vec![Check::required("control", true, "")]
    }

    fn readiness(&self) -> Vec<Check> {
        vec![
            Check::told("plugin wasi-keyvalue", false, "backend away"),
            Check::required("nats", self.is_ready, "connecting"),
        ]
    }

    fn metrics(&self) -> String {
        "washlet_config_generation 7\n".to_owned()
    }
}

impl ConfigPort for Fake {
    fn status(&self) -> Value {
        json!({ "generation": 7 })
    }

    fn reload(&self) -> BoxFuture<'static, Value> {
        ready(json!({ "outcome": "rejected" })).boxed()
    }

    fn check(&self) -> BoxFuture<'static, Value> {
        ready(json!({ "outcome": "applied" })).boxed()
    }
}

async fn ask(is_ready: bool, method: Method, path: &str) -> (StatusCode, String) {
    let bound = AdminServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = bound.serve(Arc::new(Fake { is_ready }), &Handle::current());
    let stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let request = Request::builder().method(method).uri(path).header("host", "admin").body(Empty::<Bytes>::new());
    let exchange = async {
        let response = sender.send_request(request.unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    tokio::select! {
        answer = exchange => answer,
        _closed = connection => panic!("closed before the answer"),
    }
}

#[tokio::test]
async fn a_probe_fails_for_what_is_required_and_tells_the_rest() {
    let (status, body) = ask(true, Method::GET, "/readyz").await;
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::OK, "plugin wasi-keyvalue: degraded (backend away)\nnats: ok (connecting)\n")
    );
    let (status, body) = ask(false, Method::GET, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.starts_with("nats: failed (connecting)\n"), "{body}");
    assert_eq!(ask(false, Method::GET, "/livez").await.0, StatusCode::OK);
}

#[tokio::test]
async fn status_metrics_and_outcomes_are_answered() {
    assert_eq!(ask(true, Method::GET, "/status").await.1, "{\n  \"generation\": 7\n}\n");
    assert_eq!(ask(true, Method::GET, "/metrics").await.1, "washlet_config_generation 7\n");
    assert_eq!(ask(true, Method::POST, "/reload").await.0, StatusCode::CONFLICT);
    assert_eq!(ask(true, Method::POST, "/check").await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_changes_something_is_not_done_by_reading() {
    assert_eq!(ask(true, Method::GET, "/reload").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(true, Method::POST, "/status").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(true, Method::GET, "/secret").await.0, StatusCode::NOT_FOUND);
}
