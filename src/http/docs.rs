//! `/v1/docs/{doc}`: one document over REST.
//!
//! Reading needs `read`, merging and creating need `write`. Deleting needs `admin`: it ends the document for everybody
//! and no later edit brings it back, so it is not among the things that any editor's browser token may do.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::FromRequestParts;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::Request as HttpRequest;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use bytes::Bytes;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use syncline_protocol::ErrorCode;
use syncline_protocol::state_vector::StateVector;
use utoipa::ToSchema;

use crate::auth::Level;
use crate::clock::rfc3339;
use crate::document::json;
use crate::document::request::Answer;
use crate::document::request::Present;
use crate::document::request::Refusal;
use crate::document::request::Request;
use crate::document::request::Revision;
use crate::http::AppState;
use crate::http::body;
use crate::http::caller::Caller;
use crate::http::etag;
use crate::http::listing;
use crate::http::problem;
use crate::http::problem::Problem;
use crate::http::sv;
use crate::name::DocName;
use crate::store::Seq;

/// The Yjs update v1 that changes nothing: no client, no deletion.
const EMPTY_UPDATE: &[u8] = &[0, 0];

/// The routes under `/v1/docs`.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/docs", get(listing::list_docs))
        .route("/v1/docs/{doc}", get(read_doc).put(create_doc).delete(delete_doc))
        .route("/v1/docs/{doc}/state", get(read_state))
        .route("/v1/docs/{doc}/updates", post(merge_update))
        .route("/v1/docs/{doc}/presence", get(read_presence))
}

/// A document with its content.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DocContent {
    name: String,
    /// What stands before the first `:` of the name.
    kind: Option<String>,
    /// Position in the document's log; grows with each change.
    revision: u64,
    /// Bytes of the whole state as one update.
    bytes: usize,
    counts: DocCounts,
    /// The content as JSON, by root name.
    #[schema(value_type = Object)]
    roots: Value,
}

/// How much is in a document.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DocCounts {
    /// Root types.
    roots: usize,
    /// Connections that are present.
    members: usize,
}

/// Where a write was saved.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Saved {
    /// Position in the document's log.
    revision: u64,
}

/// Who is present.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Members {
    members: Vec<MemberLine>,
}

/// One connection that is present.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct MemberLine {
    /// The `sub` of the token; null where nobody is signed in.
    user_id: Option<String>,
    name: Option<String>,
    /// The Yjs client ids of the connection.
    client_ids: Vec<u64>,
    /// The awareness state of the first of them.
    #[schema(value_type = Object, nullable)]
    state: Value,
    /// When the connection joined: RFC 3339, UTC, milliseconds.
    #[schema(example = "2026-03-01T12:00:00.000Z")]
    since: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StateQuery {
    sv: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateQuery {
    if_absent: Option<String>,
}

/// The `{doc}` of a path, decoded and checked.
pub(super) struct DocPath(pub(super) DocName);

impl FromRequestParts<AppState> for DocPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Path(raw) = Path::<String>::from_request_parts(parts, state).await?;
        DocName::parse(&raw).map(Self).map_err(|error| Problem::wrong("doc", error.to_string()))
    }
}

