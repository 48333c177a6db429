//! What may be asked of a table record by record, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::field::FieldType;
use super::view::FieldView;
use super::view::RecordView;
use super::view::TableView;

/// Cells by field id (or, over REST, by field name where no id matches): JSON as a reader sees it.
pub type Cells = BTreeMap<String, Value>;

/// A question or a command. Answered once; a write when it is durable.
#[derive(Debug, Clone, PartialEq)]
pub enum TableRequest {
    /// The table itself.
    Describe,
    /// Records in their order.
    Page {
        /// Where the page before ended.
        after: Option<Position>,
        /// At most so many.
        limit: usize,
        /// Only these fields (ids or names); `None` for all.
        fields: Option<Vec<String>>,
        /// Also those that are marked as deleted.
        include_deleted: bool,
    },
    /// One record, deleted or not.
    Record {
        /// Its id.
        id: String,
    },
    /// A change, in one transaction.
    Write(Box<Write>),
}

/// Records in one request from which on it takes the engine milliseconds.
const WEIGHTY: usize = 200;

impl TableRequest {
    /// Whether it creates a table that is not there.
    #[must_use]
    pub fn creates(&self) -> bool {
        matches!(self, Self::Write(write) if write.command.creates())
    }

    /// Whether it takes so long that others should not wait for it on the same thread.
    #[must_use]
    pub fn is_weighty(&self) -> bool {
        match self {
            Self::Page { limit, .. } => *limit > WEIGHTY,
            Self::Write(write) => match &write.command {
                Command::CreateRecords { records, .. } => records.len() > WEIGHTY,
                Command::PatchRecords { records, .. } => records.len() > WEIGHTY,
                _ => false,
            },
            Self::Describe | Self::Record { .. } => false,
        }
    }
}

/// A place between records: just behind the one with this order key and id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Its order key.
    pub order: String,
    /// Its id, which breaks ties.
    pub id: String,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// What to do.
    pub command: Command,
    /// Who asks.
    pub user: Option<Arc<str>>,
    /// To be done once, however often it is asked.
    pub once: Option<Once>,
    /// What the caller named it, to find its events again.
    pub correlation_id: Option<Arc<str>>,
    /// The connection on which it came, where it has a number.
    pub peer: Option<u64>,
    /// What must hold for it to be carried out.
    pub guard: Option<Guard>,
}

/// What every record that a command names must show: for example that the caller wrote it.
///
/// A record that is not there shows nothing, and is refused as `NOT_FOUND`, whatever the command would make of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    /// The field: its id, or its name.
    pub field: String,
    /// What it must show.
    pub is: Value,
    /// What the caller is told when it does not, with `FORBIDDEN`.
    pub message: String,
}

/// What makes a repeated request known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// The caller's `Idempotency-Key`, with the caller.
    pub key: Arc<str>,
    /// What was asked: another request under the same key is a mistake.
    pub fingerprint: u64,
}

/// What to change.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Create the table, with fields. Refused when it is there.
    CreateTable {
        /// Its title.
        title: Option<String>,
        /// Its fields, in order.
        fields: Vec<NewField>,
        /// Its settings, as in [`super::view::TableView::settings`].
        settings: Option<serde_json::Map<String, Value>>,
    },
    /// Add a field at the end, or behind another one. Creates the table when there is none.
    AddField(NewField),
    /// Change a field.
    ChangeField {
        /// Its id.
        id: String,
        /// What to change.
        patch: FieldPatch,
    },
    /// Mark a field as deleted.
    DeleteField {
        /// Its id.
        id: String,
    },
    /// Create records, in order.
    CreateRecords {
        /// Them.
        records: Vec<NewRecord>,
        /// Whether they are an import: only the events say so.
        import: bool,
    },
    /// Change records: all of them or none.
    PatchRecords {
        /// How each is to change.
        records: Vec<RecordPatch>,
        /// What a stale `expected_version` means.
        on_conflict: OnConflict,
        /// Whether a refusal lists a result for each record.
        is_batch: bool,
    },
    /// Change a record, or create it when it is not there; not in a `table:`, where records are created knowingly.
    PutRecord {
        /// How it is to change. `expected_version: Some(0)` asks for a record that is not there yet; any other version is
        /// `NOT_FOUND` when it is not.
        patch: RecordPatch,
        /// What a stale `expected_version` means.
        on_conflict: OnConflict,
    },
    /// Set one flag of a field that holds flags: somebody read a message, for example. A record that has it already stays
    /// as it is.
    Flag {
        /// The record.
        row: String,
        /// The field.
        field: String,
        /// The flag: 1 to 255 bytes.
        flag: String,
    },
    /// Change one nested component of a record.
    Nested {
        /// The record. It is created when a component is, and it is not there.
        row: String,
        /// What to do.
        op: NestedOp,
        /// The version of the record that the caller knows.
        expected_version: Option<u64>,
        /// What a stale `expected_version` means; a component counts as one field.
        on_conflict: OnConflict,
    },
    /// Mark a record as deleted.
    DeleteRecord {
        /// Its id.
        id: String,
        /// Refused when the record has another version.
        expected_version: Option<u64>,
    },
    /// Take the mark away.
    RestoreRecord {
        /// Its id.
        id: String,
    },
}

