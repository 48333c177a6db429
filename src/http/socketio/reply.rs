//! What a client hears of its own commands: an acknowledgement, and an event where something was refused.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use syncline_protocol::ErrorCode;

use crate::http::problem::Problem;

/// What came of one command.
pub(super) type Reply = Result<Value, Problem>;

/// A refusal as an acknowledgement has it.
pub(super) fn refusal(problem: &Problem) -> Value {
    let mut body = problem.to_json();
    body["success"] = Value::Bool(false);
    body
}

/// A success, with what the command answers.
pub(super) fn success(mut answer: Value) -> Value {
    if !answer.is_object() {
        answer = json!({});
    }
    answer["success"] = Value::Bool(true);
    answer
}

/// The events that tell a refusal to the one who asked, and to nobody else: each with its name and its payload.
///
/// `event` is the command, `asked` its payload, `acknowledged` whether it asked for an acknowledgement: one that did not
/// hears of everything by event.
pub(super) fn error_events(event: &str, asked: &Value, problem: &Problem, acknowledged: bool) -> Vec<(String, Value)> {
    let payload = told(event, asked, problem);
    let mut names = Vec::new();
    match problem.code() {
        ErrorCode::ConcurrentEdit => names.push("error:conflict".to_owned()),
        ErrorCode::Forbidden => names.push("error:permission".to_owned()),
        _ => {}
    }
    let is_conflict = problem.code() == ErrorCode::ConcurrentEdit;
    if let Some(done) = done_word(event).filter(|_| !is_conflict) {
        names.push(format!("{done}:error"));
    }
    if names.is_empty() || (!acknowledged && names.iter().all(|name| name.ends_with(":error"))) {
        names.push("error".to_owned());
    }
    names.into_iter().map(|name| (name, payload.clone())).collect()
}

/// The event that a successful write makes.
fn done_word(command: &str) -> Option<&'static str> {
    Some(match command {
        "record:create" => "record:created",
        "record:update" => "record:updated",
        "record:delete" => "record:deleted",
        "record:restore" => "record:restored",
        "records:batch-update" => "records:updated",
        "grid:cell-edit" => "grid:cell-edited",
        "grid:column-resize" => "grid:column-resized",
        "grid:row-resize" => "grid:row-resized",
        "component:update" => "component:updated",
        "component:nested-create" => "component:nested-created",
        "component:nested-update" => "component:nested-updated",
        "component:nested-delete" => "component:nested-deleted",
        "message:send" => "message:sent",
        "message:edit" => "message:edited",
        "message:delete" => "message:deleted",
        "message:status" => "message:status",
        _ => return None,
    })
}

/// The refusal, with the ids that the command named, and what older clients look for at the top level.
fn told(event: &str, asked: &Value, problem: &Problem) -> Value {
    let mut payload = problem.to_json();
    payload["event"] = Value::from(event);
    let empty = Map::new();
    for (name, value) in asked.as_object().unwrap_or(&empty) {
        if (name.ends_with("Id") || name == "room") && (value.is_string() || value.is_number()) {
            payload[name.as_str()] = value.clone();
        }
    }
    for name in ["currentValue", "currentVersion", "retryAfterMs"] {
        if let Some(value) = problem.data().get(name) {
            payload[name] = value.clone();
        }
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(event: &str, code: ErrorCode, acknowledged: bool) -> Vec<String> {
        let problem = Problem::new(code, "why");
        error_events(event, &json!({}), &problem, acknowledged).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn refusals_have_the_event_that_undoes_what_was_shown_already() {
        for (event, code, acknowledged, want) in [
            ("grid:cell-edit", ErrorCode::ConcurrentEdit, true, &["error:conflict"][..]),
            ("grid:cell-edit", ErrorCode::InvalidValue, true, &["grid:cell-edited:error"]),
            ("grid:cell-edit", ErrorCode::Forbidden, true, &["error:permission", "grid:cell-edited:error"]),
            ("record:create", ErrorCode::InvalidValue, true, &["record:created:error"]),
            ("record:create", ErrorCode::InvalidValue, false, &["record:created:error", "error"]),
            ("subscribe", ErrorCode::Forbidden, true, &["error:permission"]),
            ("subscribe", ErrorCode::RoomFull, true, &["error"]),
        ] {
            assert_eq!(names(event, code, acknowledged), want, "{event} {code:?}");
        }
    }

    #[test]
    fn an_error_says_what_it_is_about() {
        let problem =
            Problem::new(ErrorCode::ConcurrentEdit, "why").with("currentValue", "y").with("currentVersion", 9);
        let asked = json!({"tableId": "T", "recordId": "r", "value": "x", "expectedVersion": 7});
        let (name, payload) = error_events("grid:cell-edit", &asked, &problem, true).remove(0);
        assert_eq!(name, "error:conflict");
        let want = json!({
            "status": "error", "code": "CONCURRENT_EDIT", "message": "why", "event": "grid:cell-edit",
            "tableId": "T", "recordId": "r", "currentValue": "y", "currentVersion": 9,
            "data": {"currentValue": "y", "currentVersion": 9},
        });
        assert_eq!(payload, want);
        assert_eq!(refusal(&problem)["success"], false);
        assert_eq!(success(json!({"version": 1})), json!({"version": 1, "success": true}));
    }
}
