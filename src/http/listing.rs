//! `GET /v1/docs`: the documents that the caller may read, page by page.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::rfc3339;
use crate::http::AppState;
use crate::http::caller::Caller;
use crate::http::problem;
use crate::http::problem::Problem;
use crate::name::DocName;
use crate::name::NAME_BYTES_MAX;
use crate::store::DocInfo;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// Names read from the store in one go.
const STORE_PAGE: usize = 500;
/// Store pages that one request may read. Then it answers with what it found, however little, and a cursor.
const STORE_PAGES_MAX: usize = 20;
/// Positions kept for callers whose scan ended among names that they may not know. Full: the oldest is forgotten, and
/// its cursor is refused.
const PARKED_MAX: usize = 256;

/// One page of documents.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DocList {
    /// In byte order of their names.
    docs: Vec<DocLine>,
    /// Goes into `cursor` for the next page; null at the end.
    next_cursor: Option<String>,
}

/// One line of the list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DocLine {
    name: String,
    /// What stands before the first `:` of the name.
    kind: Option<String>,
    /// Bytes kept for it: its snapshot and the log after it.
    bytes: u64,
    /// When it was last changed: RFC 3339, UTC, milliseconds.
    #[schema(example = "2026-03-01T12:00:00.000Z")]
    updated_at: String,
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    prefix: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// The documents that the caller may read.
#[utoipa::path(
    get, path = "/v1/docs", tag = "documents", operation_id = "listDocs",
    params(
        ("prefix" = Option<String>, Query, description = "Only names that start with it"),
        ("limit" = Option<u32>, Query, description = "At most so many; 100 by default, 1000 at most"),
        ("cursor" = Option<String>, Query, description = "`nextCursor` of the page before"),
    ),
    responses(
        (status = 200, description = "One page. It may be short or empty although `nextCursor` says that there is more", body = DocList),
        (status = "default", description = "Refused; with `auth.callback_url`, all but operators are", body = problem::Body),
    )
)]
pub(super) async fn list_docs(
    State(state): State<AppState>,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<DocList>, Problem> {
    caller.require_listing()?;
    let Query(query) = query?;
    let prefix = query.prefix.unwrap_or_default();
    if prefix.len() > NAME_BYTES_MAX {
        return Err(Problem::wrong("prefix", "a prefix is at most as long as a name"));
    }
    let limit = limit(query.limit.as_deref())?;
    let after = query.cursor.as_deref().map(|cursor| position(&state.parked, cursor)).transpose()?;
    let mut scan = Scan { found: Vec::new(), after, end: false };
    for _ in 0..STORE_PAGES_MAX {
        let page = state.hub.list(&prefix, scan.after.as_ref(), STORE_PAGE).await?;
        let last = page.next.is_none();
        scan.take(page.docs, last, limit, |doc| caller.may_see(doc));
        if scan.end || scan.found.len() >= limit {
            break;
        }
    }
    let next_cursor = scan.cursor(&state.parked);
    Ok(Json(DocList { docs: scan.found.into_iter().map(DocLine::from).collect(), next_cursor }))
}

/// How far a request has come.
struct Scan {
    found: Vec<DocInfo>,
    after: Option<DocName>,
    end: bool,
}

impl Scan {
    /// Takes what is readable from one page of the store, up to the limit.
    fn take(&mut self, docs: Vec<DocInfo>, last: bool, limit: usize, readable: impl Fn(&DocName) -> bool) {
        let mut docs = docs.into_iter();
        while self.found.len() < limit {
            let Some(doc) = docs.next() else { break };
            self.after = Some(doc.name.clone());
            if readable(&doc.name) {
                self.found.push(doc);
            }
        }
        // More that is unreadable is no more for this caller.
        self.end = last && !docs.any(|doc| readable(&doc.name));
    }

    /// The position in a form that tells the caller no name that it may not know.
    fn cursor(&self, parked: &Parked) -> Option<String> {
        let after = self.after.as_ref().filter(|_| !self.end)?;
        let known = self.found.last().is_some_and(|doc| doc.name == *after);
        Some(if known { name_cursor(after) } else { parked.park(after.clone()) })
    }
}

/// Positions in the list that are named by a number, because their name is not the caller's to know.
#[derive(Default)]
pub(super) struct Parked(Mutex<VecDeque<(u128, DocName)>>);

impl Parked {
    fn park(&self, name: DocName) -> String {
        let id = rand::random::<u128>();
        let mut parked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if parked.len() >= PARKED_MAX {
            parked.pop_front();
        }
        parked.push_back((id, name));
        encode(b'p', &id.to_be_bytes())
    }

    fn find(&self, id: u128) -> Option<DocName> {
        let parked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parked.iter().find(|(known, _)| *known == id).map(|(_, name)| name.clone())
    }
}

fn name_cursor(name: &DocName) -> String {
    encode(b'n', name.as_str().as_bytes())
}

fn encode(kind: u8, payload: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode([&[kind], payload].concat())
}

fn position(parked: &Parked, cursor: &str) -> Result<DocName, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let bytes = bytes.ok_or_else(|| Problem::unreadable("cursor", "this is no cursor of this list"))?;
    let found = match bytes.split_first() {
        Some((b'n', name)) => std::str::from_utf8(name).ok().and_then(|name| DocName::parse(name).ok()),
        Some((b'p', id)) => id.try_into().ok().and_then(|id| parked.find(u128::from_be_bytes(id))),
        _ => None,
    };
    found.ok_or_else(|| Problem::wrong("cursor", "this cursor is not valid, or no longer; begin without one"))
}

