//! A JSON body as the value that it should be: bounded before it is built, and with the path of what is wrong in it.

use std::fmt;
use std::fmt::Formatter;
use std::marker::PhantomData;
use std::time::Duration;

use axum::extract::Request;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::DeserializeOwned;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde::de::value::MapAccessDeserializer;
use syncline_protocol::ErrorCode;
use syncline_protocol::limits::ANY_DEPTH_MAX;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::http::AppState;
use crate::http::body;
use crate::http::body::Body;
use crate::http::problem::Problem;

/// Lists, objects and their entries in one body. A full table has a million cells, and each costs up to 100 bytes.
const VALUES_MAX: usize = 1_000_000;
/// A larger body is parsed away from the threads that serve people, and by few at a time.
const SMALL_BYTES_MAX: usize = 256 * 1024;
/// Full: a request waits this long for others to end, then it is told to come back.
const TURN_WAIT_MAX: Duration = Duration::from_secs(30);
/// What of a sentence about a wrong value reaches the caller.
const MESSAGE_CHARS_MAX: usize = 200;

/// A body that was understood, with what it costs until the request is answered.
pub(super) struct Given<T> {
    pub(super) value: T,
    pub(super) body: Body,
    _turn: Option<OwnedSemaphorePermit>,
}

/// # Errors
/// `INVALID_PAYLOAD` when the body is no JSON (400) or not the value (422, with its path); what [`body::read`] refuses;
/// `OVERLOADED` when too many large bodies are under way.
pub(super) async fn read<T: DeserializeOwned + Send + 'static>(
    state: &AppState,
    request: Request,
) -> Result<Given<T>, Problem> {
    let body = body::read(state, request).await?;
    understood(state, body).await
}

/// As [`read`], where no body at all means the same as `{}`.
pub(super) async fn read_or_default<T: DeserializeOwned + Default + Send + 'static>(
    state: &AppState,
    request: Request,
) -> Result<Given<T>, Problem> {
    let body = body::read(state, request).await?;
    if body.bytes.is_empty() {
        return Ok(Given { value: T::default(), body, _turn: None });
    }
    understood(state, body).await
}

async fn understood<T: DeserializeOwned + Send + 'static>(state: &AppState, body: Body) -> Result<Given<T>, Problem> {
    if body.bytes.len() <= SMALL_BYTES_MAX {
        return Ok(Given { value: parse(&body.bytes)?, body, _turn: None });
    }
    let turn = turn(state).await?;
    let bytes = body.bytes.clone();
    let value = tokio::task::spawn_blocking(move || parse(&bytes)).await.map_err(Problem::internal)??;
    Ok(Given { value, body, _turn: Some(turn) })
}

/// Held by who turns a large body into records, which take up to ten times its bytes.
pub(super) async fn turn(state: &AppState) -> Result<OwnedSemaphorePermit, Problem> {
    let turn = timeout(TURN_WAIT_MAX, state.large_bodies.clone().acquire_owned()).await;
    let full = || Problem::new(ErrorCode::Overloaded, "too many large bodies are under way; try again");
    turn.map_err(|_| full())?.map_err(Problem::internal)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    bounded(bytes)?;
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json);
    let Object(value) = value.map_err(|error: serde_path_to_error::Error<serde_json::Error>| {
        // It stops at the first thing that is wrong, and what follows may be no JSON at all.
        let is_json = error.inner().is_data() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
        if is_json { not_expected(&error) } else { not_json() }
    })?;
    json.end().map_err(|_| not_json())?;
    Ok(value)
}

/// A value that is written as an object. A derived reader would take a list for its fields in order, too.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(entries)).map(Object)
    }
}

/// A list of what is written as objects.
pub(super) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let objects: Vec<Object<T>> = Vec::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

fn not_json() -> Problem {
    Problem::unreadable("body", "the body is not JSON")
}

fn not_expected(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path = error.path().to_string();
    let path = if path == "." { "body".to_owned() } else { path };
    Problem::wrong("body", reworded(&error.inner().to_string())).with("path", path)
}

/// The parser's sentence without the value that it quotes, its line, and the words of this language.
fn reworded(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(before, _)| before);
    let Some((_, expected)) = message.rsplit_once("expected ") else {
        return message.chars().take(MESSAGE_CHARS_MAX).collect();
    };
    let expected = match expected {
        "u64" => "a whole number from 0",
        "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        other => other,
    };
    format!("expected {}", expected.chars().take(MESSAGE_CHARS_MAX).collect::<String>())
}

