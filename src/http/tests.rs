//! The router as a whole, as far as no document is needed.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Method;
use axum::http::Request;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::Response;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::clock::Clock;

const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

fn state() -> AppState {
    let parts = Parts {
        hub: Arc::default(),
        auth: Arc::new(crate::auth::Auth { dev: false }),
        clock: Clock::start(),
        prometheus: metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle(),
        draining: CancellationToken::new(),
        settings: Settings {
            message_bytes: 1_000,
            doc_bytes: 2_000,
            allowed_origins: vec!["https://app.example".to_owned()],
        },
    };
    AppState::new(parts)
}

async fn call(router: &Router, method: Method, path: &str, headers: &[(header::HeaderName, &str)]) -> Response {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn json(response: Response) -> Value {
    let bytes = axum::body::to_bytes(response.into_body(), 1_000_000).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn field<'a>(response: &'a Response, name: &header::HeaderName) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn unknown_addresses_and_methods_are_refused_in_the_one_shape() {
    let router = router(state());
    let unknown = call(&router, Method::GET, "/v1/nothing", &[]).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert_eq!(json(unknown).await["code"], "NOT_FOUND");

    let method = call(&router, Method::PATCH, "/v1/docs/a", &[]).await;
    assert_eq!(method.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(field(&method, &header::ALLOW), "GET,HEAD,PUT,DELETE");
    assert_eq!(json(method).await["status"], "error");
}

#[tokio::test]
async fn without_a_token_the_answer_says_what_is_missing() {
    let router = router(state());
    for path in ["/v1/docs", "/v1/docs/a", "/v1/admin/stats"] {
        let refused = call(&router, Method::GET, path, &[]).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(field(&refused, &header::WWW_AUTHENTICATE), "Bearer");
        assert_eq!(json(refused).await["code"], "AUTH_FAILED");
    }
}

#[tokio::test]
async fn operators_may_have_a_listener_of_their_own() {
    let (public, admin) = (public_router(state()), admin_router(state()));
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(call(&public, Method::GET, path, &[]).await.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(call(&admin, Method::GET, path, &[]).await.status(), StatusCode::OK, "{path}");
    }
    assert_eq!(call(&admin, Method::GET, "/v1/docs", &[]).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_draining_server_lives_but_is_not_ready() {
    let state = state();
    let router = router(state.clone());
    assert_eq!(call(&router, Method::GET, "/readyz", &[]).await.status(), StatusCode::OK);
    state.draining.cancel();
    let readiness = call(&router, Method::GET, "/readyz", &[]).await;
    assert_eq!(readiness.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json(readiness).await["data"]["reason"], "draining");
    assert_eq!(call(&router, Method::GET, "/healthz", &[]).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_panic_is_one_answer_and_not_the_end() {
    let routes = Router::new().route("/panic", axum::routing::get(async || -> () { panic!("on purpose") }));
    let router = finish(routes, state());
    let answer = call(&router, Method::GET, "/panic", &[]).await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = json(answer).await;
    assert_eq!(body["code"], "INTERNAL");
    assert!(body["data"]["traceId"].is_string() && !body.to_string().contains("on purpose"));
}

#[tokio::test]
async fn the_demo_is_served_with_its_guards_and_is_asked_for_once() {
    let router = router(state());
    for (path, kind) in [("/", "text/html"), ("/main.js", "text/javascript"), ("/style.css", "text/css")] {
        let asset = call(&router, Method::GET, path, &[]).await;
        assert_eq!(asset.status(), StatusCode::OK);
        assert!(field(&asset, &header::CONTENT_TYPE).starts_with(kind));
        assert!(field(&asset, &header::CONTENT_SECURITY_POLICY).starts_with("default-src 'self'; connect-src"));
        assert_eq!(field(&asset, &header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        let tag = field(&asset, &header::ETAG);
        let again = call(&router, Method::GET, path, &[(header::IF_NONE_MATCH, tag)]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }
}

#[tokio::test]
async fn browsers_are_told_which_pages_may_call() {
    let router = router(state());
    for (origin, want) in [("https://app.example", "https://app.example"), ("https://evil.example", "")] {
        let asks = [(header::ORIGIN, origin), (header::ACCESS_CONTROL_REQUEST_METHOD, "DELETE")];
        let answer = call(&router, Method::OPTIONS, "/v1/docs/a", &asks).await;
        assert_eq!(field(&answer, &header::ACCESS_CONTROL_ALLOW_ORIGIN), want);
    }
}

#[tokio::test]
async fn pages_of_strangers_cannot_act_without_a_token() {
    let router = router(state());
    let host = (header::HOST, "localhost:8080");
    for (origin, want) in [
        ("https://evil.example", "FORBIDDEN"),
        ("null", "FORBIDDEN"),
        ("http://localhost:8080", "AUTH_FAILED"),
        ("https://app.example", "AUTH_FAILED"),
    ] {
        let headers = [host.clone(), (header::ORIGIN, origin)];
        let refused = call(&router, Method::POST, "/v1/docs/a/updates", &headers).await;
        assert_eq!(json(refused).await["code"], want, "{origin}");
    }
}

#[tokio::test]
async fn what_is_described_is_routed_and_what_is_routed_is_described() {
    let router = router(state());
    let described = openapi::described();
    for (path, operations) in described["paths"].as_object().unwrap() {
        for method in METHODS {
            let status = call(&router, method.clone(), &path.replace("{doc}", "a"), &[]).await.status();
            let routed = ![StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status);
            let is_described = operations.get(method.as_str().to_lowercase()).is_some();
            assert_eq!(routed, is_described, "{method} {path}");
        }
    }
    for path in routed_paths() {
        assert!(described["paths"].get(path).is_some(), "{path} is routed but not described");
    }
}

/// The router does not tell its routes, so they are read from where they are written.
fn routed_paths() -> Vec<&'static str> {
    let sources = [include_str!("docs.rs"), include_str!("ops.rs"), include_str!("openapi.rs")];
    let calls = sources.iter().flat_map(|source| source.split(".route(\"").skip(1));
    let paths: Vec<_> = calls.filter_map(|rest| rest.split('"').next()).collect();
    assert!(paths.len() >= 10, "the routes were not found: {paths:?}");
    paths
}

#[tokio::test]
async fn the_description_has_version_error_shape_and_security() {
    let router = router(state());
    let answer = call(&router, Method::GET, "/openapi.json", &[]).await;
    assert_eq!(field(&answer, &header::CONTENT_TYPE), "application/json");
    let body = json(answer).await;
    assert_eq!(body["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(body["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    let problem = &body["components"]["schemas"]["Problem"]["properties"];
    assert!(["status", "code", "message", "data"].iter().all(|name| problem.get(name).is_some()));
    assert_eq!(body, openapi::described());
}
