//! `/v1/tables/{table}/records…`: read, create, change, delete, restore.

use axum::Json;
use axum::extract::Query;
use axum::extract::Request as HttpRequest;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Deserialize;

use super::TablePath;
use super::Writer;
use super::ask;
use super::cursor;
use super::given;
use super::input::BatchInput;
use super::input::PatchInput;
use super::input::RecordsInput;
use super::precondition;
use super::shape::Record;
use super::shape::RecordPage;
use super::shape::Records;
use super::unexpected;
use crate::auth::Level;
use crate::http::AppState;
use crate::http::caller::Caller;
use crate::http::docs;
use crate::http::listing;
use crate::http::problem;
use crate::http::problem::Problem;
use crate::table::command::Command;
use crate::table::command::Done;
use crate::table::command::OnConflict;
use crate::table::command::TableAnswer;
use crate::table::command::TableRequest;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct PageQuery {
    limit: Option<String>,
    cursor: Option<String>,
    fields: Option<String>,
    include_deleted: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct DeleteQuery {
    expected_version: Option<String>,
}

/// Records in the table's order, page by page. Who comes and goes meanwhile does not shift the pages: the next one starts
/// behind the place where this one ended.
#[utoipa::path(
    get, path = "/v1/tables/{table}/records", tag = "tables", operation_id = "listRecords",
    params(
        ("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`"),
        ("limit" = Option<u32>, Query, description = "At most so many; 100 by default, 1000 at most"),
        ("cursor" = Option<String>, Query, description = "`nextCursor` of the page before"),
        ("fields" = Option<String>, Query, description = "Only these cells: field ids or names, separated by commas; none when empty"),
        ("includeDeleted" = Option<String>, Query, description = "Also records that are marked as deleted"),
    ),
    responses(
        (status = 200, description = "One page", body = RecordPage),
        (status = "default", description = "Refused", body = problem::Body),
    )
)]
pub(in crate::http) async fn list_records(
    State(state): State<AppState>,
    caller: Caller,
    path: TablePath,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<RecordPage>, Problem> {
    let doc = path.doc;
    caller.require(Level::Read, &doc).await?;
    let Query(query) = query?;
    let request = TableRequest::Page {
        after: query.cursor.as_deref().map(|cursor| cursor::decode(&doc, cursor)).transpose()?,
        limit: listing::limit(query.limit.as_deref())?,
        fields: query.fields.as_deref().map(names),
        include_deleted: docs::flag("includeDeleted", query.include_deleted.as_deref())?,
    };
    match ask(&state, &doc, request).await? {
        TableAnswer::Page { records, next, revision } => {
            let records = records.into_iter().map(Record::from).collect();
            let next_cursor = next.map(|position| cursor::encode(&doc, &position));
            Ok(Json(RecordPage { records, next_cursor, revision }))
        }
        other => Err(unexpected(&other)),
    }
}

/// A list separated by commas; of nothing, none.
fn names(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Creates records, in one transaction: all of them or none.
#[utoipa::path(
    post, path = "/v1/tables/{table}/records", tag = "tables", operation_id = "createRecords",
    params(
        ("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once under this key, for a day"),
        ("X-Correlation-Id" = Option<String>, Header, description = "Goes into the events that follow"),
    ),
    request_body = RecordsInput,
    responses(
        (status = 201, description = "Created, in the same order", body = Records),
        (status = 409, description = "`ALREADY_EXISTS`: a record with one of the ids, deleted or not", body = problem::Body),
        (status = 422, description = "`INVALID_VALUE`, `INVALID_PAYLOAD`: `data.path` says where", body = problem::Body),
        (status = "default", description = "Refused; nothing was saved", body = problem::Body),
    )
)]
pub(in crate::http) async fn create_records(writer: Writer, request: HttpRequest) -> Result<Response, Problem> {
    precondition::none(request.headers())?;
    let given = given::read::<RecordsInput>(&writer.state, request).await?;
    let written = writer.write(given.value.command()?, &given.body.bytes).await?;
    Ok((StatusCode::CREATED, written.again, Json(Records::from(all(written.answer)?))).into_response())
}

/// One record, deleted or not.
#[utoipa::path(
    get, path = "/v1/tables/{table}/records/{record}", tag = "tables", operation_id = "readRecord",
    params(
        ("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`"),
        ("record" = String, Path, description = "Its id"),
        ("If-None-Match" = Option<String>, Header, description = "An `ETag` from before"),
    ),
    responses(
        (status = 200, description = "The record", body = Record, headers(("ETag" = String, description = "Its version in quotes"))),
        (status = 304, description = "It has this version still"),
        (status = "default", description = "Refused", body = problem::Body),
    )
)]
pub(in crate::http) async fn read_record(
    State(state): State<AppState>,
    caller: Caller,
    path: TablePath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.require(Level::Read, &path.doc).await?;
    let record = one(ask(&state, &path.doc, TableRequest::Record { id: path.item }).await?)?;
    if precondition::has_seen(&headers, record.record.version) {
        return Ok((StatusCode::NOT_MODIFIED, precondition::etag_of(record.record.version)).into_response());
    }
    Ok(tagged(record))
}

