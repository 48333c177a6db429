//! What callers send about tables: the shapes of bodies, and the commands that they become.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Deserializer;
use serde::de;
use serde_json::Map;
use serde_json::Value;
use syncline_protocol::ErrorCode;
use utoipa::ToSchema;

use super::given::objects;
use crate::http::problem::Problem;
use crate::table::command::Command;
use crate::table::command::FieldPatch;
use crate::table::command::NewField;
use crate::table::command::NewRecord;
use crate::table::command::OnConflict;
use crate::table::command::RecordPatch;
use crate::table::field::FieldType;

/// Records in one request: what a table should have at most.
pub(in crate::http) const RECORDS_MAX: usize = 50_000;
/// Fields in one request: more than a table can have.
const FIELDS_MAX: usize = 1_000;
/// Properties of a field that are not options, and are not set like one.
const NOT_OPTIONS: [&str; 2] = ["id", "order"];

/// A table to be.
#[derive(Deserialize, ToSchema, Default)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = NewTable)]
pub(in crate::http) struct TableInput {
    title: Option<String>,
    /// In order.
    #[serde(default, deserialize_with = "objects")]
    fields: Vec<FieldInput>,
    /// `staleOffline` (`crdt`, `latest-arrival` or `online-wins`), `components` (true where records have nested ones), and
    /// whatever else an application keeps there.
    #[schema(value_type = Option<Object>)]
    settings: Option<serde_json::Map<String, Value>>,
}

/// A field to be. Further properties are its options: `choices`, `format`, `precision`, `min`, `max`, `required`,
/// `unique`, `collab`, and whatever else a client keeps there.
#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an object")]
#[schema(as = NewField)]
pub(in crate::http) struct FieldInput {
    /// Made by the server when there is none.
    id: Option<String>,
    name: String,
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "text")]
    kind: TypeWord,
    /// Pixels.
    width: Option<f64>,
    /// The id of the field behind which it goes; at the end when there is none.
    after: Option<String>,
    /// Whether it names the record.
    #[serde(default)]
    primary: bool,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    options: Map<String, Value>,
}

/// Changes to a field; what is left out stays. Further properties are its options; null takes one away.
#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an object")]
#[schema(as = FieldChange)]
pub(in crate::http) struct FieldChangeInput {
    name: Option<String>,
    /// Cells stay as they are, and are read as the new type.
    #[serde(rename = "type")]
    #[schema(value_type = Option<String>, example = "number")]
    kind: Option<TypeWord>,
    /// Pixels.
    width: Option<f64>,
    /// The id of the field behind which it goes; null puts it first.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    after: Option<Option<String>>,
    primary: Option<bool>,
    /// `false` restores a deleted field.
    deleted: Option<bool>,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    options: Map<String, Value>,
}

/// Records to be, in order.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = NewRecords)]
pub(in crate::http) struct RecordsInput {
    #[serde(deserialize_with = "objects")]
    records: Vec<RecordInput>,
}

/// A record to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = NewRecord)]
pub(in crate::http) struct RecordInput {
    /// Made by the server when there is none.
    id: Option<String>,
    /// By the field's id, or its name where no id matches.
    #[serde(default)]
    #[schema(value_type = Object)]
    cells: BTreeMap<String, Value>,
    /// The id of the record behind which it goes; null puts it first; at the end when left out.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    after: Option<Option<String>>,
}

/// Changes to a record.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
#[schema(as = RecordChange)]
pub(in crate::http) struct PatchInput {
    /// By the field's id, or its name where no id matches; null clears a cell.
    #[serde(default)]
    #[schema(value_type = Object)]
    cells: BTreeMap<String, Value>,
    /// The id of the record behind which it goes; null puts it first; it stays where it is when left out.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    after: Option<Option<String>>,
    /// Pixels, 1 to 2000.
    height: Option<f64>,
    /// The version that the caller has seen.
    pub(super) expected_version: Option<u64>,
    /// What it means that another version is there.
    pub(super) on_conflict: Option<OnConflictWord>,
}

