//! The keys under which one cell is kept.

use std::collections::BTreeMap;

use serde_json::Value;

use super::field_of;

/// What a key of a record's map is to its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// `<field>`: the value, or what a counter starts from.
    Plain,
    /// `<field>/<id>`.
    Flag(&'a str),
    /// `<field>#<client>`.
    Count,
}

impl<'a> Part<'a> {
    pub(super) fn of(raw_key: &'a str) -> Self {
        let rest = &raw_key[field_of(raw_key).len()..];
        match rest.strip_prefix('/') {
            Some(id) => Self::Flag(id),
            None if rest.is_empty() => Self::Plain,
            None => Self::Count,
        }
    }
}

/// What is kept of one cell, taken apart. Keys that hold null count as absent.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    pub(super) plain: Option<&'a Value>,
    /// By id.
    pub(super) flags: BTreeMap<&'a str, &'a Value>,
    /// By whole key, so that they are added up in the same order everywhere.
    pub(super) counts: BTreeMap<&'a str, f64>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(raw: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Self {
        let mut parts = Self::default();
        for (key, value) in raw.into_iter().filter(|(_, value)| !value.is_null()) {
            match Part::of(key) {
                Part::Plain => parts.plain = Some(value),
                Part::Flag(id) => drop(parts.flags.insert(id, value)),
                Part::Count => parts.counts.extend(value.as_f64().map(|count| (key, count))),
            }
        }
        parts
    }

    /// What clients have counted, without what the counter starts from.
    pub(super) fn counted(&self) -> f64 {
        self.counts.values().sum()
    }

    /// The flags that are set, ascending.
    pub(super) fn set_flags(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.flags.iter().filter(|(_, value)| **value == true).map(|(id, _)| *id)
    }
}
