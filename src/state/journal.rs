//! The journal while the process runs: one task appends, many callers wait, and one flush serves all who wait.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{error, warn};

use crate::error::Chain;
use crate::state::directory::{open, write_whole};
use crate::state::format::{self, OPENING, Op, Records};
use crate::task;
use crate::types::WorkloadId;

/// Records on their way to the disk: more than the control plane lets in at once.
const QUEUE_MAX: usize = 4096;
/// Records that one flush serves.
const BATCH_MAX: usize = 512;
/// A disk that takes longer does not hold up an answer: the operator's patience for a status is 5 s.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);
/// A journal is written anew once it is this large and mostly holds what is over.
const COMPACT_BYTES_MIN: u64 = 1 << 20;

/// Whether a record is on the disk: what is not was logged, and would not be known after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    Yes,
    No,
}

/// Which start of an id a record speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// What is kept of workloads that were placed here. Cheap to clone; without a state directory it keeps nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    records: mpsc::Sender<Entry>,
    last_ticket: AtomicU64,
}

#[derive(Debug)]
enum Entry {
    Start {
        ticket: Ticket,
        id: WorkloadId,
        request: Bytes,
        done: oneshot::Sender<Recorded>,
    },
    /// Of one start, or of whatever the id stands for.
    End {
        ticket: Option<Ticket>,
        id: WorkloadId,
        done: oneshot::Sender<Recorded>,
    },
    EndAll,
    Heartbeat(SystemTime),
}

impl Journal {
    /// Takes up `file` in a task on `on`; it ends with the last clone of the journal.
    pub(crate) fn start(file: JournalFile, on: &Handle) -> Self {
        let (records, queue) = mpsc::channel(QUEUE_MAX);
        drop(task::spawn_on(on, "journal", run(file, queue)));
        // Starts that were read have no ticket: only their id ends them.
        Self(Some(Arc::new(Shared { records, last_ticket: AtomicU64::new(0) })))
    }

    /// Records an accepted start, in the order of the calls. The future says when it is on the disk.
    pub(crate) fn record_start(&self, id: &WorkloadId, request: Bytes) -> (Ticket, BoxFuture<'static, Recorded>) {
        let Some(shared) = &self.0 else { return (Ticket(0), nothing()) };
        let ticket = Ticket(shared.last_ticket.fetch_add(1, Ordering::Relaxed).saturating_add(1));
        let (done, recorded) = oneshot::channel();
        let entry = Entry::Start { ticket, id: id.clone(), request, done };
        (ticket, shared.send(entry, recorded))
    }

    /// The start with this ticket is over: it failed. A later start of the same id stays.
    pub(crate) fn record_failure(&self, id: &WorkloadId, ticket: Ticket) -> BoxFuture<'static, Recorded> {
        self.end(id, Some(ticket))
    }

    /// Whatever runs under `id` is over: it was stopped.
    pub(crate) fn record_stop(&self, id: &WorkloadId) -> BoxFuture<'static, Recorded> {
        self.end(id, None)
    }

    /// Nothing that was placed here is left.
    pub(crate) fn record_end_of_all(&self) {
        self.tell(Entry::EndAll);
    }

    /// The operator has heard of the host. Never waits; one that is lost is followed by another.
    pub(crate) fn record_heartbeat(&self) {
        self.tell(Entry::Heartbeat(SystemTime::now()));
    }

    fn end(&self, id: &WorkloadId, ticket: Option<Ticket>) -> BoxFuture<'static, Recorded> {
        let Some(shared) = &self.0 else { return nothing() };
        let (done, recorded) = oneshot::channel();
        shared.send(Entry::End { ticket, id: id.clone(), done }, recorded)
    }

    fn tell(&self, entry: Entry) {
        if let Some(shared) = &self.0
            && let Err(error) = shared.records.try_send(entry)
        {
            warn!(error = %error, "the journal takes nothing more");
        }
    }
}

impl Shared {
    fn send(&self, entry: Entry, recorded: oneshot::Receiver<Recorded>) -> BoxFuture<'static, Recorded> {
        if let Err(error) = self.records.try_send(entry) {
            error!(error = %error, "a workload is not journalled: a restart would not know of it");
            return futures::future::ready(Recorded::No).boxed();
        }
        let wait = async move {
            match timeout(FLUSH_TIME_MAX, recorded).await {
                Ok(recorded) => recorded.unwrap_or(Recorded::No),
                Err(_elapsed) => {
                    warn!(limit = ?FLUSH_TIME_MAX, "the disk of the journal is slow, going on without it");
                    Recorded::No
                }
            }
        };
        wait.boxed()
    }
}