/// What to do with a nested component. `parentId` in its content is the component that it lies in.
#[derive(Debug, Clone, PartialEq)]
pub enum NestedOp {
    /// Add one.
    Create {
        /// Its id; made by the server when there is none.
        id: Option<String>,
        /// All of it: any JSON by key; `props` is an object, and `id` in it means nothing.
        content: serde_json::Map<String, Value>,
    },
    /// Change one.
    Update {
        /// Its id.
        id: String,
        /// Keys to set; [`Value::Null`] takes one away. `props` is an object of the same kind: its keys are merged.
        updates: serde_json::Map<String, Value>,
    },
    /// Mark one as deleted.
    Delete {
        /// Its id.
        id: String,
    },
}

impl Command {
    /// Whether it creates a table that is not there, or is there no more.
    #[must_use]
    pub fn creates(&self) -> bool {
        matches!(self, Self::CreateTable { .. } | Self::AddField(_))
    }

    /// Whether it needs a document that is there. One that does not begins a document that never was, but revives none
    /// that was deleted: it was sent by somebody who did not know.
    #[must_use]
    pub fn needs_document(&self) -> bool {
        !self.creates() && !matches!(self, Self::CreateRecords { .. } | Self::PutRecord { .. } | Self::Nested { .. })
    }

    /// The records that it is about; not those that [`Self::CreateRecords`] makes.
    pub(super) fn named(&self) -> Vec<&str> {
        match self {
            Self::PatchRecords { records, .. } => records.iter().map(|patch| patch.id.as_str()).collect(),
            Self::PutRecord { patch, .. } => vec![&patch.id],
            Self::Nested { row, .. } | Self::Flag { row, .. } => vec![row],
            Self::DeleteRecord { id, .. } | Self::RestoreRecord { id } => vec![id],
            Self::CreateTable { .. }
            | Self::AddField(_)
            | Self::ChangeField { .. }
            | Self::DeleteField { .. }
            | Self::CreateRecords { .. } => vec![],
        }
    }
}

/// A field to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewField {
    /// Its id; made by the server when there is none.
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: FieldType,
    /// Width in pixels.
    pub width: Option<f64>,
    /// The field behind which it goes; at the end when there is none.
    pub after: Option<String>,
    /// Whether it names the record.
    pub primary: bool,
    /// The rest of it, as in [`FieldView::options`].
    pub options: serde_json::Map<String, Value>,
}

/// Changes to a field; `None` leaves a property as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FieldPatch {
    /// A new name.
    pub name: Option<String>,
    /// A new type. Cells stay as they are and are read as the new type.
    pub kind: Option<FieldType>,
    /// A new width in pixels.
    pub width: Option<f64>,
    /// The field behind which it goes; `Some(None)` puts it first.
    pub after: Option<Option<String>>,
    /// Whether it names the record.
    pub primary: Option<bool>,
    /// Options to set; [`Value::Null`] takes one away.
    pub options: serde_json::Map<String, Value>,
    /// `Some(false)` restores a deleted field.
    pub deleted: Option<bool>,
}

/// A record to be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewRecord {
    /// Its id; made by the server when there is none.
    pub id: Option<String>,
    /// Its cells.
    pub cells: Cells,
    /// The record behind which it goes: `None` at the end, `Some(None)` first.
    pub after: Option<Option<String>>,
}

/// Changes to a record.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecordPatch {
    /// Its id.
    pub id: String,
    /// Cells to set; [`Value::Null`] clears one.
    pub cells: Cells,
    /// The record behind which it goes: `None` leaves it where it is, `Some(None)` puts it first.
    pub after: Option<Option<String>>,
    /// Its height in pixels, 1 to 2000: `None` leaves it.
    pub height: Option<f64>,
    /// The version that the caller knows.
    pub expected_version: Option<u64>,
}

/// What a stale `expectedVersion` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// A conflict only if one of the requested fields changed since.
    #[default]
    Field,
    /// Any change since is a conflict.
    Record,
    /// The caller wins.
    Force,
}

/// The answer to a [`TableRequest`].
#[derive(Debug, Clone, PartialEq)]
pub enum TableAnswer {
    /// To [`TableRequest::Describe`] and [`Command::CreateTable`].
    Table(TableView),
    /// To [`TableRequest::Page`]: the records, and where the next page starts.
    Page {
        /// The records.
        records: Vec<RecordView>,
        /// `None` at the end.
        next: Option<Position>,
        /// Where the table stands.
        revision: u64,
    },
    /// To [`TableRequest::Record`], and to commands about records, in their order.
    Records(Vec<Done>),
    /// To commands about one field.
    Field(FieldView),
    /// To [`Command::Nested`].
    Nested {
        /// The component.
        id: String,
        /// The record that has it.
        row: Done,
    },
}

/// A record, and what came of a command about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The record as it is now.
    pub record: RecordView,
    /// When `expectedVersion` was stale and nothing stood in the way: what had happened since.
    pub merged: Option<Merged>,
}

/// A change that was made over others that it had not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The first and the last version that the caller had not seen.
    pub over: (u64, u64),
    /// Fields that changed in them.
    pub changed_since: Vec<String>,
}