/// Content, counts, size and revision of a document.
#[utoipa::path(
    get, path = "/v1/docs/{doc}", tag = "documents", operation_id = "readDoc",
    params(
        ("doc" = String, Path, description = "The name, percent-encoded as one segment"),
        ("If-None-Match" = Option<String>, Header, description = "An `ETag` from before"),
    ),
    responses(
        (status = 200, description = "The content as JSON", body = DocContent, headers(("ETag" = String, description = "The revision in quotes"))),
        (status = 304, description = "Nothing changed"),
        (status = "default", description = "Refused", body = problem::Body),
    )
)]
pub(super) async fn read_doc(
    State(state): State<AppState>,
    caller: Caller,
    DocPath(doc): DocPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.require(Level::Read, &doc).await?;
    // Before the state is asked for: a request that waits for its turn holds no copy of a document.
    let turn = state.renderings.clone().acquire_owned().await.map_err(Problem::internal)?;
    let (update, revision) = ask_state(&state, &doc, StateVector::default()).await?;
    if etag::matches(&headers, revision) {
        return Ok(etag::not_modified(revision));
    }
    let members = ask_presence(&state, &doc).await?.len();
    let bytes = update.len();
    let rendered = tokio::task::spawn_blocking(move || {
        let rendered = json::render(&update);
        // Here and not in the caller, who may have hung up: the work is still being done.
        drop(turn);
        rendered
    });
    let roots = rendered.await.map_err(Problem::internal)??;
    let counts = DocCounts { roots: roots.as_object().map_or(0, Map::len), members };
    let (name, kind) = (doc.as_str().to_owned(), doc.kind().map(str::to_owned));
    let content = DocContent { name, kind, revision: revision.seq.0, bytes, counts, roots };
    Ok((etag::header(revision), Json(content)).into_response())
}

/// The state as one Yjs update, or what a state vector lacks of it.
#[utoipa::path(
    get, path = "/v1/docs/{doc}/state", tag = "documents", operation_id = "readState",
    params(
        ("doc" = String, Path, description = "The name, percent-encoded as one segment"),
        ("sv" = Option<String>, Query, description = "An encoded state vector in base64, standard or URL-safe, padded or not"),
        ("If-None-Match" = Option<String>, Header, description = "An `ETag` from before, of the same address"),
    ),
    responses(
        (status = 200, description = "Yjs update v1", body = Vec<u8>, content_type = "application/octet-stream", headers(("ETag" = String, description = "The revision in quotes"))),
        (status = 304, description = "Nothing changed"),
        (status = "default", description = "Refused", body = problem::Body),
    )
)]
pub(super) async fn read_state(
    State(state): State<AppState>,
    caller: Caller,
    DocPath(doc): DocPath,
    query: Result<Query<StateQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.require(Level::Read, &doc).await?;
    let Query(StateQuery { sv }) = query?;
    let have = sv.as_deref().map(sv::decode).transpose()?.unwrap_or_default();
    let (update, revision) = ask_state(&state, &doc, have).await?;
    if etag::matches(&headers, revision) {
        return Ok(etag::not_modified(revision));
    }
    let content_type = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((etag::header(revision), content_type, update).into_response())
}

/// Merges one Yjs update. The answer comes when it is durable.
#[utoipa::path(
    post, path = "/v1/docs/{doc}/updates", tag = "documents", operation_id = "mergeUpdate",
    params(("doc" = String, Path, description = "The name, percent-encoded as one segment")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "One Yjs update v1"),
    responses(
        (status = 200, description = "Saved", body = Saved),
        (status = 422, description = "`INVALID_UPDATE`: not a Yjs update, or an impossible one", body = problem::Body),
        (status = "default", description = "Refused; nothing was saved", body = problem::Body),
    )
)]
pub(super) async fn merge_update(
    State(state): State<AppState>,
    caller: Caller,
    DocPath(doc): DocPath,
    request: HttpRequest,
) -> Result<Json<Saved>, Problem> {
    caller.require(Level::Write, &doc).await?;
    let body = body::read(&state, request).await?;
    if body.bytes.is_empty() {
        return Err(Problem::unreadable("body", "the body is empty; it should be one Yjs update"));
    }
    let update = Request::Update { update: body.bytes.clone(), member: caller.member() };
    match ask(&state, &doc, update).await? {
        Answer::Saved(Seq(revision)) => Ok(Json(Saved { revision })),
        other => Err(unexpected(&other)),
    }
}

