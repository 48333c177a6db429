//! What a user may do where: patterns from the token, decided without asking anybody.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de;
use serde::de::MapAccess;
use serde::de::Visitor;

/// Patterns of one token. A token of 16 KiB has no room for many more; each costs memory per connection.
pub const PATTERNS_MAX: usize = 1000;

/// How much is allowed; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Subscribe, read, presence, typing and cursors.
    Read,
    /// Change documents, publish events.
    Write,
    /// Delete documents; on `*`, operate the server.
    Admin,
}

/// The `access` claim: from pattern to level. The longest pattern that fits a name decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessMap {
    names: HashMap<Box<str>, Level>,
    /// Without their `*`, longest first.
    prefixes: Vec<(Box<str>, Level)>,
}

impl AccessMap {
    /// Everything but other users' rooms.
    #[must_use]
    pub fn everything(level: Level) -> Self {
        Self { names: HashMap::new(), prefixes: vec![("".into(), level)] }
    }

    /// A map of these patterns; of two equal ones the later holds.
    #[must_use]
    pub fn new(patterns: impl IntoIterator<Item = (String, Level)>) -> Self {
        let mut map = Self::default();
        let mut prefixes = HashMap::new();
        for (pattern, level) in patterns {
            match pattern.strip_suffix('*') {
                Some(prefix) => drop(prefixes.insert(Box::from(prefix), level)),
                None => drop(map.names.insert(pattern.into(), level)),
            }
        }
        map.prefixes = prefixes.into_iter().collect();
        map.prefixes.sort_by_key(|(prefix, _)| Reverse(prefix.len()));
        map
    }

    /// What the user `sub` may do with the document or room `name`.
    #[must_use]
    pub fn level(&self, sub: &str, name: &str) -> Level {
        match name.strip_prefix("user:") {
            Some(owner) if owner != sub => Level::None,
            Some(_) => self.longest_match(name).max(Level::Read),
            None => self.longest_match(name),
        }
    }

    /// What is granted on `*`: `admin` there makes an operator.
    #[must_use]
    pub fn level_everywhere(&self) -> Level {
        self.prefixes.last().filter(|(prefix, _)| prefix.is_empty()).map_or(Level::None, |(_, level)| *level)
    }

    fn longest_match(&self, name: &str) -> Level {
        let by_prefix =
            || self.prefixes.iter().find(|(prefix, _)| name.starts_with(&**prefix)).map(|(_, level)| *level);
        self.names.get(name).copied().or_else(by_prefix).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for AccessMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AccessVisitor)
    }
}

struct AccessVisitor;

impl<'de> Visitor<'de> for AccessVisitor {
    type Value = AccessMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object from pattern to \"none\", \"read\", \"write\" or \"admin\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AccessMap, A::Error> {
        let mut patterns = HashMap::new();
        while let Some((pattern, level)) = map.next_entry::<String, Level>()? {
            // Which of the two was meant? Issuers and readers disagree; that is how rights are smuggled in.
            if patterns.insert(pattern, level).is_some() {
                return Err(de::Error::custom("a pattern stands twice in access"));
            }
            if patterns.len() > PATTERNS_MAX {
                return Err(de::Error::custom("too many patterns in access"));
            }
        }
        Ok(AccessMap::new(patterns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(json: &str) -> AccessMap {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_longest_match_decides() {
        let access = map(
            r#"{"*":"read","table:*":"write","table:secret*":"none","table:secret-but-mine":"admin","table:T":"read",
                "a*b":"write"}"#,
        );
        for (name, level) in [
            ("anything", Level::Read),
            ("", Level::Read),
            ("table:", Level::Write),
            ("table:X", Level::Write),
            ("table:secret", Level::None),
            ("table:secret-1", Level::None),
            ("table:secret-but-mine", Level::Admin),
            ("table:secret-but-mine2", Level::None),
            ("table:T", Level::Read),
            ("table:T2", Level::Write),
            ("a*b", Level::Write),
            ("axb", Level::Read),
        ] {
            assert_eq!(access.level("alice", name), level, "{name}");
        }
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        assert_eq!(AccessMap::default().level("alice", "doc"), Level::None);
        assert_eq!(map(r#"{"Doc":"read"}"#).level("alice", "doc"), Level::None);
        assert_eq!(map(r#"{"":"admin"}"#).level("alice", "doc"), Level::None);
    }

    #[test]
    fn a_users_room_opens_to_that_user_alone() {
        for json in [r#"{}"#, r#"{"*":"none"}"#, r#"{"user:alice":"none"}"#] {
            assert_eq!(map(json).level("alice", "user:alice"), Level::Read, "{json}");
        }
        for json in [r#"{"*":"admin"}"#, r#"{"user:*":"admin"}"#, r#"{"user:bob":"admin"}"#, r#"{"user:bo*":"write"}"#]
        {
            assert_eq!(map(json).level("alice", "user:bob"), Level::None, "{json}");
            assert_eq!(map(json).level("alice", "user:"), Level::None, "{json}");
        }
        assert_eq!(map(r#"{"*":"write"}"#).level("alice", "user:alice"), Level::Write);
        assert_eq!(map(r#"{"*":"write"}"#).level("alice", "users"), Level::Write);
    }

    #[test]
    fn an_operator_has_admin_on_everything() {
        assert_eq!(AccessMap::everything(Level::Admin).level_everywhere(), Level::Admin);
        assert_eq!(map(r#"{"*":"read","a*":"admin"}"#).level_everywhere(), Level::Read);
        assert_eq!(map(r#"{"a*":"admin","doc":"admin"}"#).level_everywhere(), Level::None);
    }

    #[test]
    fn a_wrong_access_claim_is_refused_whole() {
        for json in [
            r#"{"a":"owner"}"#,
            r#"{"a":"READ"}"#,
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            r#"{"a":{"b":"read"}}"#,
            r#"{"a":"read","a":"admin"}"#,
            r#"["a"]"#,
            r#""admin""#,
        ] {
            assert!(serde_json::from_str::<AccessMap>(json).is_err(), "{json}");
        }
        let many: Vec<_> = (0..=PATTERNS_MAX).map(|n| format!("\"{n}\":\"read\"")).collect();
        assert!(serde_json::from_str::<AccessMap>(&format!("{{{}}}", many.join(","))).is_err());
    }

    #[test]
    fn levels_are_ordered() {
        assert!(Level::None < Level::Read && Level::Read < Level::Write && Level::Write < Level::Admin);
    }
}
