//! `…/export` and `…/import`: a whole table as CSV or NDJSON.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::Query;
use axum::extract::Request as HttpRequest;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::stream;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;

use super::TablePath;
use super::Writer;
use super::ask;
use super::describe;
use super::given;
use super::precondition;
use super::shape::Imported;
use super::short_name;
use super::unexpected;
use crate::auth::Level;
use crate::http::AppState;
use crate::http::body;
use crate::http::body::Pieces;
use crate::http::caller::Caller;
use crate::http::docs;
use crate::http::problem;
use crate::http::problem::Problem;
use crate::name::DocName;
use crate::name::RoomName;
use crate::room::Feeds;
use crate::table::change::Author;
use crate::table::change::Source;
use crate::table::command::Command;
use crate::table::command::Position;
use crate::table::command::TableAnswer;
use crate::table::command::TableRequest;
use crate::table::events;
use crate::table::events::ImportState;
use crate::table::exchange;
use crate::table::exchange::Format;
use crate::table::view::FieldView;

mod incoming;

use incoming::Incoming;
use incoming::Parsed;

/// Records that are in memory at a time while a table is exported.
const EXPORT_PAGE: usize = 500;
/// Records between two reports of an import.
const PROGRESS_STEP: usize = 1000;

#[derive(Deserialize)]
pub(in crate::http) struct FormatQuery {
    format: Option<String>,
}

impl FormatQuery {
    /// CSV unless the query says otherwise.
    fn format(&self) -> Result<Format, Problem> {
        let word = self.format.as_deref().unwrap_or("csv");
        Format::parse(word).ok_or_else(|| Problem::wrong("format", "format is csv or ndjson"))
    }
}

/// All records that are not deleted, in the table's order. It is read page by page: who writes meanwhile may be in it or
/// not. An answer that breaks off is cut, so that it is not taken for a whole one.
#[utoipa::path(
    get, path = "/v1/tables/{table}/export", tag = "tables", operation_id = "exportTable",
    params(
        ("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`"),
        ("format" = Option<String>, Query, description = "`csv` (default), with a header line, or `ndjson`, one record a line"),
    ),
    responses(
        (status = 200, description = "One record a line", content((String = "text/csv"), (String = "application/x-ndjson"))),
        (status = "default", description = "Refused", body = problem::Body),
    )
)]
pub(in crate::http) async fn export_table(
    State(state): State<AppState>,
    caller: Caller,
    path: TablePath,
    query: Result<Query<FormatQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let doc = path.doc;
    caller.require(Level::Read, &doc).await?;
    let format = query?.0.format()?;
    let name = utf8_percent_encode(short_name(&doc), NON_ALPHANUMERIC).to_string();
    let ending = if matches!(format, Format::Csv) { "csv" } else { "ndjson" };
    let fields = describe(&state, &doc).await?.fields;
    let writer = exchange::Writer::new(format, fields);
    let mut first = Vec::new();
    writer.head(&mut first);
    let export = Export { state, doc, writer, after: None, is_done: false };
    // The first page before the status: what is refused then has a status of its own.
    let (first, export) = export.page(first).await?;
    let rest = stream::try_unfold(export, |export| async {
        if export.is_done {
            return Ok(None);
        }
        let (bytes, export) = export.page(Vec::new()).await.map_err(|_| io::Error::other("the export broke off"))?;
        Ok::<_, io::Error>(Some((bytes, export)))
    });
    let first = stream::once(async { Ok::<_, io::Error>(first) });
    let file = format!("attachment; filename*=UTF-8''{name}.{ending}");
    let headers = [(header::CONTENT_TYPE, format.content_type().to_owned()), (header::CONTENT_DISPOSITION, file)];
    Ok((headers, Body::from_stream(stream::StreamExt::chain(first, rest))).into_response())
}

/// An export under way: one page in memory, whatever the table's size.
struct Export {
    state: AppState,
    doc: DocName,
    writer: exchange::Writer,
    after: Option<Position>,
    is_done: bool,
}

