//! The same on a database, also while servers use it: every task is one or more calls of the store.

use crate::name::DocName;
use crate::store::PostgresStore;
use crate::store::Record;
use crate::store::Seq;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::tools::DamagedDoc;
use crate::store::tools::Exported;
use crate::store::tools::ListedDoc;
use crate::store::tools::Report;
use crate::store::tools::ToolError;

/// Lines of a listing that are asked for at once.
const PAGE: usize = 1000;

/// Lists all documents, in byte order of the names. Deleted ones are not among them.
///
/// # Errors
/// [`ToolError`] when the database does not answer.
pub async fn list(store: &PostgresStore) -> Result<Vec<ListedDoc>, ToolError> {
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store.list("", after.as_ref(), PAGE).await?;
        for info in page.docs {
            listed.push(ListedDoc {
                name: info.name.to_string(),
                bytes: info.bytes,
                updated_at_ms: info.updated_at_ms,
                last: info.last.0,
                // Not in a listing; whoever wants to know loads the document.
                epoch: 0,
                deleted: false,
            });
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    Ok(listed)
}

/// Reads a document. Of a damaged one nothing is read.
///
/// # Errors
/// [`ToolError`] when it cannot be read, [`StoreError::Deleted`] when only a tombstone is left.
pub async fn export(store: &PostgresStore, doc: &DocName) -> Result<Exported, ToolError> {
    let loaded = store.load(doc).await?;
    let (epoch, last, snapshot, records) = (loaded.epoch, loaded.last, loaded.snapshot, loaded.records);
    Ok(Exported { epoch, last, snapshot, records, trouble: None })
}

/// Appends records to a document, lifting its tombstone if it has one. Answers its last record.
///
/// # Errors
/// [`ToolError`] when the document cannot be written.
pub async fn import(store: &PostgresStore, doc: &DocName, records: Vec<Record>) -> Result<Seq, ToolError> {
    let epoch = store.revive(doc).await?;
    let last = store.append(doc, epoch, records).await?;
    Ok(last)
}

/// Loads every document, and says which cannot be loaded.
///
/// # Errors
/// [`ToolError`] when the database does not answer.
pub async fn verify(store: &PostgresStore) -> Result<Report, ToolError> {
    let mut report = Report::default();
    let listed = list(store).await?;
    for info in listed {
        let Ok(doc) = DocName::parse(&info.name) else { continue };
        match store.load(&doc).await {
            Ok(loaded) => {
                report.documents += 1;
                report.snapshots += u64::from(loaded.snapshot.is_some());
                report.records += loaded.records.len() as u64;
            }
            // Since it was listed.
            Err(StoreError::Deleted) => report.tombstones += 1,
            Err(StoreError::Damaged(why)) => report.damaged.push(DamagedDoc { name: info.name, why }),
            Err(error) => return Err(error.into()),
        }
    }
    report.ok = report.damaged.is_empty();
    Ok(report)
}
