//! What holds in one room: from the rules of the configuration, or set for this room.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::config::Limit;
use crate::config::RoomRule;
use crate::name::RoomName;

/// What holds in one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomSettings {
    /// Connections at once; `None`: any number.
    pub max_clients: Limit,
    /// What is kept of the room, these settings too, is dropped so long after the last event, and after the last who was
    /// there has left; `None`: as long as there is something to keep.
    pub ttl: Option<Duration>,
    /// Events to remember; 0: nobody can come back to what was missed.
    pub history_events: usize,
}

/// What is to be different; `None` leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SettingsPatch {
    /// Connections at once; 0: any number.
    pub max_clients: Option<usize>,
    /// Seconds; 0: as long as there is something to keep.
    pub ttl_seconds: Option<u64>,
    /// Events to remember.
    pub history_events: Option<usize>,
}

impl RoomSettings {
    /// What the rules say of a room: its name, or else the longest prefix that fits, decides alone.
    pub(super) fn of(rules: &[RoomRule], events_max: usize, room: &RoomName) -> Self {
        let fits = |rule: &&RoomRule| match rule.pattern.strip_suffix('*') {
            Some(prefix) => room.as_str().starts_with(prefix),
            None => room.as_str() == rule.pattern,
        };
        let rule = rules.iter().filter(fits).max_by_key(|rule| (!rule.pattern.ends_with('*'), rule.pattern.len()));
        Self {
            max_clients: rule.and_then(|rule| rule.max_clients),
            ttl: rule.and_then(|rule| rule.ttl),
            history_events: rule.and_then(|rule| rule.history_events).unwrap_or(events_max),
        }
    }

    pub(super) fn patched(self, patch: SettingsPatch) -> Self {
        let ttl = |seconds: u64| Some(Duration::from_secs(seconds)).filter(|ttl| !ttl.is_zero());
        Self {
            max_clients: patch.max_clients.map_or(self.max_clients, NonZeroUsize::new),
            ttl: patch.ttl_seconds.map_or(self.ttl, ttl),
            history_events: patch.history_events.unwrap_or(self.history_events),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, max_clients: usize) -> RoomRule {
        let max_clients = NonZeroUsize::new(max_clients);
        RoomRule { pattern: pattern.into(), max_clients, ttl: None, history_events: None }
    }

    #[test]
    fn the_longest_pattern_decides() {
        let rules = [rule("table:*", 2), rule("*", 1), rule("table:T1", 4), rule("table:T1*", 3), rule("table:T", 5)];
        for (name, max) in [("x", 1), ("table:x", 2), ("table:T12", 3), ("table:T1", 4), ("table:T", 5)] {
            let settings = RoomSettings::of(&rules, 7, &RoomName::parse(name).unwrap());
            assert_eq!((settings.max_clients, settings.history_events), (NonZeroUsize::new(max), 7), "{name}");
        }
        let without = RoomSettings::of(&[], 7, &RoomName::parse("x").unwrap());
        assert_eq!(without, RoomSettings { max_clients: None, ttl: None, history_events: 7 });
    }

    #[test]
    fn a_patch_changes_what_it_names_and_0_is_no_limit() {
        let first = RoomSettings { max_clients: None, ttl: None, history_events: 7 };
        let patch = SettingsPatch { max_clients: Some(2), ttl_seconds: Some(60), history_events: None };
        let second = first.patched(patch);
        let want = RoomSettings { max_clients: NonZeroUsize::new(2), ttl: Some(Duration::from_secs(60)), ..first };
        assert_eq!(second, want);
        assert_eq!(second.patched(SettingsPatch::default()), second);
        let off = SettingsPatch { max_clients: Some(0), ttl_seconds: Some(0), history_events: Some(0) };
        assert_eq!(second.patched(off), RoomSettings { history_events: 0, ..first });
    }
}
