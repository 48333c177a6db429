//! What a command brings along, as the value that it should be.

use serde::Deserialize;
use serde::Deserializer;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::http::problem::Problem;
use crate::name::DocName;
use crate::name::RoomName;

/// What of a sentence about a wrong value reaches the caller.
const MESSAGE_CHARS_MAX: usize = 200;

/// Reads the payload of a command.
///
/// # Errors
/// `INVALID_PAYLOAD`, with the path of what is wrong.
pub(super) fn read<T: DeserializeOwned>(asked: &Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(asked).map_err(|error| {
        let path = error.path().to_string();
        let message: String = error.inner().to_string().chars().take(MESSAGE_CHARS_MAX).collect();
        let problem = Problem::wrong("payload", message);
        if path == "." { problem } else { problem.with("path", path) }
    })
}

/// Tells `null` from nothing.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The room that an id of this kind means: `kind:id`. An id that has the prefix already is taken as it is.
pub(super) fn room_of(kind: &str, id: &str, path: &'static str) -> Result<RoomName, Problem> {
    if id.is_empty() {
        return Err(Problem::wrong(path, "an id is not empty"));
    }
    let has_prefix = id.strip_prefix(kind).and_then(|rest| rest.strip_prefix(':')).is_some_and(|rest| !rest.is_empty());
    let name = if has_prefix { id.to_owned() } else { format!("{kind}:{id}") };
    RoomName::parse(&name).map_err(|error| Problem::wrong(path, error.to_string()))
}

/// As [`room_of`], for a kind that has documents.
pub(super) fn doc_of(kind: &str, id: &str, path: &'static str) -> Result<DocName, Problem> {
    let room = room_of(kind, id, path)?;
    room.as_doc().ok_or_else(|| Problem::wrong(path, "names of this kind are rooms, not documents"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "camelCase")]
    struct Sample {
        #[allow(dead_code)]
        record_id: String,
    }

    #[test]
    fn what_is_wrong_is_named() {
        let problem = read::<Sample>(&json!({"recordId": 7})).unwrap_err();
        assert_eq!(problem.to_json()["data"]["path"], "recordId");
        for wrong in [json!(null), json!([]), json!("x"), json!({})] {
            assert_eq!(read::<Sample>(&wrong).unwrap_err().to_json()["data"]["path"], "payload", "{wrong}");
        }
        assert!(read::<Sample>(&json!({"recordId": "r", "more": 1})).is_ok(), "older clients send more than is read");
    }

    #[test]
    fn ids_become_rooms() {
        assert_eq!(room_of("table", "T", "tableId").unwrap().as_str(), "table:T");
        assert_eq!(room_of("table", "table:T", "tableId").unwrap().as_str(), "table:T");
        assert_eq!(room_of("table", "table:", "tableId").unwrap().as_str(), "table:table:");
        assert!(room_of("table", "", "tableId").is_err() && room_of("table", "a\n", "tableId").is_err());
        assert!(doc_of("campaign", "7", "campaignId").is_err() && doc_of("component", "7", "componentId").is_ok());
    }
}
