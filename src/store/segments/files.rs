//! Segment files and their tables of contents on disk: names, creation, sealing, survey at start.
//!
//! `0000000007.log` holds entries; `0000000007.idx` is its table of contents, written when the segment is complete.
//! With a good table nothing of the segment is read at start; without one it is scanned.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::name::DocName;
use crate::store::record;
use crate::store::record::StoredContents;
use crate::store::record::StoredTable;
use crate::store::segments::index::DocState;
use crate::store::segments::index::Extent;
use crate::store::segments::index::Index;
use crate::store::segments::index::Segment;
use crate::store::segments::index::SegmentId;
use crate::store::segments::scan;
use crate::store::segments::scan::Hole;
use crate::store::segments::scan::SEGMENT_HEADER_BYTES;

const MAGIC: [u8; 7] = *b"SYNCLOG";
const VERSION: u8 = 1;

/// The directory of the log.
#[derive(Debug, Clone)]
pub(crate) struct LogDir {
    pub(crate) path: PathBuf,
    /// Random per data directory; starts the checksums of entries.
    pub(crate) salt: u32,
}

/// What a start, or a verification, found in the log.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) segments: Vec<Surveyed>,
}

/// One segment as it was found.
#[derive(Debug)]
pub(crate) struct Surveyed {
    pub(crate) id: SegmentId,
    /// `None` when only the table of contents is left.
    pub(crate) file: Option<Arc<File>>,
    pub(crate) bytes: u64,
    /// Bytes of the file that do not count any more, behind those that do: room, or what follows.
    pub(crate) excess: u64,
    /// Bytes of what was being written when the machine stopped.
    pub(crate) torn: u64,
    /// Whether its table of contents has to be written.
    pub(crate) scanned: bool,
    pub(crate) entries: u64,
    pub(crate) holes: Vec<Hole>,
    pub(crate) docs: Vec<StoredContents>,
}

/// A log that was written by a newer version of the program, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("log segment {0} was written by a newer version")]
    Newer(SegmentId),
}

impl LogDir {
    pub(crate) fn segment_path(&self, id: SegmentId) -> PathBuf {
        self.path.join(format!("{id:010}.log"))
    }

    fn table_path(&self, id: SegmentId) -> PathBuf {
        self.path.join(format!("{id:010}.idx"))
    }

