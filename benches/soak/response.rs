//! Reads HTTP/1.1 responses from a blocking socket: as little as a client of one server needs, so that the load costs
//! less than what it loads.

use std::io::Read;

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answer(Answer),
    /// Before the first byte.
    ClosedUnanswered,
    /// In words.
    Broken(String),
}

/// A whole response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// Whether the server will close the connection.
    pub(crate) closes: bool,
}

/// The next response.
pub(crate) fn read_response(stream: &mut impl Read) -> Outcome {
    let mut received = Vec::with_capacity(1024);
    loop {
        match parse(&received) {
            Ok(Some(answer)) => return Outcome::Answer(answer),
            Ok(None) => {}
            Err(failure) => return Outcome::Broken(failure),
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) if received.is_empty() => return Outcome::ClosedUnanswered,
            Ok(0) => return Outcome::Broken("closed in the middle of an answer".to_owned()),
            Ok(length) => received.extend(buffer.iter().take(length)),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset && received.is_empty() => {
                return Outcome::ClosedUnanswered;
            }
            Err(error) => return Outcome::Broken(format!("no whole answer: {error}")),
        }
    }
}

/// `None`: there is more to come.
fn parse(received: &[u8]) -> Result<Option<Answer>, String> {
    let Some(head_end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = received.split_at(head_end + 4);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status")?;
    let header = |name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim).map(str::to_owned))
    };
    let closes = header("connection").is_some_and(|value| value.contains("close"));
    let body = match header("content-length") {
        Some(length) => {
            let length: usize = length.parse().map_err(|error| format!("content-length {length}: {error}"))?;
            body.get(..length).map(<[u8]>::to_vec)
        }
        None if header("transfer-encoding").is_some() => chunks(body)?,
        None => return Err("a body without an end".to_owned()),
    };
    let body = body.map(|body| String::from_utf8_lossy(&body).into_owned());
    Ok(body.map(|body| Answer { status, body, closes }))
}

/// The body of which `rest` is the chunks, if the last one is there.
fn chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|bytes| bytes == b"\r\n") else { return Ok(None) };
        let (line, after) = rest.split_at(end);
        let line = String::from_utf8_lossy(line);
        let length = usize::from_str_radix(&line, 16).map_err(|error| format!("chunk length {line:?}: {error}"))?;
        let (Some(chunk), Some(next)) = (after.get(2..2 + length), after.get(2 + length + 2..)) else {
            return Ok(None);
        };
        if length == 0 {
            return Ok(Some(body));
        }
        body.extend(chunk);
        rest = next;
    }
}