/// Changes to records: all of them or none.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
#[schema(as = RecordChanges)]
pub(in crate::http) struct BatchInput {
    #[serde(deserialize_with = "objects")]
    records: Vec<BatchRecordInput>,
    /// What it means that another version is there.
    on_conflict: Option<OnConflictWord>,
}

/// Changes to one of several records.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
#[schema(as = RecordChangeOfMany)]
pub(in crate::http) struct BatchRecordInput {
    id: String,
    /// By the field's id, or its name where no id matches; null clears a cell.
    #[serde(default)]
    #[schema(value_type = Object)]
    cells: BTreeMap<String, Value>,
    /// The id of the record behind which it goes; null puts it first; it stays where it is when left out.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    after: Option<Option<String>>,
    /// Pixels, 1 to 2000.
    height: Option<f64>,
    /// The version that the caller has seen.
    expected_version: Option<u64>,
}

/// What a stale `expectedVersion` means: `field`, a conflict if one of the fields changed since; `record`, a conflict
/// whatever changed; `force`, nothing.
#[derive(Deserialize, ToSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
#[schema(as = OnConflict)]
pub(in crate::http) enum OnConflictWord {
    Field,
    Record,
    Force,
}

/// A field type by its word.
pub(in crate::http) struct TypeWord(FieldType);

impl<'de> Deserialize<'de> for TypeWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        FieldType::parse(&word).map(Self).ok_or_else(|| {
            let words = FieldType::ALL.map(FieldType::word).join(", ");
            de::Error::custom(format_args!("expected one of {words}"))
        })
    }
}

/// Tells `null` from nothing.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl From<OnConflictWord> for OnConflict {
    fn from(word: OnConflictWord) -> Self {
        match word {
            OnConflictWord::Field => Self::Field,
            OnConflictWord::Record => Self::Record,
            OnConflictWord::Force => Self::Force,
        }
    }
}

impl TableInput {
    pub(super) fn command(self) -> Result<Command, Problem> {
        let Self { title, fields, settings } = self;
        within(FIELDS_MAX, fields.len(), "fields")?;
        let field = |(index, field): (usize, FieldInput)| field.new_field(&format!("fields[{index}]."));
        let fields = fields.into_iter().enumerate().map(field).collect::<Result<_, _>>()?;
        Ok(Command::CreateTable { title, fields, settings })
    }
}

impl FieldInput {
    pub(super) fn command(self) -> Result<Command, Problem> {
        self.new_field("").map(Command::AddField)
    }

    /// `at` is the path of this field, with a `.` behind it if it has one.
    fn new_field(self, at: &str) -> Result<NewField, Problem> {
        let Self { id, name, kind: TypeWord(kind), width, after, primary, options } = self;
        no_properties(&options, &["order", "deleted"], at)?;
        Ok(NewField { id, name, kind, width, after, primary, options })
    }
}

impl FieldChangeInput {
    pub(super) fn command(self, id: String) -> Result<Command, Problem> {
        let Self { name, kind, width, after, primary, deleted, options } = self;
        no_properties(&options, &NOT_OPTIONS, "")?;
        let kind = kind.map(|TypeWord(kind)| kind);
        let patch = FieldPatch { name, kind, width, after, primary, options, deleted };
        Ok(Command::ChangeField { id, patch })
    }
}

/// Options are open, so a property that is set in another way would silently become one.
fn no_properties(options: &Map<String, Value>, properties: &[&str], at: &str) -> Result<(), Problem> {
    let Some(property) = properties.iter().find(|property| options.contains_key(**property)) else { return Ok(()) };
    let hint = if *property == "order" { "; say after which field it goes (after)" } else { "" };
    Err(Problem::wrong("body", format!("{property} cannot be set{hint}")).with("path", format!("{at}{property}")))
}

