//! Where settings come from: a file, the environment and flags, merged by name. Nothing here knows what they mean.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;

use crate::config::keys;
use crate::config::keys::KEYS;
use crate::config::keys::Key;
use crate::config::keys::Kind;
use crate::config::keys::ROOM_KEYS;
use crate::config::keys::Value;

/// A configuration file has a few kilobytes; anything larger is some other file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Settings in the environment start with this.
const ENV_PREFIX: &str = "SYNCLINE_";

/// Everything a configuration is made of, read by the caller: nothing below looks at the process.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config FILE`.
    pub file: Option<PathBuf>,
    /// The environment. Names that do not start with `SYNCLINE_` are ignored.
    pub environment: Vec<(String, String)>,
    /// What flags set: the flag as the user knows it (`--listen`), the name of the setting, and its value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// Where one setting was set; the later variant wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    File(PathBuf),
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("built-in default"),
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Environment(name) => write!(f, "from the environment ({name})"),
            Self::Flag(flag) => write!(f, "from the flag {flag}"),
        }
    }
}

/// The merged settings: each of the right kind, none unknown.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) values: BTreeMap<&'static str, (Value, Origin)>,
    /// Pattern → setting → value.
    pub(super) rooms: BTreeMap<String, BTreeMap<&'static str, Value>>,
}