    /// Creates a segment and makes its name durable.
    pub(crate) fn create(&self, id: SegmentId) -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.segment_path(id))?;
        let mut header = [0; SEGMENT_HEADER_BYTES as usize];
        header[..7].copy_from_slice(&MAGIC);
        header[7] = VERSION;
        header[8..].copy_from_slice(&id.to_le_bytes());
        file.write_all_at(&header, 0)?;
        file.sync_all()?;
        sync_dir(&self.path)?;
        Ok(file)
    }

    /// Writes the table of contents of a complete segment.
    pub(crate) fn write_table(&self, table: &StoredTable) -> io::Result<()> {
        let bytes = record::seal(table).map_err(io::Error::other)?;
        replace_file(&self.table_path(table.segment), &bytes)
    }

    /// Deletes a segment. The table goes first: a segment without one is only scanned again.
    pub(crate) fn remove(&self, id: SegmentId) -> io::Result<()> {
        for path in [self.table_path(id), self.segment_path(id)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_table(&self, id: SegmentId) -> Option<StoredTable> {
        let path = self.table_path(id);
        let len = fs::metadata(&path).ok()?.len();
        if len > record::VALUE_BYTES_MAX as u64 {
            return None;
        }
        let bytes = fs::read(path).ok()?;
        let table: StoredTable = record::unseal(&bytes).ok()?;
        (table.segment == id).then_some(table)
    }

    /// Numbers of all segments of which anything is left, in order.
    pub(crate) fn ids(&self) -> io::Result<Vec<SegmentId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let Some((stem, "log" | "idx")) = name.to_str().and_then(|name| name.rsplit_once('.')) else { continue };
            // Ten digits, as we write them: whatever else lies here is not ours.
            ids.extend(stem.parse::<SegmentId>().ok().filter(|_| stem.len() == 10));
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Looks at every segment, changing nothing. `deep` reads all of it even where the table of contents is good.
    pub(crate) fn survey(&self, deep: bool) -> Result<Survey, LogError> {
        let segments = self.ids()?.into_iter().map(|id| self.look(id, deep)).collect::<Result<_, _>>()?;
        Ok(Survey { segments })
    }

    fn look(&self, id: SegmentId, deep: bool) -> Result<Surveyed, LogError> {
        let file = match OpenOptions::new().read(true).write(true).open(self.segment_path(id)) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let table = self.read_table(id);
        let mut found = Surveyed {
            id,
            file: None,
            bytes: table.as_ref().map_or(0, |t| t.bytes),
            excess: 0,
            torn: 0,
            scanned: table.is_none(),
            entries: 0,
            holes: Vec::new(),
            docs: Vec::new(),
        };
        if let Some(file) = file {
            refuse_newer(&file, id)?;
            if deep || table.is_none() {
                let scan = scan::scan(&file, self.salt)?;
                // Behind the end that a table names lies what was never acknowledged.
                found.holes = scan.holes;
                found.holes.retain(|hole| table.as_ref().is_none_or(|t| hole.from < t.bytes));
                found.entries = scan.entries;
                if table.is_none() {
                    found.torn = scan.torn;
                    found.bytes = scan.end;
                    found.docs = scan.docs.into_values().collect();
                }
            }
            found.excess = file.metadata()?.len().saturating_sub(found.bytes);
            found.file = Some(Arc::new(file));
        }
        found.docs.extend(table.into_iter().flat_map(|t| t.docs));
        Ok(found)
    }
}

fn refuse_newer(file: &File, id: SegmentId) -> Result<(), LogError> {
    let mut header = [0; 8];
    // A header that cannot be read is damage like any other: the entries behind it carry their own checksums.
    let read = file.read_exact_at(&mut header, 0).is_ok();
    if read && header[..7] == MAGIC && header[7] > VERSION { Err(LogError::Newer(id)) } else { Ok(()) }
}

impl Survey {
    /// Number for the next segment.
    pub(crate) fn next_id(&self) -> SegmentId {
        self.segments.last().map_or(1, |segment| segment.id + 1)
    }

    /// Builds the index. Names that are not document names are damage that no checksum shows, and are left out.
    pub(crate) fn index(&self) -> Index {
        let mut index = Index::default();
        let mut docs: BTreeMap<DocName, DocState> = BTreeMap::new();
        for segment in &self.segments {
            if let Some(file) = &segment.file {
                let file = Arc::clone(file);
                let (bytes, stuck) = (segment.bytes, !segment.holes.is_empty());
                index.segments.insert(segment.id, Segment { file, bytes, sealed: true, refs: 0, live: 0, stuck });
            }
            for contents in &segment.docs {
                if let Ok(name) = DocName::parse(&contents.name) {
                    merge(docs.entry(name).or_default(), segment.id, contents);
                }
            }
        }
        for (doc, mut state) in docs {
            state.settle();
            index.replace(doc, state);
        }
        index
    }
}

/// Adds what one segment holds of a document. Segments come in order.
fn merge(state: &mut DocState, id: SegmentId, contents: &StoredContents) {
    if contents.note.is_some() || !contents.extents.is_empty() {
        // It was written to after the hole, so it was whole then: writing to a suspect is refused.
        state.losses.retain(|(_, loss)| !loss.possible);
    }
    if let Some(note) = &contents.note
        && (state.note_in.is_none() || note.version >= state.note.version)
    {
        (state.note, state.note_in) = (note.clone(), Some(id));
    }
    state.extents.extend(contents.extents.iter().map(|&run| Extent { segment: id, run, grows: false }));
    state.losses.extend(contents.losses.iter().map(|&loss| (id, loss)));
}

/// What a segment holds, for its table of contents.
pub(crate) fn table_of(index: &Index, id: SegmentId) -> StoredTable {
    let bytes = index.segments.get(&id).map_or(0, |segment| segment.bytes);
    let docs = index.docs.iter().filter_map(|(doc, state)| {
        let contents = StoredContents {
            name: doc.as_str().to_owned(),
            note: state.note_in.filter(|&segment| segment == id).map(|_| state.note.clone()),
            extents: state.extents.iter().filter(|e| e.segment == id).map(|e| e.run).collect(),
            losses: state.losses.iter().filter(|(segment, _)| *segment == id).map(|(_, loss)| *loss).collect(),
        };
        let empty = contents.note.is_none() && contents.extents.is_empty() && contents.losses.is_empty();
        (!empty).then_some(contents)
    });
    StoredTable { segment: id, bytes, docs: docs.collect() }
}

/// Writes a file so that after a crash there is the old one or the new one.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes creations, renames and deletions in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