fn nothing() -> BoxFuture<'static, Recorded> {
    futures::future::ready(Recorded::No).boxed()
}

async fn run(mut file: JournalFile, mut queue: mpsc::Receiver<Entry>) {
    loop {
        let mut batch = Vec::new();
        if queue.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return;
        }
        let written = task::blocking("journal", move || {
            file.take_in(batch);
            file
        });
        // Its panic was logged; what was handed over before it is on the disk, and nothing is recorded from here on.
        let Some(back) = written.await else { return };
        file = back;
    }
}

/// What a journal keeps of what was read.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    length: u64,
    live: HashMap<WorkloadId, Live>,
}

/// The record of a start that has not ended.
#[derive(Debug, Clone)]
struct Live {
    /// `None`: from before this process.
    ticket: Option<Ticket>,
    request: Range<u64>,
    /// For an order when written anew.
    number: u64,
}

impl Kept {
    pub(super) fn of(records: Records) -> Self {
        let mut live = HashMap::new();
        for (number, record) in (0_u64..).zip(records.records) {
            match record.op {
                Op::Start => {
                    let request = record.request.start as u64..record.request.end as u64;
                    live.insert(record.id, Live { ticket: None, request, number });
                }
                Op::End => {
                    live.remove(&record.id);
                }
            }
        }
        Self { length: records.whole as u64, live }
    }
}

/// What a batch changes, in its order; it holds once the batch is on the disk.
#[derive(Debug, Default)]
struct Changes(Vec<(WorkloadId, Option<Live>)>);

impl Changes {
    /// The start of `id` that has not ended, after these changes.
    fn live<'a>(&'a self, before: &'a HashMap<WorkloadId, Live>, id: &WorkloadId) -> Option<&'a Live> {
        let changed = self.0.iter().rev().find(|(changed, _live)| changed == id);
        changed.map_or_else(|| before.get(id), |(_id, live)| live.as_ref())
    }

    /// What is over after these changes.
    fn ended(self) -> impl Iterator<Item = WorkloadId> {
        self.0.into_iter().filter_map(|(id, live)| live.is_none().then_some(id))
    }

    fn apply(self, all: &mut HashMap<WorkloadId, Live>) {
        for (id, live) in self.0 {
            match live {
                Some(live) => drop(all.insert(id, live)),
                None => drop(all.remove(&id)),
            }
        }
    }
}

/// The journal on the disk. Calls block.
#[derive(Debug)]
pub(crate) struct JournalFile {
    path: PathBuf,
    file: File,
    /// Where the next record goes; what may lie behind it was never finished.
    length: u64,
    live: HashMap<WorkloadId, Live>,
    next_number: u64,
    /// Ended, and the disk did not take it: said again with the next batch, which the next heartbeat is at the latest.
    owed: HashSet<WorkloadId>,
    beat: File,
    /// Held as long as anybody writes here.
    _lock: File,
}

impl JournalFile {
    pub(super) fn open(directory: &Path, kept: Kept, beat: File, lock: File) -> io::Result<Self> {
        let path = directory.join("journal");
        let file = open(&path).map_err(io::Error::other)?;
        let Kept { length, live } = kept;
        let next_number = live.values().map(|live| live.number + 1).max().unwrap_or(0);
        let mut journal = Self { path, file, length, live, next_number, owed: HashSet::new(), beat, _lock: lock };
        if journal.length == 0 {
            journal.write_anew()?;
        } else {
            journal.file.set_len(journal.length)?;
        }
        Ok(journal)
    }