/// Creates a document, from a Yjs update as its template or empty. A document that exists is never touched.
#[utoipa::path(
    put, path = "/v1/docs/{doc}", tag = "documents", operation_id = "createDoc",
    params(
        ("doc" = String, Path, description = "The name, percent-encoded as one segment"),
        ("ifAbsent" = Option<String>, Query, description = "With it, finding the document there is a success (200); without, it is `ALREADY_EXISTS`"),
    ),
    request_body(content = Option<Vec<u8>>, content_type = "application/octet-stream", description = "One Yjs update v1, or nothing"),
    responses(
        (status = 201, description = "Created", body = Saved, headers(("Location" = String, description = "Its address"))),
        (status = 200, description = "It was there and is untouched", body = Saved),
        (status = 409, description = "`ALREADY_EXISTS`, without `ifAbsent`", body = problem::Body),
        (status = "default", description = "Refused; nothing was saved", body = problem::Body),
    )
)]
pub(super) async fn create_doc(
    State(state): State<AppState>,
    caller: Caller,
    DocPath(doc): DocPath,
    query: Result<Query<CreateQuery>, QueryRejection>,
    request: HttpRequest,
) -> Result<Response, Problem> {
    caller.require(Level::Write, &doc).await?;
    let Query(CreateQuery { if_absent }) = query?;
    let if_absent = flag("ifAbsent", if_absent.as_deref())?;
    let body = body::read(&state, request).await?;
    let template = if body.bytes.is_empty() { Bytes::from_static(EMPTY_UPDATE) } else { body.bytes.clone() };
    match ask(&state, &doc, Request::Create { template, member: caller.member() }).await? {
        Answer::Created { created: true, revision } => {
            let address = format!("/v1/docs/{}", utf8_percent_encode(doc.as_str(), NON_ALPHANUMERIC));
            let saved = Json(Saved { revision: revision.seq.0 });
            Ok((StatusCode::CREATED, [(header::LOCATION, address)], etag::header(revision), saved).into_response())
        }
        Answer::Created { created: false, revision } if if_absent => {
            Ok((etag::header(revision), Json(Saved { revision: revision.seq.0 })).into_response())
        }
        Answer::Created { .. } => {
            Err(Problem::new(ErrorCode::AlreadyExists, "the document exists; it was not touched"))
        }
        other => Err(unexpected(&other)),
    }
}

/// Deletes a document for everybody. Connected clients are closed with 4404.
#[utoipa::path(
    delete, path = "/v1/docs/{doc}", tag = "documents", operation_id = "deleteDoc",
    params(("doc" = String, Path, description = "The name, percent-encoded as one segment")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 403, description = "`FORBIDDEN`: deleting needs the right `admin` on the document", body = problem::Body),
        (status = "default", description = "Refused", body = problem::Body),
    )
)]
pub(super) async fn delete_doc(
    State(state): State<AppState>,
    caller: Caller,
    DocPath(doc): DocPath,
) -> Result<StatusCode, Problem> {
    caller.require(Level::Admin, &doc).await?;
    match ask(&state, &doc, Request::Delete).await? {
        Answer::Done => Ok(StatusCode::NO_CONTENT),
        other => Err(unexpected(&other)),
    }
}

/// Who is connected to a document, with their awareness states.
#[utoipa::path(
    get, path = "/v1/docs/{doc}/presence", tag = "documents", operation_id = "readPresence",
    params(("doc" = String, Path, description = "The name, percent-encoded as one segment")),
    responses(
        (status = 200, description = "Who is present", body = Members),
        (status = "default", description = "Refused", body = problem::Body),
    )
)]
pub(super) async fn read_presence(
    State(state): State<AppState>,
    caller: Caller,
    DocPath(doc): DocPath,
) -> Result<Json<Members>, Problem> {
    caller.require(Level::Read, &doc).await?;
    let present = ask_presence(&state, &doc).await?;
    Ok(Json(Members { members: present.into_iter().map(MemberLine::from).collect() }))
}

impl From<Present> for MemberLine {
    fn from(present: Present) -> Self {
        let text = |text: Arc<str>| text.as_ref().to_owned();
        let (user_id, name) = match present.member {
            Some(member) => (Some(text(member.user)), member.name.map(text)),
            None => (None, None),
        };
        // A state was checked when it came in; one that is no JSON after all is shown as none.
        let state = present.clients.first().and_then(|(_, state)| serde_json::from_slice(state).ok());
        let client_ids = present.clients.iter().map(|(client, _)| *client).collect();
        Self { user_id, name, client_ids, state: state.unwrap_or(Value::Null), since: rfc3339(present.since_ms) }
    }
}

