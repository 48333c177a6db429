//! Collects one document's records from the segments, by following its chains backwards.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use crate::store::Record;
use crate::store::record;
use crate::store::record::StoredExtent;
use crate::store::segments::frame;
use crate::store::segments::frame::Header;
use crate::store::segments::frame::Kind;
use crate::store::segments::frame::Place;
use crate::store::segments::index::DocState;
use crate::store::segments::index::Extent;
use crate::store::segments::index::SegmentId;

/// The open files that a document needs.
pub(crate) type Files = BTreeMap<SegmentId, Arc<File>>;

/// An entry as it was read.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) header: Header,
    pub(crate) body: Bytes,
}

/// What could be collected.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) records: BTreeMap<u64, Record>,
    /// What could not be read.
    pub(crate) trouble: Vec<String>,
}

impl Collected {
    /// Whether every record after `through` up to `last` is there.
    pub(crate) fn reaches(&self, through: u64, last: u64) -> bool {
        let after = self.records.range(through.saturating_add(1)..).map(|(seq, _)| *seq);
        let mut next = through;
        for seq in after {
            if seq != next + 1 {
                return false;
            }
            next = seq;
        }
        next == last
    }
}

/// Collects the records after `through`, as far as they can be read.
pub(crate) fn collect(state: &DocState, files: &Files, doc: &str, salt: u32, through: u64) -> Collected {
    let mut collected = Collected::default();
    for extent in &state.extents {
        if let Err(trouble) = collect_extent(&mut collected, extent, files, doc, salt, through) {
            collected.trouble.push(format!("log segment {}: {trouble}", extent.segment));
        }
    }
    collected
}

fn collect_extent(
    into: &mut Collected,
    extent: &Extent,
    files: &Files,
    doc: &str,
    salt: u32,
    through: u64,
) -> Result<(), String> {
    let file = files.get(&extent.segment).ok_or("the file is gone")?;
    let mut troubles = Ok(());
    chain(file, doc, salt, &extent.run, through, |entry| {
        let first = entry.header.first;
        match record::decode_records(&entry.body) {
            Ok(records) if records.len() == entry.header.count as usize => {
                into.records.extend((first..).zip(records));
            }
            Ok(_) => troubles = Err("an entry has a wrong number of records".to_owned()),
            Err(error) => troubles = Err(format!("an entry cannot be read: {error}")),
        }
    })?;
    troubles
}

/// Visits the entries of a run that have records after `through`, newest first.
pub(crate) fn chain(
    file: &File,
    doc: &str,
    salt: u32,
    run: &StoredExtent,
    through: u64,
    mut visit: impl FnMut(Entry),
) -> Result<(), String> {
    let mut place = Place { offset: run.head, bytes: run.head_bytes };
    loop {
        let entry = entry(file, place, salt)?;
        let header = &entry.header;
        if header.kind != Kind::Append || header.name != doc || header.epoch != run.epoch {
            return Err(format!("the entry at {} is another document's", place.offset));
        }
        let (first, prev) = (header.first, header.prev);
        if header.last() > through {
            visit(entry);
        }
        if prev.offset == 0 || first <= run.first || first <= through.saturating_add(1) {
            return Ok(());
        }
        if prev.offset >= place.offset {
            return Err("the chain runs forward".to_owned());
        }
        place = prev;
    }
}

fn entry(file: &File, place: Place, salt: u32) -> Result<Entry, String> {
    let at = place.offset;
    let longest = frame::HEADER_BYTES_MAX + frame::BODY_BYTES_MAX + frame::TRAILER_BYTES_MAX;
    if place.bytes as usize > longest {
        return Err(format!("the entry at {at} is impossibly long"));
    }
    let mut bytes = vec![0; place.bytes as usize];
    file.read_exact_at(&mut bytes, at).map_err(|error| format!("the entry at {at} cannot be read: {error}"))?;
    let (header, sum) = frame::header(&bytes, salt).ok_or_else(|| format!("the header at {at} is damaged"))?;
    let range = frame::body(&bytes, &header, sum, salt).map(|body| {
        let start = frame::trailer_distance(&header) - body.len();
        start..start + body.len()
    });
    let range = range.ok_or_else(|| format!("the entry at {at} is damaged"))?;
    Ok(Entry { header, body: Bytes::from(bytes).slice(range) })
}