/// Changes a record. What it has already makes no version.
#[utoipa::path(
    patch, path = "/v1/tables/{table}/records/{record}", tag = "tables", operation_id = "patchRecord",
    params(
        ("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`"),
        ("record" = String, Path, description = "Its id"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen: as `expectedVersion`, and `onConflict` is `record` unless said otherwise; `*` for any"),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once under this key, for a day"),
        ("X-Correlation-Id" = Option<String>, Header, description = "Goes into the events that follow"),
    ),
    request_body = PatchInput,
    responses(
        (status = 200, description = "The record as it is now", body = Record, headers(("ETag" = String, description = "Its version in quotes"))),
        (status = 409, description = "`CONCURRENT_EDIT` with your value and the current one, `RECORD_DELETED`, `VERSION_AHEAD`", body = problem::Body),
        (status = 422, description = "`INVALID_VALUE`, `INVALID_PAYLOAD`: `data.path` says where", body = problem::Body),
        (status = "default", description = "Refused; nothing was saved", body = problem::Body),
    )
)]
pub(in crate::http) async fn patch_record(writer: Writer, request: HttpRequest) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    let given = given::read::<PatchInput>(&writer.state, request).await?;
    let patch = given.value;
    let on_conflict = patch.on_conflict.map(OnConflict::from);
    let expected = precondition::expected(&headers, patch.expected_version, on_conflict)?;
    let command = patch.command(writer.path.item.clone(), expected.version, expected.on_conflict);
    let written = writer.write(command, &given.body.bytes).await?;
    Ok((written.again, tagged(one(written.answer)?)).into_response())
}

/// Changes records, in one transaction: all of them or none.
#[utoipa::path(
    patch, path = "/v1/tables/{table}/records", tag = "tables", operation_id = "patchRecords",
    params(
        ("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once under this key, for a day"),
        ("X-Correlation-Id" = Option<String>, Header, description = "Goes into the events that follow"),
    ),
    request_body = BatchInput,
    responses(
        (status = 200, description = "The records as they are now, in the same order", body = Records),
        (status = 409, description = "One of them stands in the way; `data.results` has a line for each", body = problem::Body),
        (status = 422, description = "`INVALID_VALUE`, `INVALID_PAYLOAD`: `data.path` says where", body = problem::Body),
        (status = "default", description = "Refused; nothing was saved", body = problem::Body),
    )
)]
pub(in crate::http) async fn patch_records(writer: Writer, request: HttpRequest) -> Result<Response, Problem> {
    precondition::none(request.headers())?;
    let given = given::read::<BatchInput>(&writer.state, request).await?;
    let written = writer.write(given.value.command()?, &given.body.bytes).await?;
    Ok((written.again, Json(Records::from(all(written.answer)?))).into_response())
}

/// Marks a record as deleted. Its cells are kept, and what others write into them meanwhile too.
#[utoipa::path(
    delete, path = "/v1/tables/{table}/records/{record}", tag = "tables", operation_id = "deleteRecord",
    params(
        ("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`"),
        ("record" = String, Path, description = "Its id"),
        ("expectedVersion" = Option<u64>, Query, description = "The version that the caller has seen; another one is a conflict"),
        ("If-Match" = Option<String>, Header, description = "The same as an `ETag`; `*` for any"),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once under this key, for a day"),
        ("X-Correlation-Id" = Option<String>, Header, description = "Goes into the events that follow"),
    ),
    responses(
        (status = 200, description = "The record as it is now", body = Record, headers(("ETag" = String, description = "Its version in quotes"))),
        (status = 409, description = "`CONCURRENT_EDIT`, `VERSION_AHEAD`", body = problem::Body),
        (status = "default", description = "Refused; nothing was saved", body = problem::Body),
    )
)]
pub(in crate::http) async fn delete_record(
    writer: Writer,
    query: Result<Query<DeleteQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(DeleteQuery { expected_version }) = query?;
    let version = expected_version.as_deref().map(version).transpose()?;
    let expected = precondition::expected(&headers, version, None)?;
    let command = Command::DeleteRecord { id: writer.path.item.clone(), expected_version: expected.version };
    let written = writer.write(command, &[]).await?;
    Ok((written.again, tagged(one(written.answer)?)).into_response())
}

/// Takes the mark away.
#[utoipa::path(
    post, path = "/v1/tables/{table}/records/{record}/restore", tag = "tables", operation_id = "restoreRecord",
    params(
        ("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`"),
        ("record" = String, Path, description = "Its id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once under this key, for a day"),
        ("X-Correlation-Id" = Option<String>, Header, description = "Goes into the events that follow"),
    ),
    responses(
        (status = 200, description = "The record as it is now, also when it was not deleted", body = Record, headers(("ETag" = String, description = "Its version in quotes"))),
        (status = "default", description = "Refused; nothing was saved", body = problem::Body),
    )
)]
pub(in crate::http) async fn restore_record(writer: Writer, headers: HeaderMap) -> Result<Response, Problem> {
    precondition::none(&headers)?;
    let command = Command::RestoreRecord { id: writer.path.item.clone() };
    let written = writer.write(command, &[]).await?;
    Ok((written.again, tagged(one(written.answer)?)).into_response())
}

fn version(raw: &str) -> Result<u64, Problem> {
    raw.parse().map_err(|_| Problem::wrong("expectedVersion", "expectedVersion is a whole number"))
}

fn tagged(done: Done) -> Response {
    (precondition::etag_of(done.record.version), Json(Record::from(done))).into_response()
}

fn one(answer: TableAnswer) -> Result<Done, Problem> {
    all(answer)?.pop().ok_or_else(|| Problem::internal("a table answered no record to a question about one"))
}

fn all(answer: TableAnswer) -> Result<Vec<Done>, Problem> {
    match answer {
        TableAnswer::Records(done) => Ok(done),
        other => Err(unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_listed_by_commas() {
        assert_eq!(names("a, b,,ü c"), ["a", "b", "ü c"]);
        assert!(names("").is_empty());
    }

    #[test]
    fn versions_are_whole_numbers() {
        assert_eq!(version("7").unwrap(), 7);
        for raw in ["", "-1", "7.0", "\"7\"", "18446744073709551616"] {
            assert!(version(raw).is_err(), "{raw}");
        }
    }
}
