//! An application that is asked for rights, polite or not.

use std::sync::Arc;
use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::post;
use serde_json::Value;
use serde_json::json;
use tokio::sync::watch;

use crate::server::PATIENCE;

/// What the application does when it is asked.
#[derive(Clone)]
pub(crate) enum Reply {
    Says(StatusCode, String),
    /// Sends the caller to `/elsewhere`, where everybody is an admin.
    SendsAway,
    /// Begins to answer, and never ends.
    Begins,
    /// Takes the question and never answers.
    Nothing,
}

/// The application; it lives as long as the test.
pub(crate) struct App {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    reply: Mutex<Reply>,
    questions: Mutex<Vec<Value>>,
    authorization: Mutex<Option<String>>,
    /// How many questions have come, and how many may be answered by now.
    came: watch::Sender<usize>,
    may_answer: watch::Sender<usize>,
}

impl App {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared {
            reply: Mutex::new(Reply::Nothing),
            questions: Mutex::default(),
            authorization: Mutex::default(),
            came: watch::channel(0).0,
            may_answer: watch::channel(usize::MAX).0,
        });
        let elsewhere = || async { json!({"access": "admin"}).to_string() };
        let routes = Router::new().route("/may", post(asked)).route("/elsewhere", post(elsewhere).get(elsewhere));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/may", listener.local_addr().unwrap());
        let routes = routes.with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, shared }
    }

    pub(crate) async fn says(access: &str) -> Self {
        let app = Self::start().await;
        app.reply(granted(access));
        app
    }

    pub(crate) fn reply(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap() = reply;
    }

    pub(crate) fn asked(&self) -> usize {
        *self.shared.came.borrow()
    }

    /// Waits until so many questions have come.
    pub(crate) async fn until_asked(&self, count: usize) {
        let mut came = self.shared.came.subscribe();
        tokio::time::timeout(PATIENCE, came.wait_for(|came| *came >= count)).await.expect("it is asked").unwrap();
    }

    /// The last `Authorization` that came with a question.
    pub(crate) fn authorization(&self) -> Option<String> {
        self.shared.authorization.lock().unwrap().clone()
    }

    /// Questions beyond the first `count` wait for their answers.
    pub(crate) fn answer_only(&self, count: usize) {
        self.shared.may_answer.send_replace(count);
    }

    pub(crate) fn last_question(&self) -> Value {
        self.shared.questions.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

async fn asked(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    *shared.authorization.lock().unwrap() = authorization;
    shared.questions.lock().unwrap().push(serde_json::from_str(&body).unwrap());
    let mut number = 0;
    shared.came.send_modify(|came| {
        *came += 1;
        number = *came;
    });
    let mut may_answer = shared.may_answer.subscribe();
    let _ = may_answer.wait_for(|count| number <= *count).await;
    let reply = shared.reply.lock().unwrap().clone();
    match reply {
        Reply::Says(status, body) => (status, body).into_response(),
        Reply::SendsAway => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response(),
        Reply::Begins => {
            let begun = futures_util::stream::iter([Ok::<_, std::io::Error>("{")]);
            Body::from_stream(futures_util::StreamExt::chain(begun, futures_util::stream::pending())).into_response()
        }
        Reply::Nothing => std::future::pending().await,
    }
}

/// A plain answer.
pub(crate) fn granted(access: &str) -> Reply {
    Reply::Says(StatusCode::OK, json!({"access": access}).to_string())
}