impl RecordsInput {
    pub(super) fn command(self) -> Result<Command, Problem> {
        some_records(self.records.len())?;
        let record = |RecordInput { id, cells, after }| NewRecord { id, cells, after };
        Ok(Command::CreateRecords { records: self.records.into_iter().map(record).collect(), import: false })
    }
}

impl PatchInput {
    pub(super) fn command(self, id: String, expected_version: Option<u64>, on_conflict: OnConflict) -> Command {
        let Self { cells, after, height, .. } = self;
        let patch = RecordPatch { id, cells, after, height, expected_version };
        Command::PatchRecords { records: vec![patch], on_conflict, is_batch: false }
    }
}

impl BatchInput {
    pub(super) fn command(self) -> Result<Command, Problem> {
        some_records(self.records.len())?;
        let patch = |record| {
            let BatchRecordInput { id, cells, after, height, expected_version } = record;
            RecordPatch { id, cells, after, height, expected_version }
        };
        let on_conflict = self.on_conflict.map(OnConflict::from).unwrap_or_default();
        Ok(Command::PatchRecords {
            records: self.records.into_iter().map(patch).collect(),
            on_conflict,
            is_batch: true,
        })
    }
}

fn some_records(count: usize) -> Result<(), Problem> {
    if count == 0 {
        return Err(Problem::wrong("records", "expected at least one record"));
    }
    within(RECORDS_MAX, count, "records")
}

/// # Errors
/// `PAYLOAD_TOO_LARGE` for more than so many.
pub(super) fn within(limit: usize, count: usize, path: &'static str) -> Result<(), Problem> {
    if count <= limit {
        return Ok(());
    }
    let problem = Problem::new(ErrorCode::PayloadTooLarge, format!("at most {limit} {path} in one request"));
    Err(problem.with("limit", limit).with("path", path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::table::command::Cells;

    fn change(body: Value) -> FieldPatch {
        let input: FieldChangeInput = serde_json::from_value(body).unwrap();
        let Ok(Command::ChangeField { patch, .. }) = input.command("f1".to_owned()) else {
            panic!("a change was expected")
        };
        patch
    }

    #[test]
    fn null_and_nothing_are_two_things() {
        assert_eq!(change(json!({})).after, None);
        assert_eq!(change(json!({"after": null})).after, Some(None));
        assert_eq!(change(json!({"after": "f2"})).after, Some(Some("f2".to_owned())));
        let record: RecordInput = serde_json::from_value(json!({"after": null})).unwrap();
        assert_eq!(record.after, Some(None));
    }

    #[test]
    fn what_is_no_property_of_a_field_is_an_option() {
        let patch = change(json!({"name": "n", "type": "number", "precision": 2, "min": null}));
        assert_eq!((patch.name.as_deref(), patch.kind), (Some("n"), Some(FieldType::Number)));
        assert_eq!(Value::Object(patch.options), json!({"precision": 2, "min": null}));
    }

    #[test]
    fn properties_that_are_not_set_like_this_do_not_become_options() {
        for body in [json!({"id": "x"}), json!({"order": "a0"})] {
            let input: FieldChangeInput = serde_json::from_value(body.clone()).unwrap();
            assert!(input.command("f1".to_owned()).is_err(), "{body}");
        }
        let new: TableInput = serde_json::from_value(
            json!({"fields": [{"name": "a", "type": "text"}, {"name": "b", "type": "text", "order": "a1"}]}),
        )
        .unwrap();
        let problem = format!("{:?}", new.command().unwrap_err());
        assert!(problem.contains("fields[1].order"), "{problem}");
    }

    #[test]
    fn counts_are_bounded() {
        let records = |count: usize| RecordsInput {
            records: (0..count).map(|_| RecordInput { id: None, cells: Cells::new(), after: None }).collect(),
        };
        assert!(records(0).command().is_err());
        assert!(records(RECORDS_MAX).command().is_ok());
        assert!(records(RECORDS_MAX + 1).command().is_err());
    }
}
