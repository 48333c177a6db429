//! The tasks that read: loads and listings.
//!
//! A load is one transaction that sees the database as it stood at one moment, sent in one go: what others append or
//! compact meanwhile is in all of it or in none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::name::DocName;
use crate::store::DocInfo;
use crate::store::Epoch;
use crate::store::Loaded;
use crate::store::Page;
use crate::store::Seq;
use crate::store::Snapshot;
use crate::store::StoreError;
use crate::store::postgres::keep;
use crate::store::postgres::line::Bounds;
use crate::store::postgres::line::Line;
use crate::store::postgres::link::Link;
use crate::store::postgres::link::Manners;
use crate::store::postgres::link::Open;
use crate::store::postgres::link::Trouble;
use crate::store::postgres::outage::Outage;
use crate::store::postgres::row;
use crate::store::postgres::row::Standing;
use crate::store::postgres::write::Reply;

/// 16 384 loads wait at most: more than documents that are opened at once.
pub(super) const LINE: Bounds = Bounds { jobs: 1 << 14, bytes: usize::MAX };
const ONE: Bounds = Bounds { jobs: 1, bytes: usize::MAX };
/// A large document takes a while to come over the network.
pub(super) const MANNERS: Manners =
    Manners { statement: Duration::from_secs(20), patience: Duration::from_secs(30), wish: None };
/// Most documents on one page of a listing.
const PAGE_MAX: usize = 10_000;

const DOCUMENT: &str = "
    SELECT known.epoch, known.last, known.deleted,
        kept.through, kept.state_bytes, kept.sidecar_bytes, kept.crc, kept.memo
    FROM syncline_documents known LEFT JOIN syncline_snapshots kept ON kept.doc = known.id
    WHERE known.name = $1";
const PARTS: &str = "
    SELECT part.bytes
    FROM syncline_documents known
    JOIN syncline_snapshots kept ON kept.doc = known.id
    JOIN syncline_snapshot_parts part ON part.doc = kept.doc AND part.generation = kept.generation
    WHERE known.name = $1 AND kept.through > $2
    ORDER BY part.part";
const RECORDS: &str = "
    SELECT fresh.seq, fresh.at_ms, fresh.author, fresh.bytes, fresh.sidecar, fresh.crc
    FROM syncline_documents known
    LEFT JOIN syncline_snapshots kept ON kept.doc = known.id
    JOIN syncline_records fresh ON fresh.doc = known.id AND fresh.epoch = known.epoch
    WHERE known.name = $1 AND fresh.seq > greatest($2, coalesce(kept.through, 0))
    ORDER BY fresh.seq";
const LIST: &str = "
    SELECT name, bytes, updated_at_ms, last FROM syncline_documents
    WHERE NOT deleted AND last > 0 AND name >= $1 AND name > $2 AND name < $3
    ORDER BY name LIMIT $4";

/// What a reader is asked for.
pub(super) enum Question {
    Load { doc: DocName, after: Seq, reply: Reply<Loaded> },
    List { prefix: String, after: Option<DocName>, limit: usize, reply: Reply<Page> },
}

impl Question {
    pub(super) fn refuse(self, error: StoreError) {
        // Whoever asked may be gone.
        match self {
            Self::Load { reply, .. } => drop(reply.send(Err(error))),
            Self::List { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// One task's own state.
pub(super) struct Reader {
    pub(super) line: Arc<Line<Question>>,
    pub(super) link: Link,
    pub(super) outage: Arc<Outage>,
}

impl Reader {
    /// Works until the line is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(question) = self.line.take(ONE).await.pop() {
            match question {
                Question::Load { doc, after, reply } => {
                    let act = async |open: &mut Open| load(open, &doc, after).await;
                    let _ = reply.send(self.link.attempt(&self.outage, act).await);
                }
                Question::List { prefix, after, limit, reply } => {
                    let act = async |open: &mut Open| list(open, &prefix, after.as_ref(), limit.min(PAGE_MAX)).await;
                    let _ = reply.send(self.link.attempt(&self.outage, act).await);
                }
            }
        }
    }
}

async fn load(open: &mut Open, doc: &DocName, after: Seq) -> Result<Loaded, Trouble> {
    let name = doc.as_str().as_bytes();
    let beyond = row::number(after.0);
    let document = open.statement(DOCUMENT).await?;
    let parts = open.statement(PARTS).await?;
    let records = open.statement(RECORDS).await?;
    let client = &open.client;
    let (of, from): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 2]) = ([&name], [&name, &beyond]);
    let (begun, document, parts, records, ended) = futures_util::join!(
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
        client.query_opt(&document, &of),
        client.query(&parts, &from),
        client.query(&records, &from),
        client.batch_execute("COMMIT"),
    );
    begun?;
    let Some(document) = document? else { return Ok(Loaded::default()) };
    let (parts, records) = (parts?, records?);
    ended?;
    loaded(&document, &parts, &records, after)
}