impl fmt::Debug for Settings {
    /// The values hold secrets as plain text; only names are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Settings {
    /// Merges all sources. Every mistake that is found is reported, one line each.
    pub(super) fn merge(sources: &Sources, mistakes: &mut Vec<String>) -> Self {
        let mut settings = Self::default();
        settings.take_defaults();
        if let Some(path) = &sources.file {
            match read_file(path) {
                Ok(table) => settings.take_table(path, "", &table, mistakes),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        for (name, value) in &sources.environment {
            settings.take_variable(name, value, mistakes);
        }
        for (flag, name, value) in &sources.flags {
            let key = keys::find(name).expect("flags are named after settings");
            settings.take_text(key, value, Origin::Flag(flag), mistakes);
        }
        settings
    }

    fn take_defaults(&mut self) {
        for key in KEYS {
            let value = key.default.and_then(|text| key.kind.read_text(text));
            if let Some(value) = value {
                self.values.insert(key.name, (value, Origin::Default));
            }
        }
    }

    fn take_table(&mut self, path: &Path, section: &str, table: &toml::Table, mistakes: &mut Vec<String>) {
        for (word, value) in table {
            let name = if section.is_empty() { word.clone() } else { format!("{section}.{word}") };
            match (keys::find(&name), value) {
                _ if name == "rooms" => self.take_rooms(path, value, mistakes),
                (Some(key), _) => match key.kind.read_toml(value) {
                    Some(value) => {
                        self.values.insert(key.name, (value, Origin::File(path.to_owned())));
                    }
                    None => mistakes.push(wrong(key, &name, &shown(key, value), &Origin::File(path.to_owned()))),
                },
                (None, toml::Value::Table(inner)) if is_section(&name) => self.take_table(path, &name, inner, mistakes),
                (None, _) if is_section(&name) => {
                    mistakes.push(format!("{name} in {} is a section: write [{name}]", path.display()));
                }
                (None, _) => mistakes.push(unknown(&name, KEYS, &format!("in {}", path.display()))),
            }
        }
    }

    fn take_rooms(&mut self, path: &Path, rooms: &toml::Value, mistakes: &mut Vec<String>) {
        let Some(rooms) = rooms.as_table() else {
            mistakes.push(format!("rooms in {} is a section: write [rooms.\"PATTERN\"]", path.display()));
            return;
        };
        for (pattern, table) in rooms {
            let Some(table) = table.as_table() else {
                mistakes.push(format!("rooms.{pattern:?} in {} must be a table", path.display()));
                continue;
            };
            for (word, value) in table {
                let name = format!("rooms.{pattern:?}.{word}");
                let origin = Origin::File(path.to_owned());
                match ROOM_KEYS.iter().find(|key| key.name == word) {
                    None => mistakes.push(unknown_word(&name, word, ROOM_KEYS, &origin.to_string())),
                    Some(key) => match key.kind.read_toml(value) {
                        Some(value) => {
                            self.rooms.entry(pattern.clone()).or_default().insert(key.name, value);
                        }
                        None => mistakes.push(wrong(key, &name, &shown(key, value), &origin)),
                    },
                }
            }
        }
    }

    fn take_variable(&mut self, variable: &str, value: &str, mistakes: &mut Vec<String>) {
        let Some(word) = variable.strip_prefix(ENV_PREFIX) else { return };
        // An empty variable is how compose files and shells say "not set".
        if value.is_empty() || is_of_orchestrator(word) {
            return;
        }
        let name = word.to_ascii_lowercase().replace("__", ".");
        let origin = Origin::Environment(variable.to_owned());
        match keys::find(&name) {
            Some(key) if key.name.to_ascii_uppercase().replace('.', "__") == word => {
                self.take_text(key, value, origin, mistakes);
            }
            _ if name.starts_with("rooms.") => {
                mistakes.push(format!("{name} {origin}: rooms can only be set in a file"));
            }
            _ => mistakes.push(unknown_variable(&name, variable)),
        }
    }

    fn take_text(&mut self, key: &'static Key, text: &str, origin: Origin, mistakes: &mut Vec<String>) {
        match key.kind.read_text(text) {
            Some(value) => {
                self.values.insert(key.name, (value, origin));
            }
            None => {
                let text = toml::Value::String(text.to_owned());
                mistakes.push(wrong(key, key.name, &shown(key, &text), &origin));
            }
        }
    }
}

/// Kubernetes hands every pod the addresses of its services as variables; a service called "syncline" must not keep the
/// server from starting. No setting begins with these words.
fn is_of_orchestrator(word: &str) -> bool {
    word == "PORT" || word.starts_with("PORT_") || word.starts_with("SERVICE_")
}

fn read_file(path: &Path) -> Result<toml::Table, String> {
    let shown = path.display();
    let bytes = std::fs::metadata(path).map_err(|error| format!("cannot read {shown}: {error}"))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!(
            "cannot read {shown}: it has {bytes} bytes, a configuration file at most {FILE_BYTES_MAX}"
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    text.parse::<toml::Table>().map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        // Only the first line of the message: the parser quotes the source, which may be a secret.
        format!("{shown}, line {line}: {}", error.message().lines().next().unwrap_or("not TOML"))
    })
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

fn shown(key: &Key, value: &toml::Value) -> String {
    match (key.kind, value) {
        (Kind::Secret | Kind::Url, _) => "[hidden]".into(),
        (_, toml::Value::String(text)) => format!("{text:?}"),
        (_, toml::Value::Table(_)) => "a table".into(),
        (_, other) => other.to_string(),
    }
}

fn wrong(key: &Key, name: &str, value: &str, origin: &Origin) -> String {
    format!("{name} = {value} {origin}: expected {}", key.kind.expected())
}

fn unknown(name: &str, keys: &[Key], origin: &str) -> String {
    unknown_word(name, name, keys, origin)
}

fn unknown_word(name: &str, word: &str, keys: &[Key], origin: &str) -> String {
    match nearest(word, keys) {
        Some(near) => format!("unknown setting {name} {origin}: did you mean {near}?"),
        None => format!("unknown setting {name} {origin}"),
    }
}

/// The environment is guessed in its own spelling: `SYNCLINE_AUTH_SECRET` lacks one underscore.
fn unknown_variable(name: &str, variable: &str) -> String {
    match nearest(name, KEYS) {
        Some(near) => {
            let near = near.to_ascii_uppercase().replace('.', "__");
            format!("unknown setting {name} from the environment ({variable}): did you mean {ENV_PREFIX}{near}?")
        }
        None => format!("unknown setting {name} from the environment ({variable})"),
    }
}

/// The known name that takes the fewest changes, when these are few. A forgotten section counts as one.
fn nearest(word: &str, keys: &[Key]) -> Option<&'static str> {
    // Names beyond any real one would only cost time.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let distance = |key: &Key| {
        let tail = key.name.rsplit('.').next().unwrap_or(key.name);
        edits(&word, key.name).min(edits(&word, tail) + 1)
    };
    let (near, name) = keys.iter().map(|key| (distance(key), key.name)).min()?;
    (near <= 1 + word.len() / 5).then_some(name)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, n) in [("", "", 0), ("abc", "abc", 0), ("abc", "abd", 1), ("kitten", "sitting", 3), ("", "xy", 2)] {
            assert_eq!(edits(a, b), n, "{a} {b}");
        }
    }

    #[test]
    fn a_near_name_is_guessed_and_a_far_one_is_not() {
        for (word, near) in [
            ("limits.conections", Some("limits.connections")),
            ("auth_secret", Some("auth.secret")),
            ("data-dir", Some("data_dir")),
            ("secret", Some("auth.secret")),
            ("colour", None),
        ] {
            assert_eq!(nearest(word, KEYS), near, "{word}");
        }
    }
}
