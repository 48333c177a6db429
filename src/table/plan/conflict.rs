//! Whether a writer knew what it changes: versions, and the words of a conflict.

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use syncline_protocol::ErrorCode;

use super::Sight;
use super::cells::Wish;
use crate::clock::rfc3339;
use crate::table::command::Merged;
use crate::table::command::OnConflict;
use crate::table::content::Raw;
use crate::table::field;
use crate::table::read::record_view;
use crate::table::refused::Refused;
use crate::table::state::FieldMark;
use crate::table::state::Row;

/// The version that a writer knows, where it matters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expectation {
    version: Option<u64>,
    takes_any_change: bool,
}

impl Expectation {
    pub(super) fn of(version: Option<u64>, on_conflict: OnConflict) -> Self {
        let version = version.filter(|_| on_conflict != OnConflict::Force);
        Self { version, takes_any_change: on_conflict == OnConflict::Record }
    }

    /// Refuses to create a record of which the writer knows a version.
    pub(super) fn of_none(self, id: &str) -> Result<(), Refused> {
        match self.version {
            None | Some(0) => Ok(()),
            Some(_) => Err(missing(id)),
        }
    }
}

/// There is no such record.
pub(super) fn missing(id: &str) -> Refused {
    Refused::new(ErrorCode::NotFound, "there is no such record").with("recordId", id)
}

/// What a writer wants of a record, as far as a conflict can be about it.
pub(super) trait Claim {
    /// Under which id its versions are kept.
    fn field(&self) -> &str;
    /// What is wanted.
    fn wanted(&self) -> Value;
    /// What is there.
    fn current(&self, raw: &Raw) -> Value;
}

impl Claim for Wish<'_> {
    fn field(&self) -> &str {
        self.column.id()
    }

    fn wanted(&self) -> Value {
        self.value.clone()
    }

    fn current(&self, raw: &Raw) -> Value {
        self.column.read(raw)
    }
}

/// Lets the wishes pass or not; says what happened in between if that did not matter.
///
/// # Errors
/// `CONCURRENT_EDIT` when it did matter, `VERSION_AHEAD` for a version that the record never had.
pub(super) fn judge(
    sight: &Sight<'_>,
    id: &Arc<str>,
    row: &Row,
    expectation: Expectation,
    wishes: &[impl Claim],
) -> Result<Option<Merged>, Refused> {
    let Some(expected) = expectation.version else { return Ok(None) };
    match expected.cmp(&row.version) {
        Ordering::Equal => Ok(None),
        Ordering::Greater => Err(ahead(sight, id, row, expected)),
        Ordering::Less => {
            let is_disputed = |field: &str| expectation.takes_any_change || version_of(row, field) > expected;
            let disputed: Vec<_> = wishes.iter().filter(|wish| is_disputed(wish.field())).collect();
            if disputed.is_empty() && !expectation.takes_any_change {
                return Ok(Some(merged(row, expected)));
            }
            Err(conflict(sight, id, row, expected, &disputed))
        }
    }
}

/// The record is deleted, and changes to it would be lost from sight.
pub(super) fn deleted(sight: &Sight<'_>, id: &str, row: &Row) -> Refused {
    let refused = Refused::new(ErrorCode::RecordDeleted, "the record is deleted; restore it first");
    refused.with("doc", sight.doc).with("recordId", id).with("currentVersion", row.version)
}

fn ahead(sight: &Sight<'_>, id: &str, row: &Row, expected: u64) -> Refused {
    let message = "the record never had this version; was the server restored from a backup?";
    Refused::new(ErrorCode::VersionAhead, message)
        .with("doc", sight.doc)
        .with("recordId", id)
        .with("expectedVersion", expected)
        .with("currentVersion", row.version)
        .with("epoch", sight.epoch.0)
}

fn merged(row: &Row, expected: u64) -> Merged {
    Merged { over: (expected + 1, row.version), changed_since: changed_since(row, expected) }
}