/// Puts a document together, and checks that nothing is missing.
fn loaded(document: &Row, parts: &[Row], records: &[Row], after: Seq) -> Result<Loaded, Trouble> {
    let standing = Standing::read(document, 0)?;
    if standing.deleted {
        return Err(StoreError::Deleted.into());
    }
    // Null where the document was never compacted nor deleted.
    let through = row::position(document.try_get::<_, Option<i64>>(3)?.unwrap_or(0))?;
    let memo: Option<&[u8]> = document.try_get(7)?;
    let snapshot = if through > after.0 { Some(snapshot(document, through, parts)?) } else { None };
    let records = records.iter().map(row::record).collect::<Result<Vec<_>, _>>()?;
    let expected = through.max(after.0).saturating_add(1)..=standing.last;
    if !records.iter().map(|(seq, _)| seq.0).eq(expected.clone()) {
        let found = records.len();
        let (from, to) = (expected.start(), expected.end());
        return Err(row::damaged(&format!("of the records {from} to {to} there are {found}")));
    }
    Ok(Loaded {
        snapshot,
        records,
        last: Seq(standing.last),
        epoch: Epoch(standing.epoch),
        memo: memo.map(Bytes::copy_from_slice).unwrap_or_default(),
    })
}

fn snapshot(document: &Row, through: u64, parts: &[Row]) -> Result<Snapshot, Trouble> {
    let (state, sidecar) = (row::position(document.try_get(4)?)?, row::position(document.try_get(5)?)?);
    let parts = parts.iter().map(|row| row.try_get(0)).collect::<Result<Vec<&[u8]>, _>>()?;
    let found: usize = parts.iter().map(|part| part.len()).sum();
    if found as u64 != state.saturating_add(sidecar) {
        return Err(row::damaged("a part of the snapshot is missing"));
    }
    let mut whole = BytesMut::with_capacity(found);
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    let mut state_bytes = whole.freeze();
    let sidecar = state_bytes.split_off(usize::try_from(state).unwrap_or(found).min(found));
    let snapshot = Snapshot { state: state_bytes, through: Seq(through), sidecar };
    let crc: i64 = document.try_get(6)?;
    if crc != keep::crc_of(&snapshot) {
        return Err(row::damaged("the checksum of the snapshot is wrong"));
    }
    Ok(snapshot)
}

async fn list(open: &mut Open, prefix: &str, after: Option<&DocName>, limit: usize) -> Result<Page, Trouble> {
    let statement = open.statement(LIST).await?;
    let after = after.map_or(&[][..], |after| after.as_str().as_bytes());
    let (end, most) = (end_of(prefix), row::number(limit as u64 + 1));
    let rows = open.client.query(&statement, &[&prefix.as_bytes(), &after, &end, &most]).await?;
    let docs = rows.iter().take(limit).map(info).collect::<Result<Vec<_>, _>>()?;
    let next = docs.last().filter(|_| rows.len() > limit).map(|info| info.name.clone());
    Ok(Page { docs, next })
}

/// Stands in byte order behind all names that start with `prefix`, and in front of all that follow them. UTF-8 has no byte
/// that could not be counted up.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(u8::MAX),
    }
    end
}

fn info(row: &Row) -> Result<DocInfo, Trouble> {
    let name = std::str::from_utf8(row.try_get(0)?).ok().and_then(|name| DocName::parse(name).ok());
    Ok(DocInfo {
        name: name.ok_or_else(|| row::damaged("a name is no name of a document"))?,
        bytes: row::position(row.try_get(1)?)?,
        updated_at_ms: row::position(row.try_get(2)?)?,
        last: Seq(row::position(row.try_get(3)?)?),
    })
}