    /// Writes a batch, flushes once, and tells all who wait.
    fn take_in(&mut self, batch: Vec<Entry>) {
        let mut bytes = Vec::new();
        let mut waiting = Vec::new();
        let mut changes = Changes::default();
        for id in self.owed.iter().filter(|id| self.live.contains_key(*id)) {
            bytes.extend(format::encode(Op::End, id, &[]).0);
            changes.0.push((id.clone(), None));
        }
        for entry in batch {
            match entry {
                Entry::Start { ticket, id, request, done } => {
                    let begin = self.length + bytes.len() as u64;
                    let (record, range) = format::encode(Op::Start, &id, &request);
                    bytes.extend(record);
                    let request = begin + range.start as u64..begin + range.end as u64;
                    changes.0.push((id, Some(Live { ticket: Some(ticket), request, number: self.next_number })));
                    self.next_number += 1;
                    waiting.push(done);
                }
                Entry::End { ticket, id, done } => {
                    let is_meant = |live: &Live| ticket.is_none() || live.ticket == ticket;
                    if changes.live(&self.live, &id).is_some_and(is_meant) {
                        bytes.extend(format::encode(Op::End, &id, &[]).0);
                        changes.0.push((id, None));
                    }
                    waiting.push(done);
                }
                Entry::EndAll => {
                    let ids: HashSet<WorkloadId> =
                        changes.0.iter().map(|(id, _live)| id).chain(self.live.keys()).cloned().collect();
                    for id in ids {
                        bytes.extend(format::encode(Op::End, &id, &[]).0);
                        changes.0.push((id, None));
                    }
                }
                Entry::Heartbeat(at) => self.write_heartbeat(at),
            }
        }
        let written = if bytes.is_empty() { Ok(()) } else { self.append(&bytes) };
        let recorded = match written {
            Ok(()) => {
                changes.apply(&mut self.live);
                self.owed.clear();
                Recorded::Yes
            }
            Err(error) => {
                error!(journal = %self.path.display(), error = %Chain(&error), "cannot write the journal: a restart would not know what was placed here since");
                self.owed.extend(changes.ended());
                Recorded::No
            }
        };
        for done in waiting {
            // Who does not wait any more was answered.
            let _unheard = done.send(recorded);
        }
        if let Err(error) = self.compact() {
            warn!(journal = %self.path.display(), error = %error, "cannot write the journal anew");
        }
    }

    /// At the end, and onto the disk; after a failure the file is as before.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let appended = self.file.write_all_at(bytes, self.length).and_then(|()| self.file.sync_data());
        match &appended {
            Ok(()) => self.length += bytes.len() as u64,
            // What cannot even be cut off is overwritten by the next record.
            Err(_) => self.file.set_len(self.length).unwrap_or_default(),
        }
        appended
    }

    fn compact(&mut self) -> io::Result<()> {
        let live: u64 = self.live.values().map(|live| live.request.end - live.request.start).sum();
        if self.length < COMPACT_BYTES_MIN || live.saturating_mul(2) > self.length {
            return Ok(());
        }
        self.write_anew()
    }

    /// Writes what has not ended into a new file, in the same order.
    fn write_anew(&mut self) -> io::Result<()> {
        let mut bytes = OPENING.to_vec();
        let mut in_order: Vec<(&WorkloadId, &Live)> = self.live.iter().collect();
        in_order.sort_by_key(|(_id, live)| live.number);
        let mut moved = HashMap::new();
        for (id, live) in in_order {
            let begin = bytes.len() as u64;
            let (record, range) = format::encode(Op::Start, id, &self.read(&live.request)?);
            bytes.extend(record);
            let request = begin + range.start as u64..begin + range.end as u64;
            moved.insert(id.clone(), Live { request, ..live.clone() });
        }
        self.file = write_whole(&self.path, &bytes)?;
        self.length = bytes.len() as u64;
        self.live = moved;
        Ok(())
    }

    fn read(&self, range: &Range<u64>) -> io::Result<Vec<u8>> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = Vec::new();
        file.take(range.end - range.start).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// In place and not flushed: it counts for a minute, and a machine that lost its memory takes longer to come back.
    fn write_heartbeat(&self, at: SystemTime) {
        let millis = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        if let Err(error) = self.beat.write_all_at(format!("{millis:020}\n").as_bytes(), 0) {
            warn!(error = %error, "cannot note the heartbeat: a restart would begin without workloads");
        }
    }
}

#[cfg(test)]
impl JournalFile {
    /// From now on writes fail, or no longer.
    pub(super) fn break_disk(&mut self, is_broken: bool) {
        // A file that is open for reading only takes nothing.
        let file = if is_broken { File::open(&self.path) } else { open(&self.path).map_err(io::Error::other) };
        self.file = file.expect("the journal is there");
    }

    pub(super) fn take_in_end(&mut self, id: &WorkloadId) {
        let (done, _recorded) = oneshot::channel();
        self.take_in(vec![Entry::End { ticket: None, id: id.clone(), done }]);
    }

    pub(super) fn take_in_heartbeat(&mut self) {
        self.take_in(vec![Entry::Heartbeat(SystemTime::now())]);
    }
}
