//! `/openapi.json`: the REST side, described from the handlers themselves.

use std::sync::LazyLock;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use utoipa::Modify;
use utoipa::OpenApi;
use utoipa::openapi::security::HttpAuthScheme;
use utoipa::openapi::security::HttpBuilder;
use utoipa::openapi::security::SecurityScheme;

use crate::http::AppState;
use crate::http::admin;
use crate::http::docs;
use crate::http::listing;
use crate::http::ops;
use crate::http::rooms;
use crate::http::stateless;
use crate::http::tables::fields;
use crate::http::tables::records;
use crate::http::tables::transfer;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Syncline",
        description = "Documents and tables over REST. A write answers after it is durable. Names are one percent-encoded path segment.",
        version = env!("CARGO_PKG_VERSION"),
    ),
    paths(
        listing::list_docs,
        docs::read_doc,
        docs::create_doc,
        docs::delete_doc,
        docs::read_state,
        docs::merge_update,
        docs::read_presence,
        stateless::say_stateless,
        fields::read_table,
        fields::create_table,
        fields::add_field,
        fields::change_field,
        fields::delete_field,
        records::list_records,
        records::create_records,
        records::patch_records,
        records::read_record,
        records::patch_record,
        records::delete_record,
        records::restore_record,
        transfer::export_table,
        transfer::import_records,
        rooms::read_events,
        rooms::publish_event,
        rooms::read_members,
        rooms::configure_room,
        ops::health,
        ops::readiness,
        ops::metrics,
        admin::stats,
        admin::drain,
        admin::revoke,
        describe,
    ),
    security(("token" = [])),
    modifiers(&TokenScheme),
)]
struct Description;

struct TokenScheme;

impl Modify for TokenScheme {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let text = "A JWT with sub, exp and access. Where a header cannot be sent it may stand in the query, as token.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").description(Some(text));
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(scheme.build()));
    }
}

/// The route of the description.
pub fn routes() -> Router<AppState> {
    Router::new().route("/openapi.json", get(describe))
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operators", operation_id = "describe", security(()),
    responses((status = 200, description = "OpenAPI", body = Object))
)]
pub(super) async fn describe() -> impl IntoResponse {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
        Description::openapi().to_json().expect("a description made of strings and maps is JSON").into()
    });
    ([(header::CONTENT_TYPE, "application/json")], TEXT.clone())
}

#[cfg(test)]
pub(super) fn described() -> serde_json::Value {
    serde_json::to_value(Description::openapi()).unwrap()
}