fn conflict(sight: &Sight<'_>, id: &Arc<str>, row: &Row, expected: u64, disputed: &[&impl Claim]) -> Refused {
    let raw = (sight.raw)(id);
    let fields: Vec<Value> = disputed.iter().map(|wish| dispute(row, *wish, &wish.current(&raw))).collect();
    let current = fields.first().map_or(Value::Null, |field| field["currentValue"].clone());
    let record = record_view(sight.table, id, &raw).map(|record| record.json());
    Refused::new(ErrorCode::ConcurrentEdit, "the record has changed since the version that you know")
        .with("doc", sight.doc)
        .with("recordId", &**id)
        .with("expectedVersion", expected)
        .with("currentVersion", row.version)
        .with("currentValue", current)
        .with("fields", fields)
        .with("record", record.unwrap_or_default())
        .with("changedSince", changed_since(row, expected))
        .with("retry", json!({"expectedVersion": row.version}))
}

/// One field over which there is a conflict. `currentVersion` 0 and nobody: it was never written.
fn dispute(row: &Row, wish: &impl Claim, current: &Value) -> Value {
    let mark = mark_of(row, wish.field());
    json!({
        "fieldId": wish.field(),
        "yourValue": wish.wanted(),
        "currentValue": current,
        "currentVersion": mark.map_or(0, |mark| mark.version),
        "updatedBy": mark.and_then(|mark| mark.stamp.user.as_deref()),
        "updatedAt": mark.map(|mark| rfc3339(mark.stamp.at_ms)),
    })
}

fn changed_since(row: &Row, expected: u64) -> Vec<String> {
    // Nested components have marks too, and are no fields.
    let cells = row.fields.iter().filter(|mark| mark.version > expected && !field::is_reserved(&mark.field));
    cells.map(|mark| mark.field.to_string()).collect()
}

fn version_of(row: &Row, field: &str) -> u64 {
    mark_of(row, field).map_or(0, |mark| mark.version)
}

fn mark_of<'r>(row: &'r Row, field: &str) -> Option<&'r FieldMark> {
    row.fields.binary_search_by(|mark| (*mark.field).cmp(field)).ok().map(|at| &row.fields[at])
}

/// Most bytes of JSON about conflicts in one answer. Beyond it, records are named with their versions only, and their
/// content is left to be read.
const DETAILS_BYTES_MAX: usize = 1024 * 1024;

/// What came of one record of a batch.
pub(super) struct Verdict<'a> {
    pub(super) id: &'a str,
    /// Its version; 0 when it is not there.
    pub(super) version: u64,
    /// `None` when it was not in the way.
    pub(super) refused: Option<Refused>,
}

/// The refusal of a batch: what came, or would have come, of each of its records.
///
/// Its code is that of the first record in the way; one that is not there yields to one that has changed.
pub(super) fn of_batch(sight: &Sight<'_>, verdicts: Vec<Verdict<'_>>) -> Refused {
    let refusals = || verdicts.iter().filter_map(|verdict| verdict.refused.as_ref());
    let changed = refusals().find(|refused| refused.code != ErrorCode::NotFound);
    let code = changed.or(refusals().next()).map_or(ErrorCode::ConcurrentEdit, |refused| refused.code);
    let message = format!("{} of {} records are in the way; nothing was changed", refusals().count(), verdicts.len());
    let mut room = DETAILS_BYTES_MAX;
    let result = |verdict| Value::Object(result(verdict, &mut room));
    let results: Vec<Value> = verdicts.into_iter().map(result).collect();
    Refused::new(code, message).with("doc", sight.doc).with("results", results)
}

fn result(Verdict { id, version, refused }: Verdict<'_>, room: &mut usize) -> Map<String, Value> {
    let mut result = Map::from_iter([("recordId".to_owned(), id.into())]);
    let Some(refused) = refused else {
        result.insert("status".to_owned(), "ok".into());
        result.insert("currentVersion".to_owned(), version.into());
        return result;
    };
    let status = if refused.code == ErrorCode::NotFound { "missing" } else { "conflict" };
    result.insert("status".to_owned(), status.into());
    result.insert("code".to_owned(), refused.code.word().into());
    result.insert("message".to_owned(), refused.message.into());
    let mut details = refused.data;
    details.remove("doc");
    let bytes = details.iter().map(|(key, value)| crate::table::limits::entry_bytes(key, value)).sum();
    if let Some(left) = room.checked_sub(bytes) {
        *room = left;
    } else {
        details.retain(|key, _| matches!(key.as_str(), "expectedVersion" | "currentVersion" | "retry"));
    }
    result.extend(details);
    result
}
