//! What topics are called on a bus that knows only texts.

use std::sync::Arc;

use super::Topic;

/// The names of one cluster's topics.
#[derive(Debug, Clone)]
pub(super) struct Channels {
    prefix: Arc<str>,
}

impl Channels {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The name of a topic: no two share one. What clients make up stands last, and names are only ever compared as a whole.
    pub(super) fn of(&self, topic: &Topic) -> Arc<str> {
        let prefix = &self.prefix;
        match topic {
            Topic::Doc(name) => format!("{prefix}:d:{}", name.as_str()).into(),
            Topic::Room(name) => format!("{prefix}:r:{}", name.as_str()).into(),
            Topic::Nodes => format!("{prefix}:n").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::name::DocName;
    use crate::name::RoomName;

    #[test]
    fn no_two_topics_share_a_name() {
        let names = ["n", "d:n", ":", "*", "a*", "?", "[a-z]", "a b", "x:d:a", "ü", "\\", "\"", "a"];
        let channels = Channels::new("x");
        let mut seen = HashSet::from([channels.of(&Topic::Nodes)]);
        for name in names {
            assert!(seen.insert(channels.of(&Topic::Doc(DocName::parse(name).unwrap()))), "{name}");
            assert!(seen.insert(channels.of(&Topic::Room(RoomName::parse(name).unwrap()))), "{name}");
        }
        assert!(seen.contains("x:n") && seen.contains("x:d:[a-z]") && seen.contains("x:r:a b"));
    }
}
