//! What a component sends with: the host's rules, then the broker that is live.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::Access;
use super::broker::{BrokerError, Message};
use super::memory::Bus;
use super::subject;
use super::tenant::Tenant;
use crate::plugin::Facade;
use crate::types::WorkloadId;

/// Sending may take so long; then it fails, and the guest goes on.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// No guest waits longer for a reply: nobody remembers the question any more.
const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// What host functions find of one component.
#[derive(Debug)]
pub(super) struct Messenger {
    pub(super) workload: WorkloadId,
    pub(super) tenant: Arc<Tenant>,
    pub(super) facade: Arc<Facade<Access>>,
    /// Used when the memory is what is behind the facade: one for all versions of the workload.
    pub(super) _bus: Arc<Bus>,
}

impl Messenger {
    pub(super) async fn publish(&self, message: Message) -> Result<(), BrokerError> {
        let access = self.allowed(&message)?;
        let publish = access.link.broker.publish(&self.workload, message);
        let late = || BrokerError::Other(format!("not sent within {PUBLISH_TIMEOUT:?}"));
        timeout(PUBLISH_TIMEOUT, publish).await.unwrap_or_else(|_elapsed| Err(late()))
    }

    pub(super) async fn request(&self, message: Message, limit: Duration) -> Result<Message, BrokerError> {
        let access = self.allowed(&message)?;
        let limit = limit.min(REQUEST_TIMEOUT_MAX);
        let request = access.link.broker.request(&self.workload, message, limit);
        timeout(limit, request).await.unwrap_or(Err(BrokerError::Timeout(limit)))
    }

    /// Both subjects are checked: whoever replies would send where the guest may not.
    fn allowed(&self, message: &Message) -> Result<Arc<Access>, BrokerError> {
        let access = self.facade.live();
        for subject in std::iter::once(&message.subject).chain(&message.reply_to) {
            if !subject::is_subject(subject) {
                return Err(BrokerError::SubjectInvalid(subject.clone()));
            }
            if access.denies(subject).is_some() && !self.tenant.may_reply(subject, Instant::now()) {
                return Err(BrokerError::AccessDenied(subject.clone()));
            }
        }
        Ok(access)
    }
}
