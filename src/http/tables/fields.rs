//! `/v1/tables/{table}` and `…/fields`: what a table is made of.

use axum::Json;
use axum::extract::Request as HttpRequest;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use super::TablePath;
use super::Writer;
use super::Written;
use super::address;
use super::describe;
use super::given;
use super::input::FieldChangeInput;
use super::input::FieldInput;
use super::input::TableInput;
use super::precondition;
use super::shape::Field;
use super::shape::Table;
use super::unexpected;
use crate::auth::Level;
use crate::http::AppState;
use crate::http::caller::Caller;
use crate::http::problem;
use crate::http::problem::Problem;
use crate::table::command::Command;
use crate::table::command::TableAnswer;

/// A table with its fields.
#[utoipa::path(
    get, path = "/v1/tables/{table}", tag = "tables", operation_id = "readTable",
    params(("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`")),
    responses(
        (status = 200, description = "The table, without its records", body = Table),
        (status = "default", description = "Refused", body = problem::Body),
    )
)]
pub(in crate::http) async fn read_table(
    State(state): State<AppState>,
    caller: Caller,
    path: TablePath,
) -> Result<Json<Table>, Problem> {
    caller.require(Level::Read, &path.doc).await?;
    let view = describe(&state, &path.doc).await?;
    Ok(Json(Table::new(&path.doc, view)))
}

/// Creates a table.
#[utoipa::path(
    put, path = "/v1/tables/{table}", tag = "tables", operation_id = "createTable",
    params(
        ("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once under this key, for a day"),
        ("X-Correlation-Id" = Option<String>, Header, description = "Goes into the events that follow"),
    ),
    request_body(content = Option<TableInput>, description = "What is in it from the start, or nothing"),
    responses(
        (status = 201, description = "Created", body = Table, headers(("Location" = String, description = "Its address"))),
        (status = 409, description = "`ALREADY_EXISTS`; it is untouched", body = problem::Body),
        (status = "default", description = "Refused; nothing was saved", body = problem::Body),
    )
)]
pub(in crate::http) async fn create_table(writer: Writer, request: HttpRequest) -> Result<Response, Problem> {
    precondition::none(request.headers())?;
    let given = given::read_or_default::<TableInput>(&writer.state, request).await?;
    let Written { doc, answer, again } = writer.write(given.value.command()?, &given.body.bytes).await?;
    let TableAnswer::Table(view) = answer else { return Err(unexpected(&answer)) };
    let location = [(header::LOCATION, address(&doc))];
    Ok((StatusCode::CREATED, again, location, Json(Table::new(&doc, view))).into_response())
}

/// Adds a field. Creates the table when there is none.
#[utoipa::path(
    post, path = "/v1/tables/{table}/fields", tag = "tables", operation_id = "addField",
    params(
        ("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once under this key, for a day"),
        ("X-Correlation-Id" = Option<String>, Header, description = "Goes into the events that follow"),
    ),
    request_body = FieldInput,
    responses(
        (status = 201, description = "Added", body = Field),
        (status = 409, description = "`ALREADY_EXISTS`: a field with this id or name", body = problem::Body),
        (status = "default", description = "Refused; nothing was saved", body = problem::Body),
    )
)]
pub(in crate::http) async fn add_field(writer: Writer, request: HttpRequest) -> Result<Response, Problem> {
    precondition::none(request.headers())?;
    let given = given::read::<FieldInput>(&writer.state, request).await?;
    let written = writer.write(given.value.command()?, &given.body.bytes).await?;
    the_field(StatusCode::CREATED, written)
}

/// Changes a field: renames, retypes, resizes or moves it, sets options, restores it.
#[utoipa::path(
    patch, path = "/v1/tables/{table}/fields/{field}", tag = "tables", operation_id = "changeField",
    params(
        ("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`"),
        ("field" = String, Path, description = "Its id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once under this key, for a day"),
        ("X-Correlation-Id" = Option<String>, Header, description = "Goes into the events that follow"),
    ),
    request_body = FieldChangeInput,
    responses(
        (status = 200, description = "The field as it is now", body = Field),
        (status = 404, description = "`NOT_FOUND`: no such table or field", body = problem::Body),
        (status = "default", description = "Refused; nothing was saved", body = problem::Body),
    )
)]
pub(in crate::http) async fn change_field(writer: Writer, request: HttpRequest) -> Result<Response, Problem> {
    precondition::none(request.headers())?;
    let given = given::read::<FieldChangeInput>(&writer.state, request).await?;
    let command = given.value.command(writer.path.item.clone())?;
    the_field(StatusCode::OK, writer.write(command, &given.body.bytes).await?)
}

/// Marks a field as deleted. Its cells are kept; `deleted: false` restores it.
#[utoipa::path(
    delete, path = "/v1/tables/{table}/fields/{field}", tag = "tables", operation_id = "deleteField",
    params(
        ("table" = String, Path, description = "The name, percent-encoded as one segment; `T` is the document `table:T`"),
        ("field" = String, Path, description = "Its id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once under this key, for a day"),
        ("X-Correlation-Id" = Option<String>, Header, description = "Goes into the events that follow"),
    ),
    responses(
        (status = 200, description = "The field as it is now", body = Field),
        (status = 404, description = "`NOT_FOUND`: no such table or field", body = problem::Body),
        (status = "default", description = "Refused; nothing was saved", body = problem::Body),
    )
)]
pub(in crate::http) async fn delete_field(writer: Writer, headers: HeaderMap) -> Result<Response, Problem> {
    precondition::none(&headers)?;
    let command = Command::DeleteField { id: writer.path.item.clone() };
    the_field(StatusCode::OK, writer.write(command, &[]).await?)
}

fn the_field(status: StatusCode, written: Written) -> Result<Response, Problem> {
    match written.answer {
        TableAnswer::Field(view) => Ok((status, written.again, Json(Field::from(view))).into_response()),
        other => Err(unexpected(&other)),
    }
}
