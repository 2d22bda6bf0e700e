//! How the journal is written: records one after the other, each with a checksum. Pure.
//!
//! ```text
//! washlet journal 1
//! 9f86d081884c7d65 {"op":"start","id":"8c2f…","bytes":412,"sum":"60303ae22b998861"}
//! <412 bytes: the request as the operator sent it>
//! 4fc82b26aecb47d2 {"op":"end","id":"8c2f…","bytes":0,"sum":"d4735e3a265e16ee"}
//!
//! ```
//!
//! The sum before a head is of the head alone: so its length can be believed, and damage in the middle is told from a
//! record that was being written when the process died.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::types::WorkloadId;

/// The first line: another format has another number, and is not read.
pub(super) const OPENING: &[u8] = b"washlet journal 1\n";

/// Hexadecimal digits of a sum.
const SUM_LENGTH: usize = 16;

/// What a record says of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Op {
    Start,
    End,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head<'a> {
    op: Op,
    id: std::borrow::Cow<'a, str>,
    bytes: usize,
    sum: std::borrow::Cow<'a, str>,
}

/// One record, and where its request lies in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) op: Op,
    pub(super) id: WorkloadId,
    pub(super) request: Range<usize>,
}

/// What a journal holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) records: Vec<Record>,
    /// Bytes up to the end of the last whole record: what follows was being written when the process died, and nobody
    /// was told that it had been done.
    pub(super) whole: usize,
}

/// A journal that cannot be trusted: something other than its last record is damaged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DamagedJournal {
    /// Not a journal, or one of another version of the format.
    #[error("it does not begin like a journal of this version")]
    Opening,
    /// A record in the middle.
    #[error("the record at byte {0} is damaged")]
    Record(usize),
}

/// One record as bytes, and where in them the request is.
pub(super) fn encode(op: Op, id: &WorkloadId, request: &[u8]) -> (Vec<u8>, Range<usize>) {
    let head = Head { op, id: id.as_str().into(), bytes: request.len(), sum: sum(request).into() };
    let head = serde_json::to_string(&head).unwrap_or_default();
    let mut bytes = format!("{} {head}\n", sum(head.as_bytes())).into_bytes();
    let begin = bytes.len();
    bytes.extend_from_slice(request);
    let end = bytes.len();
    bytes.push(b'\n');
    (bytes, begin..end)
}

/// Reads a whole journal.
pub(super) fn decode(journal: &[u8]) -> Result<Records, DamagedJournal> {
    if !journal.starts_with(OPENING) {
        // Not even the opening was finished: nothing was ever recorded.
        return if OPENING.starts_with(journal) { Ok(Records::default()) } else { Err(DamagedJournal::Opening) };
    }
    let mut records = Records { records: Vec::new(), whole: OPENING.len() };
    while records.whole < journal.len() {
        let rest = journal.get(records.whole..).unwrap_or_default();
        match next(rest) {
            Next::Whole { op, id, request, length } => {
                let request = records.whole + request.start..records.whole + request.end;
                records.records.push(Record { op, id, request });
                records.whole += length;
            }
            Next::Torn => break,
            Next::Damaged => return Err(DamagedJournal::Record(records.whole)),
        }
    }
    Ok(records)
}

enum Next {
    Whole {
        op: Op,
        id: WorkloadId,
        request: Range<usize>,
        length: usize,
    },
    /// Damaged, and the last one.
    Torn,
    Damaged,
}

fn next(rest: &[u8]) -> Next {
    let Some(line_end) = rest.iter().position(|byte| *byte == b'\n') else { return Next::Torn };
    let begin = line_end + 1;
    let Some(Head { op, id, bytes, sum: expected }) = head(rest.get(..line_end).unwrap_or_default()) else {
        return if begin == rest.len() { Next::Torn } else { Next::Damaged };
    };
    let Some(end) = begin.checked_add(bytes).filter(|end| *end < rest.len()) else { return Next::Torn };
    let length = end + 1;
    if sum(rest.get(begin..end).unwrap_or_default()) == expected && rest.get(end) == Some(&b'\n') {
        return Next::Whole { op, id: WorkloadId::from(&*id), request: begin..end, length };
    }
    if length == rest.len() { Next::Torn } else { Next::Damaged }
}

fn head(line: &[u8]) -> Option<Head<'_>> {
    let (expected, head) = line.split_at_checked(SUM_LENGTH)?;
    let head = head.strip_prefix(b" ")?;
    if sum(head).as_bytes() != expected {
        return None;
    }
    serde_json::from_slice(head).ok()
}

/// Against tears and bit rot, not against whoever may write here.
fn sum(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().take(SUM_LENGTH / 2).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(records: &[(Op, &str, &str)]) -> Vec<u8> {
        let mut bytes = OPENING.to_vec();
        for (op, id, request) in records {
            bytes.extend(encode(*op, &WorkloadId::from(*id), request.as_bytes()).0);
        }
        bytes
    }

    #[test]
    fn records_come_back_with_their_requests_even_with_lines_in_them() {
        let bytes = journal(&[(Op::Start, "a", "{\n\"x\":1}\n"), (Op::Start, "b \"\n", ""), (Op::End, "a", "")]);
        let read = decode(&bytes).unwrap();
        let seen: Vec<_> =
            read.records.iter().map(|r| (r.op, r.id.as_str(), bytes.get(r.request.clone()).unwrap())).collect();
        let expected: Vec<(Op, &str, &[u8])> =
            vec![(Op::Start, "a", b"{\n\"x\":1}\n"), (Op::Start, "b \"\n", b""), (Op::End, "a", b"")];
        assert_eq!(seen, expected);
        assert_eq!(read.whole, bytes.len());
    }

    #[test]
    fn a_journal_cut_anywhere_gives_the_records_before_the_cut() {
        let bytes = journal(&[(Op::Start, "a", "first"), (Op::Start, "b", "second"), (Op::End, "a", "")]);
        let whole = decode(&bytes).unwrap().records;
        for cut in 0..bytes.len() {
            let read = decode(bytes.get(..cut).unwrap()).unwrap();
            assert!(read.records.len() < whole.len() && read.records.iter().eq(whole.iter().take(read.records.len())));
            assert!(read.whole <= cut);
        }
    }

    #[test]
    fn damage_is_never_taken_for_a_record() {
        let bytes = journal(&[(Op::Start, "a", "first"), (Op::Start, "b", "second"), (Op::End, "a", "")]);
        let whole = decode(&bytes).unwrap().records;
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            *damaged.get_mut(at).unwrap() ^= 0x01;
            // Refused, or cut short before the damage: never a record that was not written.
            if let Ok(read) = decode(&damaged) {
                assert!(read.records.len() == whole.len() - 1 && read.records.iter().eq(&whole[..2]), "byte {at}");
            }
        }
        let middle = OPENING.len() + encode(Op::Start, &WorkloadId::from("a"), b"first").0.len() - 3;
        let mut damaged = bytes;
        *damaged.get_mut(middle).unwrap() ^= 0x01;
        assert_eq!(decode(&damaged), Err(DamagedJournal::Record(OPENING.len())));
        assert_eq!(decode(b"something else entirely"), Err(DamagedJournal::Opening));
    }
}
