//! What killed the process once, and is not let in again.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::RwLock;

use serde::Deserialize;
use serde::Serialize;
use syncline_protocol::update::Summary;

use super::inflight::Suspect;
use super::inflight::Work;

/// Quarantined things, by document. Kept as lines of JSON, so that an operator can read and edit them.
#[derive(Debug, Default)]
pub struct Quarantine {
    file: Option<PathBuf>,
    docs: RwLock<HashMap<String, Vec<Entry>>>,
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    doc: String,
    work: Work,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// Client, first clock, clock after the last: the structs that the update brought.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    structs: Vec<(u64, u32, u32)>,
    /// The same for its deletions; consulted when it brought no structs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deletions: Vec<(u64, u32, u32)>,
}

impl Quarantine {
    /// A quarantine that is kept nowhere.
    #[must_use]
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// Reads the file, if it is there.
    ///
    /// # Errors
    /// When the file cannot be read, or a line of it is not what we write; the message names the line.
    pub fn open(file: &Path) -> io::Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let mut docs: HashMap<String, Vec<Entry>> = HashMap::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let entry: Entry = serde_json::from_str(line).map_err(|error| {
                let message = format!("{}, line {}: {error}", file.display(), index + 1);
                io::Error::new(io::ErrorKind::InvalidData, message)
            })?;
            docs.entry(entry.doc.clone()).or_default().push(entry);
        }
        Ok(Self { file: Some(file.to_owned()), docs: RwLock::new(docs) })
    }

    /// Adds what was proved deadly. `summary` is of the suspect's update.
    ///
    /// # Errors
    /// When the file cannot be written; the entry holds in memory all the same.
    pub fn add(&self, suspect: &Suspect, summary: Option<&Summary>) -> io::Result<()> {
        let structs = summary.map(|summary| summary.ranges().iter().map(|r| (r.client, r.start, r.end)).collect());
        let deletions = summary.map(|summary| summary.deletes().map(|r| (r.client, r.start, r.end)).collect());
        let entry = Entry {
            doc: suspect.doc.clone(),
            work: suspect.work,
            user: suspect.user.clone(),
            structs: structs.unwrap_or_default(),
            deletions: deletions.unwrap_or_default(),
        };
        let line = serde_json::to_string(&entry).map_err(io::Error::other)?;
        self.docs.write().unwrap_or_else(PoisonError::into_inner).entry(entry.doc.clone()).or_default().push(entry);
        let Some(file) = &self.file else { return Ok(()) };
        let mut file = OpenOptions::new().create(true).append(true).open(file)?;
        writeln!(file, "{line}")?;
        file.sync_data()
    }

    /// Whether an update of `doc` carries something quarantined: the same structs, in whatever company.
    #[must_use]
    pub fn holds(&self, doc: &str, summary: &Summary) -> bool {
        self.any(doc, |entry| entry.work == Work::Apply && entry.is_in(summary))
    }

    /// Whether loading this document killed the process.
    #[must_use]
    pub fn refuses_load(&self, doc: &str) -> bool {
        self.any(doc, |entry| entry.work == Work::Load)
    }

    /// Whether collecting this document's deleted content killed the process: it is kept then.
    #[must_use]
    pub fn keeps_deleted(&self, doc: &str) -> bool {
        self.any(doc, |entry| entry.work == Work::Compact)
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.docs.read().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }

    /// Whether nothing is quarantined.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn any(&self, doc: &str, test: impl Fn(&Entry) -> bool) -> bool {
        let docs = self.docs.read().unwrap_or_else(PoisonError::into_inner);
        docs.get(doc).is_some_and(|entries| entries.iter().any(test))
    }
}

impl Entry {
    fn is_in(&self, summary: &Summary) -> bool {
        let overlap = |&(client, start, end): &(u64, u32, u32), of: u64, from: u32, to: u32| {
            client == of && start < to && from < end
        };
        if self.structs.is_empty() {
            let deleted = |quarantined: &(u64, u32, u32)| {
                summary.deletes().any(|range| overlap(quarantined, range.client, range.start, range.end))
            };
            return !self.deletions.is_empty() && self.deletions.iter().all(deleted);
        }
        let brought = |quarantined: &(u64, u32, u32)| {
            summary.ranges().iter().any(|range| overlap(quarantined, range.client, range.start, range.end))
        };
        self.structs.iter().any(brought)
    }
}
