//! Stand-in.
use crate::http::AppState;
use axum::Router;

/// Stand-in.
pub fn routes() -> Router<AppState> {
    Router::new()
}