impl Export {
    /// Adds the next page to what is there.
    async fn page(self, mut bytes: Vec<u8>) -> Result<(Bytes, Self), Problem> {
        let Self { state, doc, writer, after, .. } = self;
        let request = TableRequest::Page { after, limit: EXPORT_PAGE, fields: None, include_deleted: false };
        match ask(&state, &doc, request).await? {
            TableAnswer::Page { records, next, .. } => {
                records.iter().for_each(|record| writer.row(record, &mut bytes));
                let is_done = next.is_none();
                Ok((bytes.into(), Self { state, doc, writer, after: next, is_done }))
            }
            other => Err(unexpected(&other)),
        }
    }
}

/// Creates a record from each line, in one transaction: all of them or none. A refusal names the line.
#[utoipa::path(
    post, path = "/v1/tables/{table}/import", tag = "tables", operation_id = "importRecords",
    params(
        ("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`"),
        ("format" = Option<String>, Query, description = "`csv` (default), whose header names fields, or `ndjson`, one record `{id?, cells}` a line"),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once under this key, for a day"),
        ("X-Correlation-Id" = Option<String>, Header, description = "Goes into the events that follow"),
    ),
    request_body(content((String = "text/csv"), (String = "application/x-ndjson"))),
    responses(
        (status = 201, description = "All are there", body = Imported),
        (status = 400, description = "`INVALID_PAYLOAD`: a line that cannot be read; `data.line`", body = problem::Body),
        (status = 422, description = "`INVALID_PAYLOAD`, `INVALID_VALUE`: a line that is wrong, or a field that is not there; `data.line`", body = problem::Body),
        (status = "default", description = "Refused; nothing was saved", body = problem::Body),
    )
)]
pub(in crate::http) async fn import_records(
    mut writer: Writer,
    query: Result<Query<FormatQuery>, QueryRejection>,
    request: HttpRequest,
) -> Result<Response, Problem> {
    precondition::none(request.headers())?;
    let format = query?.0.format()?;
    let (state, doc) = (writer.state.clone(), writer.path.doc.clone());
    let fields = describe(&state, &doc).await?.fields;
    let _turn = given::turn(&state).await?;
    let mut pieces = body::pieces(&state, request).await?;
    let progress = Progress::new(&state, &writer);
    let parsed = match parse(format, fields, &mut pieces, &progress, |piece| writer.errand.add(piece)).await {
        Ok(parsed) => parsed,
        Err(problem) => {
            progress.tell(0, ImportState::Refused);
            pieces.refuse().await;
            return Err(problem);
        }
    };
    let Parsed { records, lines } = parsed;
    let imported = records.len();
    let command = Command::CreateRecords { records, import: true };
    let refused = |refusal| docs::refused(&state, incoming::at_line(refusal, &lines));
    let written = writer.write_with(command, refused).await;
    progress.tell(imported, if written.is_ok() { ImportState::Done } else { ImportState::Refused });
    let written = written?;
    let TableAnswer::Records(_) = written.answer else { return Err(unexpected(&written.answer)) };
    let revision = describe(&state, &doc).await?.revision;
    Ok((StatusCode::CREATED, written.again, Json(Imported { imported, revision })).into_response())
}

async fn parse(
    format: Format,
    fields: Vec<FieldView>,
    pieces: &mut Pieces,
    progress: &Progress,
    mut seen: impl FnMut(&[u8]),
) -> Result<Parsed, Problem> {
    let mut incoming = Incoming::new(format, fields);
    let mut told = 0;
    while let Some(piece) = pieces.next().await? {
        seen(&piece);
        incoming.take(&piece)?;
        if incoming.records() >= told + PROGRESS_STEP {
            told = incoming.records();
            progress.tell(told, ImportState::Reading);
        }
    }
    incoming.end()
}

/// Tells the table's room how far an import is.
struct Progress {
    feeds: Arc<Feeds>,
    doc: DocName,
    author: Author,
}

impl Progress {
    fn new(state: &AppState, writer: &Writer) -> Self {
        let user = writer.caller.member().map(|member| member.user);
        let correlation_id = writer.errand.correlation_id();
        let author = Author { user, source: Source::Import, correlation_id, peer: None };
        Self { feeds: state.feeds.clone(), doc: writer.path.doc.clone(), author }
    }

    fn tell(&self, records: usize, state: ImportState) {
        let told = events::import_progress(&self.doc, records, state);
        self.feeds.publish(&RoomName::from(&self.doc), &self.author, vec![told]);
    }
}
