//! A file, `write` and `fdatasync`: what the file system gives.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use bytes::Bytes;
use syncline::name::DocName;

use crate::engines::Engine;
use crate::engines::Entry;
use crate::engines::Folded;
use crate::engines::Kept;

/// Length of the name and of the value stand in front of each entry.
const FRAME_BYTES: usize = 8;

pub(crate) struct Bare {
    file: File,
    end: u64,
    buffer: Vec<u8>,
    /// Where each document's values are. Filled on opening; a benchmark reads only after that.
    places: HashMap<String, Vec<(u64, usize)>>,
}

impl Bare {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(dir.join("bare.log"))?;
        let mut bare = Self { file, end: 0, buffer: Vec::new(), places: HashMap::new() };
        bare.survey()?;
        Ok(bare)
    }

    fn survey(&mut self) -> Result<()> {
        let len = self.file.metadata()?.len();
        while self.end < len {
            let mut frame = [0; FRAME_BYTES];
            self.file.read_exact_at(&mut frame, self.end)?;
            let lengths: [u32; 2] = [0, 4].map(|at| frame[at..at + 4].try_into().map_or(0, u32::from_le_bytes));
            let [name_bytes, value_bytes] = lengths.map(|length| length as usize);
            let mut name = vec![0; name_bytes];
            self.file.read_exact_at(&mut name, self.end + FRAME_BYTES as u64)?;
            let value_at = self.end + (FRAME_BYTES + name_bytes) as u64;
            let name = String::from_utf8(name).context("a name of a bare log")?;
            self.places.entry(name).or_default().push((value_at, value_bytes));
            self.end = value_at + value_bytes as u64;
        }
        Ok(())
    }
}

impl Engine for Bare {
    fn commit(&mut self, group: &[Entry]) -> Result<()> {
        self.buffer.clear();
        for entry in group {
            let name = entry.doc.as_str().as_bytes();
            self.buffer.extend_from_slice(&u32::try_from(name.len())?.to_le_bytes());
            self.buffer.extend_from_slice(&u32::try_from(entry.value.len())?.to_le_bytes());
            self.buffer.extend_from_slice(name);
            self.buffer.extend_from_slice(&entry.value);
        }
        self.file.write_all_at(&self.buffer, self.end)?;
        self.file.sync_data()?;
        self.end += self.buffer.len() as u64;
        Ok(())
    }

    fn fold(&mut self, _: &[Folded]) -> Result<()> {
        bail!("a bare file gives nothing back")
    }

    fn load(&mut self, doc: &DocName) -> Result<Kept> {
        let mut kept = Kept::default();
        for &(at, length) in self.places.get(doc.as_str()).into_iter().flatten() {
            let mut value = vec![0; length];
            self.file.read_exact_at(&mut value, at)?;
            kept.values.push(Bytes::from(value));
        }
        Ok(kept)
    }
}