pub(super) async fn ask(state: &AppState, doc: &DocName, request: Request) -> Result<Answer, Problem> {
    state.hub.ask(doc, request).await.map_err(|refusal| refused(state, refusal))
}

/// The body's own limit was checked before, so it is the document that would grow too large, unless the refusal names
/// another limit.
pub(super) fn refused(state: &AppState, refusal: Refusal) -> Problem {
    let names_limit = refusal.data.as_ref().is_some_and(|data| data.contains_key("limit"));
    if refusal.code == ErrorCode::PayloadTooLarge && !names_limit {
        return Problem::too_large(state.settings.doc_bytes, refusal.message);
    }
    refusal.into()
}

async fn ask_state(state: &AppState, doc: &DocName, have: StateVector) -> Result<(Bytes, Revision), Problem> {
    match ask(state, doc, Request::State { have }).await? {
        Answer::State { update, revision } => Ok((update, revision)),
        other => Err(unexpected(&other)),
    }
}

async fn ask_presence(state: &AppState, doc: &DocName) -> Result<Vec<Present>, Problem> {
    match ask(state, doc, Request::Presence).await? {
        Answer::Presence(present) => Ok(present),
        other => Err(unexpected(&other)),
    }
}

/// An answer to another question than the one that was asked: a bug of ours. Its content stays out of the log.
pub(super) fn unexpected(answer: &Answer) -> Problem {
    let kind = match answer {
        Answer::State { .. } => "State",
        Answer::Saved(_) => "Saved",
        Answer::Created { .. } => "Created",
        Answer::Presence(_) => "Presence",
        Answer::Table(_) | Answer::Repeated(_) => "Table",
        Answer::Done => "Done",
    };
    Problem::internal(format_args!("a document answered {kind} to another question"))
}

/// A parameter that is there or not: `?name`, `?name=true`.
pub(super) fn flag(name: &'static str, value: Option<&str>) -> Result<bool, Problem> {
    match value {
        None | Some("false" | "0") => Ok(false),
        Some("" | "true" | "1") => Ok(true),
        Some(_) => Err(Problem::wrong(name, "this parameter takes no value, or true or false")),
    }
}

#[cfg(test)]
mod tests {
    use syncline_protocol::ErrorCode;

    use super::*;
    use crate::document::request::Member;

    #[test]
    fn a_flag_is_there_or_not() {
        assert!(flag("ifAbsent", Some("")).unwrap());
        assert!(flag("ifAbsent", Some("true")).unwrap());
        assert!(!flag("ifAbsent", None).unwrap());
        assert_eq!(flag("ifAbsent", Some("maybe")).unwrap_err().code(), ErrorCode::InvalidPayload);
    }

    #[test]
    fn a_member_is_shown_in_camel_case() {
        let member = Member { user: "alice".into(), name: Some("Alice".into()), email: None };
        let clients = vec![(7, Bytes::from_static(b"{\"cursor\":1}")), (8, Bytes::from_static(b"null"))];
        let line = MemberLine::from(Present { member: Some(member), clients, since_ms: 1 });
        let want = serde_json::json!({
            "userId": "alice", "name": "Alice", "clientIds": [7, 8], "state": {"cursor": 1},
            "since": "1970-01-01T00:00:00.001Z"
        });
        assert_eq!(serde_json::to_value(line).unwrap(), want);
    }

    #[test]
    fn nobody_signed_in_and_no_state_are_null() {
        let line = MemberLine::from(Present { member: None, clients: vec![], since_ms: 0 });
        let shown = serde_json::to_value(line).unwrap();
        assert_eq!((&shown["userId"], &shown["state"]), (&Value::Null, &Value::Null));
    }
}
