//! The access log: one debug line per request, made only if someone listens.

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use http_body::Frame;
use tokio::time::Instant;
use tracing::{Level, debug, enabled};

use crate::types::WorkloadId;
use crate::workload::http::BodyError;

/// Written when the response is out, or given up.
#[derive(Debug)]
pub(super) struct AccessRecord {
    method: Method,
    uri: Uri,
    workload: Option<WorkloadId>,
    status: StatusCode,
    bytes: u64,
    began: Instant,
    is_broken: bool,
}

impl AccessRecord {
    /// `None` if nobody would read it: one load of an atomic.
    pub(super) fn new(method: &Method, uri: &Uri) -> Option<Box<Self>> {
        enabled!(Level::DEBUG).then(|| {
            Box::new(Self {
                method: method.clone(),
                uri: uri.clone(),
                workload: None,
                status: StatusCode::OK,
                bytes: 0,
                began: Instant::now(),
                is_broken: false,
            })
        })
    }

    pub(super) fn goes_to(&mut self, workload: &WorkloadId) {
        self.workload = Some(workload.clone());
    }

    pub(super) fn answers(&mut self, status: StatusCode) {
        self.status = status;
    }

    pub(super) fn sends(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        match frame {
            Some(Ok(frame)) => self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => self.is_broken = true,
            None => {}
        }
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        debug!(
            http.method = %self.method,
            http.host = self.uri.host(),
            // Without the query: it may carry secrets.
            http.path = self.uri.path(),
            http.status = self.status.as_u16(),
            workload.id = self.workload.as_ref().map(WorkloadId::as_str),
            bytes = self.bytes,
            broken = self.is_broken,
            took_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            "request served"
        );
    }
}