/// Looks at brackets and commas outside of strings: no value is built yet, and a few bytes can stand for many.
fn bounded(json: &[u8]) -> Result<(), Problem> {
    let (mut depth, mut values, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => (depth, values) = (depth + 1, values + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > ANY_DEPTH_MAX {
            return Err(Problem::wrong("body", format!("the body is nested deeper than {ANY_DEPTH_MAX}")));
        }
    }
    if values > VALUES_MAX {
        return Err(Problem::too_large(VALUES_MAX, format!("the body has over {VALUES_MAX} values")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use serde_json::Value;

    use super::super::input::BatchInput;
    use super::super::input::FieldInput;
    use super::super::input::PatchInput;
    use super::super::input::RecordsInput;
    use super::*;

    async fn refusal<T: DeserializeOwned>(json: &str) -> (u16, String, String, String) {
        let Err(problem) = parse::<T>(json.as_bytes()) else { panic!("{json}") };
        let response = problem.into_response();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (status, text(&body["code"]), text(&body["data"]["path"]), text(&body["message"]))
    }

    #[tokio::test]
    async fn what_is_no_json_is_400() {
        for json in [
            "",
            "{",
            "[1",
            "{\"records\":[]} x",
            "nul",
            "{\"records\":\"\u{1}\"}",
            "{\"records\":[{\"cells\":{\"a\":1e999}}]}",
        ] {
            let (status, code, path, _) = refusal::<RecordsInput>(json).await;
            assert_eq!((status, code.as_str(), path.as_str()), (400, "INVALID_PAYLOAD", "body"), "{json}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_422_and_says_where() {
        for (json, path, message) in [
            ("[]", "body", "expected an object"),
            ("7", "body", "expected an object"),
            ("{}", "body", "missing field `records`"),
            (r#"{"records":{}}"#, "records", "expected a list"),
            (r#"{"records":[{"cells":{}},{"cells":7}]}"#, "records[1].cells", "expected an object"),
            (r#"{"records":[{"cells":{},"what":7}]}"#, "records[0].what", "expected one of `id`, `cells`, `after`"),
            (r#"{"records":[{"id":{"secret":1}}]}"#, "records[0].id", "expected a string"),
            (r#"{"records":[{"id":"a","id":"b"}]}"#, "records[0]", "duplicate field `id`"),
        ] {
            let want = (422, "INVALID_PAYLOAD".to_owned(), path.to_owned(), message.to_owned());
            assert_eq!(refusal::<RecordsInput>(json).await, want, "{json}");
        }
        let (_, _, path, message) = refusal::<BatchInput>(r#"{"records":[{"id":"a","expectedVersion":-1}]}"#).await;
        assert_eq!((path.as_str(), message.as_str()), ("records[0].expectedVersion", "expected a whole number from 0"));
        let (_, _, path, message) = refusal::<PatchInput>(r#"{"onConflict":"whatever"}"#).await;
        assert_eq!((path.as_str(), message.as_str()), ("onConflict", "expected one of `field`, `record`, `force`"));
        let (_, _, path, _) = refusal::<FieldInput>(r#"{"name":"a","type":"text","width":"wide"}"#).await;
        assert_eq!(path, "width");
    }

    #[tokio::test]
    async fn depth_and_values_are_bounded_before_anything_is_built() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(bounded(nested(ANY_DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(refusal::<RecordsInput>(&nested(ANY_DEPTH_MAX + 1)).await.0, 422);
        assert_eq!(refusal::<RecordsInput>(&"[".repeat(1_000_000)).await.0, 422);
        let many = format!("[{}0]", "0,".repeat(VALUES_MAX));
        assert_eq!(refusal::<RecordsInput>(&many).await.1, "PAYLOAD_TOO_LARGE");
        let text = format!("[\"{}\\\"[[\"]", ",[{".repeat(VALUES_MAX));
        assert!(bounded(text.as_bytes()).is_ok(), "what stands in a string is no value");
    }

    #[tokio::test]
    async fn a_list_is_no_object() {
        for (json, path) in [("[[]]", "body"), (r#"{"records":[["id",{},null]]}"#, "records[0]")] {
            let want = (422, "INVALID_PAYLOAD".to_owned(), path.to_owned(), "expected an object".to_owned());
            assert_eq!(refusal::<RecordsInput>(json).await, want, "{json}");
        }
    }

    #[tokio::test]
    async fn a_refusal_does_not_repeat_what_was_sent() {
        let long = "secret".repeat(1_000);
        let (_, _, _, message) = refusal::<RecordsInput>(&format!(r#"{{"records":"{long}"}}"#)).await;
        assert_eq!(message, "expected a list");
        let (_, _, _, message) = refusal::<PatchInput>(&format!(r#"{{"onConflict":"{long}"}}"#)).await;
        assert!(!message.contains("secret"), "{message}");
    }
}
