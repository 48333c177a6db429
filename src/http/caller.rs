//! Who is asking, and what they may do. All contact of the REST side with `auth` is here.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::extract::Query;
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::http::header;
use axum::http::request::Parts;
use serde::Deserialize;
use syncline_protocol::ErrorCode;

use crate::auth::Auth;
use crate::auth::AuthError;
use crate::auth::Identity;
use crate::auth::Level;
use crate::document::request::Member;
use crate::http::AppState;
use crate::http::problem::Problem;
use crate::name::DocName;
use crate::name::RoomName;

/// Somebody whose token holds (or anybody, under `--dev`).
pub struct Caller {
    identity: Identity,
    auth: Arc<Auth>,
}

impl Caller {
    /// Whether this caller may see in a list that the document exists: by the token alone, see
    /// [`Self::require_listing`].
    #[must_use]
    pub fn may_see(&self, doc: &DocName) -> bool {
        self.identity.level(doc.as_str()) >= Level::Read
    }

    /// # Errors
    /// `FORBIDDEN` without at least `level` on the document, whether it exists or not; a transient code when the
    /// application cannot be asked.
    pub async fn require(&self, level: Level, doc: &DocName) -> Result<(), Problem> {
        self.require_on(level, doc.as_str(), "on the document").await
    }

    /// # Errors
    /// As [`Self::require`], of a room.
    pub async fn require_room(&self, level: Level, room: &RoomName) -> Result<(), Problem> {
        self.require_on(level, room.as_str(), "in the room").await
    }

    async fn require_on(&self, level: Level, name: &str, place: &str) -> Result<(), Problem> {
        if self.auth.authorize(&self.identity, name).await? >= level {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::Forbidden, format!("this needs the right {} {place}", word(level))))
    }

    /// Who it is, for what outlives the request.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// # Errors
    /// `FORBIDDEN` for all but operators: those with `admin` on `*`, by the token alone. They must be able to act while the
    /// application is down, and no answer about one room should make somebody master of all.
    pub fn require_operator(&self) -> Result<(), Problem> {
        if self.identity.is_operator() {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::Forbidden, "this needs the right \"admin\" on \"*\""))
    }

    /// # Errors
    /// `FORBIDDEN` where the application decides about every document, for all but operators: a list would ask it about
    /// each, and it knows its documents itself.
    pub fn require_listing(&self) -> Result<(), Problem> {
        if self.auth.asks_application() { self.require_operator() } else { Ok(()) }
    }

    /// The caller as documents and stores know people; `None` under `--dev`, where nobody is signed in.
    #[must_use]
    pub fn member(&self) -> Option<Member> {
        let Identity { sub, name, email, .. } = &self.identity;
        (!sub.is_empty()).then(|| Member { user: sub.clone(), name: name.clone(), email: email.clone() })
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let token = token(&parts.headers, &parts.uri)?;
        if token.is_none() {
            refuse_foreign_page(&parts.headers, state)?;
        }
        let identity = state.auth.authenticate(token.as_deref()).await?;
        Ok(Self { identity, auth: state.auth.clone() })
    }
}

/// Under `--dev` no token is needed, so any page that a developer visits could post to this server without the browser
/// asking first. A page of this server and the allowed origins may; with a token the token decides.
fn refuse_foreign_page(headers: &HeaderMap, state: &AppState) -> Result<(), Problem> {
    if state.origins.admit(headers) {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::Forbidden, "this origin is not one of auth.allowed_origins"))
}

#[derive(Deserialize)]
struct TokenQuery {
    token: Option<String>,
}

/// The token of a request: the header before the query. It never goes into a log or a message.
///
/// # Errors
/// `INVALID_PAYLOAD` when the query cannot be read.
pub(super) fn token(headers: &HeaderMap, uri: &Uri) -> Result<Option<String>, Problem> {
    if let Some(token) = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.to_str().ok()?)) {
        return Ok(Some(token.to_owned()));
    }
    let Query(TokenQuery { token }) = Query::try_from_uri(uri)?;
    Ok(token.filter(|token| !token.is_empty()))
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn word(level: Level) -> &'static str {
    match level {
        Level::None => "\"none\"",
        Level::Read => "\"read\"",
        Level::Write => "\"write\"",
        Level::Admin => "\"admin\"",
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        Self::new(error.code, error.message)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn found(authorization: Option<&'static str>, uri: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        token(&headers, &uri.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_token_is_found_where_clients_put_it() {
        assert_eq!(found(Some("Bearer a.b.c"), "/v1/docs").as_deref(), Some("a.b.c"));
        assert_eq!(found(Some("bearer  a.b.c "), "/v1/docs?token=x").as_deref(), Some("a.b.c"));
        assert_eq!(found(None, "/v1/docs?limit=1&token=a%2Eb").as_deref(), Some("a.b"));
        assert_eq!(found(Some("Basic eDp5"), "/v1/docs?token=x").as_deref(), Some("x"));
        assert_eq!(found(Some("Bearer "), "/v1/docs?token="), None);
    }

    #[test]
    fn a_query_that_cannot_be_read_is_refused_without_quoting_it() {
        let problem = token(&HeaderMap::new(), &"/?token=hidden&token=hidden".parse().unwrap()).unwrap_err();
        assert_eq!(problem.code(), ErrorCode::InvalidPayload);
        assert!(!format!("{problem:?}").contains("hidden"));
    }
}
