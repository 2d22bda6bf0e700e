//! Answers "Hello from washlet", or the text of the environment variable GREETING.

use wasip2::cli::environment::get_environment;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(_request: IncomingRequest, response_out: ResponseOutparam) {
        let greeting = get_environment()
            .into_iter()
            .find(|(name, _)| name == "GREETING")
            .map_or_else(|| "Hello from washlet".to_owned(), |(_, value)| value);

        let headers = Fields::new();
        let content_type = b"text/plain; charset=utf-8".to_vec();
        headers.append("content-type", &content_type).expect("content-type is a header a response may have");
        let response = OutgoingResponse::new(headers);
        let body = response.body().expect("a new response has a body");
        ResponseOutparam::set(response_out, Ok(response));

        // Writing fails when the client has gone; there is nobody left to tell.
        let _client_gone = write(&body, format!("{greeting}\n").as_bytes());
        let _client_gone = OutgoingBody::finish(body, None);
    }
}

/// Writes `text` in the portions that `blocking-write-and-flush` takes, at most 4096 bytes each.
fn write(body: &OutgoingBody, text: &[u8]) -> Result<(), wasip2::io::streams::StreamError> {
    let stream = body.write().expect("the stream of a new body is taken once");
    text.chunks(4096).try_for_each(|portion| stream.blocking_write_and_flush(portion))
}
