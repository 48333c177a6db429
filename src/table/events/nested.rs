//! The events of nested components, in the words of the older clients.

use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::event::Happening;
use crate::table::change::Changed;
use crate::table::change::ComponentChange;
use crate::table::change::Life;

/// The name of the event.
pub(super) fn name(changed: &ComponentChange) -> &'static str {
    match changed.life {
        Some(Life::Created | Life::Restored) => "component:nested-created",
        Some(Life::Deleted | Life::Purged) => "component:nested-deleted",
        None => "component:nested-updated",
    }
}

/// Adds what the event of a component says to one of its record.
pub(super) fn told(happening: Happening, id: &Arc<str>, component: &ComponentChange, who: Option<&str>) -> Happening {
    let record = happening.fields.get("recordId").cloned().unwrap_or_default();
    let happening = happening.id("rowId", record).id("nestedComponentId", &**id);
    let happening = happening.id("parentId", component.parent.as_deref());
    match component.life {
        Some(Life::Created | Life::Restored) => {
            let there = component.changed.iter().filter(|(_, changed)| !changed.new.is_null());
            let mut shown = content(there, |changed| &changed.new);
            shown.insert("id".to_owned(), Value::from(&**id));
            let restored = component.life == Some(Life::Restored);
            // Older clients get it as it was sent; where it stands among the others is for those who keep a copy.
            let sent = shown.iter().filter(|(key, _)| !key.starts_with('$'));
            let sent: Map<String, Value> = sent.map(|(key, value)| (key.clone(), value.clone())).collect();
            let happening = happening.id("nestedComponent", sent).with("nestedComponent", shown);
            happening.both("createdBy", who).with("restored", restored)
        }
        Some(Life::Deleted | Life::Purged) => happening.both("deletedBy", who),
        None => {
            let (now, before) = sides(component);
            happening.both("updates", now).with("previous", before).both("updatedBy", who)
        }
    }
}

/// The component's line in `records:updated`.
pub(super) fn line(id: &Arc<str>, component: &ComponentChange) -> Value {
    let (_, event) = name(component).split_once("nested-").unwrap_or_default();
    let (now, before) = sides(component);
    json!({
        "id": &**id,
        "parentId": component.parent.as_deref(),
        "event": event,
        "changed": now,
        "previous": before,
    })
}

/// What is now, and what was before.
fn sides(component: &ComponentChange) -> (Map<String, Value>, Map<String, Value>) {
    let side = |side| content(&component.changed, side);
    (side(|changed| &changed.new), side(|changed| &changed.old))
}

/// One side of a change in the shape in which a client sends it: `props` with their own level, `parentId` for the parent.
fn content<'a>(
    changed: impl IntoIterator<Item = (&'a Arc<str>, &'a Changed)>,
    side: fn(&Changed) -> &Value,
) -> Map<String, Value> {
    let mut content = Map::new();
    for (key, changed) in changed {
        let value = side(changed).clone();
        match key.strip_prefix("props/") {
            Some(prop) => {
                let props = content.entry("props").or_insert_with(|| json!({}));
                props[prop] = value;
            }
            None if **key == *"parent" => drop(content.insert("parentId".to_owned(), value)),
            None => drop(content.insert(key.to_string(), value)),
        }
    }
    content
}
