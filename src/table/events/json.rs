//! Changes as JSON objects.

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value;

use crate::table::change::Changed;

/// Entries by key.
pub(super) fn object<V>(entries: &BTreeMap<impl AsRef<str>, V>, value: impl Fn(&V) -> Value) -> Map<String, Value> {
    entries.iter().map(|(key, entry)| (key.as_ref().to_owned(), value(entry))).collect()
}

/// What is now, and what was before.
pub(super) fn split<'a>(
    entries: impl Iterator<Item = (&'a str, &'a Changed)>,
) -> (Map<String, Value>, Map<String, Value>) {
    let mut sides = (Map::new(), Map::new());
    for (key, changed) in entries {
        sides.0.insert(key.to_owned(), changed.new.clone());
        sides.1.insert(key.to_owned(), changed.old.clone());
    }
    sides
}