pub(super) fn limit(raw: Option<&str>) -> Result<usize, Problem> {
    let Some(raw) = raw else { return Ok(LIMIT_DEFAULT) };
    match raw.parse::<usize>() {
        // A caller that asks for more gets a page and a cursor, as it would anyway.
        Ok(limit) if limit > 0 => Ok(limit.min(LIMIT_MAX)),
        _ => Err(Problem::wrong("limit", "limit is a whole number from 1 to 1000")),
    }
}

impl From<DocInfo> for DocLine {
    fn from(doc: DocInfo) -> Self {
        let kind = doc.name.kind().map(str::to_owned);
        Self { name: doc.name.to_string(), kind, bytes: doc.bytes, updated_at: rfc3339(doc.updated_at_ms) }
    }
}

#[cfg(test)]
mod tests {
    use syncline_protocol::ErrorCode;

    use super::*;
    use crate::store::Seq;

    fn docs(names: &[&str]) -> Vec<DocInfo> {
        let info =
            |name: &&str| DocInfo { name: DocName::parse(name).unwrap(), bytes: 1, updated_at_ms: 0, last: Seq(1) };
        names.iter().map(info).collect()
    }

    fn scanned(names: &[&str], last: bool, limit: usize) -> Scan {
        let mut scan = Scan { found: vec![], after: None, end: false };
        scan.take(docs(names), last, limit, |doc| !doc.as_str().starts_with("secret"));
        scan
    }

    #[test]
    fn cursors_come_back_as_they_went_and_nothing_else_does() {
        let parked = Parked::default();
        let name = DocName::parse("a/ü 🙂").unwrap();
        assert_eq!(position(&parked, &name_cursor(&name)).unwrap(), name);
        assert_eq!(position(&parked, &parked.park(name.clone())).unwrap(), name);
        for bad in
            ["", "%", "bg", "cA", "eHg", &encode(b'p', &[0; 16]), &encode(b'n', b"user:x"), &encode(b'n', &[255])]
        {
            assert_eq!(position(&parked, bad).unwrap_err().code(), ErrorCode::InvalidPayload, "{bad}");
        }
    }

    #[test]
    fn parked_positions_are_bounded() {
        let parked = Parked::default();
        let name = DocName::parse("a").unwrap();
        let first = parked.park(name.clone());
        for _ in 0..PARKED_MAX {
            parked.park(name.clone());
        }
        assert!(position(&parked, &first).is_err());
        assert_eq!(parked.0.lock().unwrap().len(), PARKED_MAX);
    }

    #[test]
    fn a_full_page_goes_on_after_its_last_line() {
        let scan = scanned(&["a", "secret", "z"], true, 1);
        assert_eq!(scan.cursor(&Parked::default()), Some(name_cursor(&DocName::parse("a").unwrap())));
    }

    #[test]
    fn there_is_no_next_page_of_what_may_not_be_read() {
        assert_eq!(scanned(&["a", "secret"], true, 1).cursor(&Parked::default()), None);
        assert_eq!(scanned(&[], true, 1).cursor(&Parked::default()), None);
    }

    #[test]
    fn a_cursor_among_secret_names_does_not_tell_them() {
        let parked = Parked::default();
        let scan = scanned(&["a", "secret"], false, 5);
        let cursor = scan.cursor(&parked).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
        assert_eq!(position(&parked, &cursor).unwrap().as_str(), "secret");
    }

    #[test]
    fn limits_are_whole_numbers_above_zero() {
        assert_eq!(limit(None).unwrap(), 100);
        assert_eq!(limit(Some("7")).unwrap(), 7);
        assert_eq!(limit(Some("99999")).unwrap(), 1000);
        for bad in ["0", "-1", "x", ""] {
            assert_eq!(limit(Some(bad)).unwrap_err().code(), ErrorCode::InvalidPayload, "{bad}");
        }
    }
}
