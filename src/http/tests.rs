//! The router as a whole, as far as no document is needed.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Method;
use axum::http::Request;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::Response;
use serde_json::Value;
use syncline_protocol::update::UpdateLimits;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::origins::Origins;
use super::ws::SocketLimits;
use super::ws::Sockets;
use super::*;
use crate::auth::Auth;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::Sources;
use crate::config::load;
use crate::document::core::Cluster;
use crate::document::core::CoreSettings;
use crate::document::core::Guards;
use crate::document::memory::Memory;
use crate::document::surroundings::Surroundings;
use crate::http::socketio::Gateway;
use crate::http::socketio::Rates;
use crate::hub::Hub;
use crate::hub::InboxLimits;
use crate::limit::ConnectionCounts;
use crate::metrics::Metrics;
use crate::outbox::Budget;
use crate::outbox::OutboxLimits;
use crate::room::Courier;
use crate::room::CourierLimits;
use crate::room::FeedLimits;
use crate::room::Feeds;
use crate::store::memory::MemoryStore;
use crate::table::events::Unheard;

const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

fn state() -> AppState {
    let clock = Clock::start();
    let (metrics, prometheus) = Metrics::install();
    let auth = Arc::new(Auth::new(&config().auth, false, clock).unwrap());
    let draining = CancellationToken::new();
    let (hub, outboxes) = hub(clock, metrics.clone());
    let origins = Arc::new(Origins::new(&["https://app.example".to_owned()], false));
    let feeds = Feeds::new(FeedLimits::default(), clock);
    let sockets = Sockets {
        hub: hub.clone(),
        feeds: feeds.clone(),
        origins: origins.clone(),
        auth: auth.clone(),
        clock,
        metrics,
        connections: ConnectionCounts::new(None, None),
        failed_connects: None,
        limits: SocketLimits {
            message_bytes_max: 1_000,
            outbox: OutboxLimits { bytes_max: 1_000, frames_max: 10 },
            write_timeout: Duration::from_secs(1),
            updates: None,
            grace: Duration::ZERO,
            auth_within: Duration::from_secs(60),
            hold_refused: Duration::ZERO,
            unproved_bytes_max: 1 << 20,
            held_max: 0,
            drain_stagger: Duration::ZERO,
        },
        outboxes,
        held: AtomicUsize::new(0),
        unproved_bytes: AtomicUsize::new(0),
        drain: draining.clone(),
        hurry: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    let settings = Settings { message_bytes: 1_000, doc_bytes: 2_000 };
    AppState::new(Parts {
        hub,
        feeds,
        courier: Arc::new(Courier::new(CourierLimits { parcels_max: 1, bytes_max: 1_000, keep: None })),
        auth,
        clock,
        origins,
        sockets: Arc::new(sockets),
        prometheus,
        draining,
        cluster: None,
        settings,
    })
}

fn engine(state: &AppState) -> Engine {
    let settings = socketio::Settings { connections: None, queue_waiting: 0, message_bytes: 1_000 };
    Gateway::engine(state.clone(), settings, Rates::per_minute(None, None, None))
}

/// Everything on one listener.
fn whole(state: AppState) -> Router {
    let engine = engine(&state);
    router(state, &engine)
}

/// What users reach, when operators have a listener of their own.
fn open_to_users(state: AppState) -> Router {
    let engine = engine(&state);
    public_router(state, &engine)
}

fn config() -> Config {
    let secret = ("SYNCLINE_AUTH__SECRET".to_owned(), "a secret that is only known to this test".to_owned());
    load(&Sources { environment: vec![secret], ..Sources::default() }).unwrap().config
}

fn hub(clock: Clock, metrics: Arc<Metrics>) -> (Arc<Hub>, Arc<Budget>) {
    let memory = Memory::new(1 << 20, metrics.documents_bytes.clone(), metrics.documents_unloaded.clone());
    let around = Surroundings {
        store: Arc::new(MemoryStore::new()),
        clock,
        settings: CoreSettings {
            doc_bytes_max: 2_000,
            compact_bytes: 1_000_000,
            idle: Duration::from_secs(60),
            heavy_bytes: usize::MAX,
            update: UpdateLimits::default(),
            cluster: Cluster::Alone,
        },
        guards: Guards::nowhere(),
        metrics,
        compactions: Arc::new(Semaphore::new(1)),
        jobs: Arc::new(Semaphore::new(1)),
        memory,
        publish: Arc::new(Unheard),
        link: None,
    };
    let outboxes = Budget::new(1_000_000);
    let limits = InboxLimits { doc_bytes_max: 1_000_000, total_bytes_max: 1_000_000 };
    (Hub::new(around, limits, outboxes.clone(), TaskTracker::new()), outboxes)
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
    let router = whole(state());
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
    let router = whole(state());
    for path in ["/v1/docs", "/v1/docs/a", "/v1/admin/stats"] {
        let refused = call(&router, Method::GET, path, &[]).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(field(&refused, &header::WWW_AUTHENTICATE), "Bearer");
        assert_eq!(json(refused).await["code"], "AUTH_FAILED");
    }
}

#[tokio::test]
async fn operators_may_have_a_listener_of_their_own() {
    let (public, admin) = (open_to_users(state()), admin_router(state()));
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(call(&public, Method::GET, path, &[]).await.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(call(&admin, Method::GET, path, &[]).await.status(), StatusCode::OK, "{path}");
    }
    assert_eq!(call(&admin, Method::GET, "/v1/docs", &[]).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_draining_server_lives_but_is_not_ready() {
    let state = state();
    let router = whole(state.clone());
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
    let router = whole(state());
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
    let router = whole(state());
    for (origin, want) in [("https://app.example", "https://app.example"), ("https://evil.example", "")] {
        let asks = [(header::ORIGIN, origin), (header::ACCESS_CONTROL_REQUEST_METHOD, "DELETE")];
        let answer = call(&router, Method::OPTIONS, "/v1/docs/a", &asks).await;
        assert_eq!(field(&answer, &header::ACCESS_CONTROL_ALLOW_ORIGIN), want);
    }
}

#[tokio::test]
async fn pages_of_strangers_cannot_act_without_a_token() {
    let router = whole(state());
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

fn upload(body: Body) -> Request<Body> {
    Request::post("/v1/docs/a/updates").body(body).unwrap()
}

async fn refused(result: Result<body::Body, problem::Problem>) -> (StatusCode, Value) {
    let response = axum::response::IntoResponse::into_response(result.err().unwrap());
    (response.status(), json(response).await)
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_declared_or_not() {
    let state = state();
    let whole = body::read(&state, upload(Body::from(vec![1; 1_000]))).await;
    assert_eq!(whole.ok().map(|body| body.bytes.len()), Some(1_000));

    let mut declared = upload(Body::empty());
    declared.headers_mut().insert(header::CONTENT_LENGTH, 1_001.into());
    let chunks = (0..11).map(|_| Ok::<_, std::io::Error>(vec![1; 100]));
    let chunked = upload(Body::from_stream(futures_util::stream::iter(chunks)));
    for request in [declared, chunked] {
        let (status, body) = refused(body::read(&state, request).await).await;
        assert_eq!((status.as_u16(), &body["data"]["limit"]), (413, &1_000.into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_cut_and_gives_its_share_back() {
    let state = state();
    let silence = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let (status, body) = refused(body::read(&state, upload(Body::from_stream(silence))).await).await;
    assert_eq!((status, &body["code"]), (StatusCode::REQUEST_TIMEOUT, &"INVALID_PAYLOAD".into()));
    assert!(body::read(&state, upload(Body::from("next"))).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn when_too_many_bodies_are_under_way_the_next_is_told_to_come_back() {
    let state = state();
    let mut first = upload(Body::empty());
    first.headers_mut().insert(header::CONTENT_LENGTH, 1_000.into());
    let all = state.body_budget.take(usize::MAX).await.unwrap();
    let (status, body) = refused(body::read(&state, first).await).await;
    assert_eq!((status, &body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"OVERLOADED".into()));
    drop(all);
    assert!(body::read(&state, upload(Body::from("next"))).await.is_ok());
}

#[tokio::test]
async fn what_is_described_is_routed_and_what_is_routed_is_described() {
    let router = whole(state());
    let described = openapi::described();
    for (path, operations) in described["paths"].as_object().unwrap() {
        for method in METHODS {
            let path = ["{doc}", "{table}", "{field}", "{record}", "{room}"]
                .iter()
                .fold(path.clone(), |path, name| path.replace(name, "a"));
            let status = call(&router, method.clone(), &path, &[]).await.status();
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
    let sources = [
        include_str!("docs.rs"),
        include_str!("stateless.rs"),
        include_str!("tables/mod.rs"),
        include_str!("rooms.rs"),
        include_str!("ops.rs"),
        include_str!("admin.rs"),
        include_str!("openapi.rs"),
    ];
    let calls = sources.iter().flat_map(|source| source.split(".route(").skip(1));
    let paths: Vec<_> = calls.filter_map(|rest| rest.split('"').nth(1)).collect();
    assert!(paths.len() >= 18, "the routes were not found: {paths:?}");
    paths
}

#[tokio::test]
async fn the_description_has_version_error_shape_and_security() {
    let router = whole(state());
    let answer = call(&router, Method::GET, "/openapi.json", &[]).await;
    assert_eq!(field(&answer, &header::CONTENT_TYPE), "application/json");
    let body = json(answer).await;
    assert_eq!(body["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(body["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    let problem = &body["components"]["schemas"]["Problem"]["properties"];
    assert!(["status", "code", "message", "data"].iter().all(|name| problem.get(name).is_some()));
    assert_eq!(body, openapi::described());
}
