//! Everything that was acknowledged is there after opening again, and nothing else.

use anyhow::Result;
use anyhow::ensure;

use crate::subject::Document;
use crate::subject::Subject;
use crate::work::Author;

/// Compares documents with what their authors wrote: `records` of each, played again from the start.
pub(crate) async fn verify(subject: &Subject, authors: impl Iterator<Item = (Author, u64)>) -> Result<()> {
    for (author, records) in authors {
        compare(subject.load(&author.doc).await?, author, records)?;
    }
    Ok(())
}

fn compare(found: Document, mut author: Author, records: u64) -> Result<()> {
    let doc = author.doc.clone();
    let mut snapshot = found.snapshot.as_ref();
    while !snapshot.is_empty() {
        let record = author.record();
        let rest = snapshot.strip_prefix(record.update.as_ref());
        snapshot = rest.ok_or_else(|| anyhow::anyhow!("{doc}: its snapshot reads back wrongly"))?;
    }
    for record in &found.records {
        ensure!(*record == author.record(), "{doc}: record {} reads back wrongly", author.records);
    }
    ensure!(author.records == records, "{doc}: {} records are there, {records} were acknowledged", author.records);
    Ok(())
}
