//! `/v1/tables/{table}…`: tables over REST, field by field and record by record.
//!
//! ```text
//!  fields · records · transfer ── what may be asked ──▶ hub ── the document `table:T`
//!     ▲ input, given     a body as a command, the path of what is wrong in it
//!     ▲ errand           Idempotency-Key, X-Correlation-Id
//!     ▲ precondition     If-Match and expectedVersion
//!     ▼ shape, cursor    an answer as JSON, a page's end as text
//! ```
//!
//! Reading needs `read` on the document, everything else `write`, creating included.

use axum::Router;
use axum::extract::FromRequestParts;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::routing::get;
use axum::routing::patch;
use axum::routing::post;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;

use crate::auth::Level;
use crate::document::request::Answer;
use crate::document::request::Refusal;
use crate::document::request::Request;
use crate::http::AppState;
use crate::http::caller::Caller;
use crate::http::docs;
use crate::http::problem::Problem;
use crate::name::DocName;
use crate::table;
use crate::table::command::Command;
use crate::table::command::TableAnswer;
use crate::table::command::TableRequest;
use crate::table::view::TableView;

mod cursor;
mod errand;
pub(super) mod fields;
mod given;
mod input;
mod precondition;
pub(super) mod records;
mod shape;
pub(super) mod transfer;

pub(super) use errand::Mark;
pub(super) use input::OnConflictWord;
pub(super) use input::RECORDS_MAX;

use errand::Errand;

/// The kind that a name without one has.
const KIND: &str = "table:";

/// The routes under `/v1/tables`.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/tables/{table}", get(fields::read_table).put(fields::create_table))
        .route("/v1/tables/{table}/fields", post(fields::add_field))
        .route("/v1/tables/{table}/fields/{field}", patch(fields::change_field).delete(fields::delete_field))
        .route(
            "/v1/tables/{table}/records",
            get(records::list_records).post(records::create_records).patch(records::patch_records),
        )
        .route(
            "/v1/tables/{table}/records/{record}",
            get(records::read_record).patch(records::patch_record).delete(records::delete_record),
        )
        .route("/v1/tables/{table}/records/{record}/restore", post(records::restore_record))
        .route("/v1/tables/{table}/export", get(transfer::export_table))
        .route("/v1/tables/{table}/import", post(transfer::import_records))
}

/// The `{table}` of a path as the document that it means, and the record or field behind it, if there is one.
pub(super) struct TablePath {
    doc: DocName,
    /// `{record}` or `{field}`; empty where the address has none.
    item: String,
}

#[derive(Deserialize)]
struct Segments {
    table: String,
    record: Option<String>,
    field: Option<String>,
}

impl FromRequestParts<AppState> for TablePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let segments: Result<Path<Segments>, PathRejection> = Path::from_request_parts(parts, state).await;
        let Path(Segments { table, record, field }) = segments?;
        Ok(Self { doc: document(&table)?, item: record.or(field).unwrap_or_default() })
    }
}

/// `T` is the document `table:T`; a name that has the prefix of a table's kind already is taken as it is.
fn document(table: &str) -> Result<DocName, Problem> {
    let parse = |name: &str| DocName::parse(name).map_err(|error| Problem::wrong("table", error.to_string()));
    let is_prefix = table.split_once(':').is_some_and(|(_, rest)| rest.is_empty());
    match DocName::parse(table) {
        Ok(name) if table::is_table(&name) && is_prefix => Err(Problem::wrong("table", "a name is more than its kind")),
        Ok(name) if table::is_table(&name) => Ok(name),
        _ => parse(&format!("{KIND}{table}")),
    }
}

/// The shortest name that means this document.
fn short_name(doc: &DocName) -> &str {
    let short = doc.as_str().strip_prefix(KIND);
    short.filter(|short| document(short).is_ok_and(|same| same == *doc)).unwrap_or(doc.as_str())
}

fn address(doc: &DocName) -> String {
    format!("/v1/tables/{}", utf8_percent_encode(short_name(doc), NON_ALPHANUMERIC))
}

async fn ask(state: &AppState, doc: &DocName, request: TableRequest) -> Result<TableAnswer, Problem> {
    match docs::ask(state, doc, Request::Table(request)).await? {
        Answer::Table(answer) => Ok(answer),
        other => Err(docs::unexpected(&other)),
    }
}

async fn describe(state: &AppState, doc: &DocName) -> Result<TableView, Problem> {
    match ask(state, doc, TableRequest::Describe).await? {
        TableAnswer::Table(view) => Ok(view),
        other => Err(unexpected(&other)),
    }
}

/// An answer to another question than the one that was asked: a bug of ours. Its content stays out of the log.
fn unexpected(answer: &TableAnswer) -> Problem {
    let kind = match answer {
        TableAnswer::Table(_) => "Table",
        TableAnswer::Page { .. } => "Page",
        TableAnswer::Records(_) => "Records",
        TableAnswer::Field(_) => "Field",
        TableAnswer::Nested { .. } => "Nested",
    };
    Problem::internal(format_args!("a table answered {kind} to another question"))
}

/// Somebody who may write here, with what the headers say about the write.
pub(super) struct Writer {
    state: AppState,
    caller: Caller,
    path: TablePath,
    errand: Errand,
}

impl FromRequestParts<AppState> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let path = TablePath::from_request_parts(parts, state).await?;
        caller.require(Level::Write, &path.doc).await?;
        let errand = Errand::of(parts)?;
        Ok(Self { state: state.clone(), caller, path, errand })
    }
}

impl Writer {
    /// Has the command carried out. `body` is what the request consisted of beside its head.
    async fn write(mut self, command: Command, body: &[u8]) -> Result<Written, Problem> {
        self.errand.add(body);
        let state = self.state.clone();
        self.write_with(command, |refusal| docs::refused(&state, refusal)).await
    }

    /// As [`Self::write`], when the body has been taken into account already; `refused` says a refusal in the caller's terms.
    async fn write_with(self, command: Command, refused: impl FnOnce(Refusal) -> Problem) -> Result<Written, Problem> {
        let Self { state, caller, path, errand } = self;
        let request = Request::Table(errand.request(&caller, command));
        match state.hub.ask(&path.doc, request).await.map_err(refused)? {
            Answer::Table(answer) => Ok(Written { doc: path.doc, answer, again: HeaderMap::new() }),
            Answer::Repeated(answer) => {
                let again = HeaderMap::from_iter([(errand::REPLAYED, HeaderValue::from_static("true"))]);
                Ok(Written { doc: path.doc, answer, again })
            }
            other => Err(docs::unexpected(&other)),
        }
    }
}

/// What came of a write.
struct Written {
    doc: DocName,
    answer: TableAnswer,
    /// Says that it was done before, under the same key.
    again: HeaderMap,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_a_document_of_its_kind() {
        for (table, doc, short) in [
            ("T", "table:T", "T"),
            ("table:T", "table:T", "T"),
            ("component:C", "component:C", "component:C"),
            ("channel:H", "channel:H", "channel:H"),
            ("user:U", "table:user:U", "user:U"),
            ("a/b ü", "table:a/b ü", "a/b ü"),
            ("table:component:C", "table:component:C", "table:component:C"),
        ] {
            let name = document(table).unwrap();
            assert_eq!((name.as_str(), short_name(&name)), (doc, short), "{table}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "n".repeat(250);
        for table in ["table:", "channel:", "a\n", &long] {
            assert!(document(table).is_err(), "{table:?}");
        }
    }
}
