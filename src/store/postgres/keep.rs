//! The task that compacts, deletes and revives: one thing at a time.
//!
//! A compaction may take seconds, and an edit must not wait for it. So there are two locks, always taken in this order:
//!
//! 1. the *turn*, the lock of the document's row in `syncline_snapshots`: who has it may change snapshot and memo and
//!    drop records. Appends never want it. A compaction that finds it taken by another node is refused; a deletion waits
//! 2. the lock of its row in `syncline_documents`, which appends wait for: taken by the last statement before the
//!    commit, and sent together with the commit, so that a node that freezes in between does not hold it
//!
//! What the last statement finds changed, it refuses by dividing by zero: an error is all that stops a commit that was
//! sent already.
//!
//! | a crash after | leaves |
//! |---|---|
//! | the row for the turn was made | a row that says that there is no snapshot |
//! | anything before the commit | nothing: it is one transaction |
//! | the commit | the new snapshot without the records in it, or the tombstone with its memo |

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_postgres::Client;
use tokio_postgres::Row;
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::name::DocName;
use crate::store::Epoch;
use crate::store::Seq;
use crate::store::Snapshot;
use crate::store::StoreError;
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

/// 4 096 tasks or 256 MiB wait at most; behind that one is refused as unavailable, and asked for again later.
pub(super) const LINE: Bounds = Bounds { jobs: 4096, bytes: 256 << 20 };
const ONE: Bounds = Bounds { jobs: 1, bytes: usize::MAX };
/// A statement here may delete many records, or wait for another node's compaction.
pub(super) const MANNERS: Manners =
    Manners { statement: Duration::from_secs(40), patience: Duration::from_secs(120), wish: None };
/// So much of a snapshot is in one row, and in one message.
const PART_BYTES: usize = 1 << 20;

const MAKE_TURN: &str = "
    INSERT INTO syncline_snapshots (doc, generation, through, state_bytes, sidecar_bytes, crc, memo)
    SELECT id, 0, 0, 0, 0, 0, ''::bytea FROM syncline_documents WHERE name = $1 AND NOT deleted AND last > 0
    ON CONFLICT (doc) DO NOTHING";
const TAKE_TURN: &str = "
    SELECT known.id, known.epoch, known.last, known.deleted,
        turn.generation, turn.through, turn.state_bytes + turn.sidecar_bytes
    FROM syncline_documents known JOIN syncline_snapshots turn ON turn.doc = known.id
    WHERE known.name = $1 FOR UPDATE OF turn NOWAIT";
const AWAIT_TURN: &str = "
    SELECT known.id FROM syncline_documents known JOIN syncline_snapshots turn ON turn.doc = known.id
    WHERE known.name = $1 FOR UPDATE OF turn";
const DOCUMENT: &str = "SELECT epoch, last, deleted FROM syncline_documents WHERE name = $1";
const PUT_PART: &str = "INSERT INTO syncline_snapshot_parts (doc, generation, part, bytes) VALUES ($1, $2, $3, $4)";
const READ_PART: &str = "SELECT bytes FROM syncline_snapshot_parts WHERE doc = $1 AND generation = $2 AND part = $3";
const PUT_SNAPSHOT: &str = "
    UPDATE syncline_snapshots SET generation = $2, through = $3, state_bytes = $4, sidecar_bytes = $5, crc = $6
    WHERE doc = $1";
const DROP_PARTS: &str = "DELETE FROM syncline_snapshot_parts WHERE doc = $1 AND generation < $2";
const DROP_RECORDS: &str = "
    WITH gone AS (
        DELETE FROM syncline_records WHERE doc = $1 AND epoch = $2 AND seq <= $3
        RETURNING octet_length(bytes) + octet_length(sidecar) AS size
    )
    SELECT coalesce(sum(size), 0)::bigint FROM gone";
const SETTLE: &str = "
    WITH settled AS (
        UPDATE syncline_documents SET bytes = bytes + $3::bigint
        WHERE id = $1 AND epoch = $2 AND NOT deleted RETURNING id
    )
    SELECT 1 / count(*) FROM settled";
const BURY: &str = "
    WITH buried AS (
        UPDATE syncline_documents SET deleted = true, last = 0, bytes = 0
        WHERE id = $1 AND NOT deleted AND last > 0 AND ($2::bigint IS NULL OR (epoch = $2 AND last = $3::bigint))
        RETURNING id
    )
    SELECT 1 / count(*) FROM buried";
const FORGET_RECORDS: &str = "DELETE FROM syncline_records WHERE doc = $1";
const FORGET_PARTS: &str = "DELETE FROM syncline_snapshot_parts WHERE doc = $1";
const REMEMBER: &str = "
    UPDATE syncline_snapshots SET through = 0, state_bytes = 0, sidecar_bytes = 0, crc = 0, memo = $2 WHERE doc = $1";
const LIFT: &str = "
    UPDATE syncline_documents SET deleted = false, epoch = epoch + 1, last = 0, bytes = 0
    WHERE name = $1 AND deleted RETURNING epoch";

/// What the keeper is asked for.
pub(super) enum Task {
    Compact {
        doc: DocName,
        epoch: Epoch,
        snapshot: Snapshot,
        reply: Reply<()>,
    },
    /// `stands`: only where the document still does.
    Delete {
        doc: DocName,
        stands: Option<(Epoch, Seq)>,
        memo: Bytes,
        reply: Reply<bool>,
    },
    Revive {
        doc: DocName,
        reply: Reply<Epoch>,
    },
}

impl Task {
    pub(super) fn refuse(self, error: StoreError) {
        // Whoever asked may be gone.
        match self {
            Self::Compact { reply, .. } => drop(reply.send(Err(error))),
            Self::Delete { reply, .. } => drop(reply.send(Err(error))),
            Self::Revive { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// The task's own state.
pub(super) struct Keeper {
    pub(super) line: Arc<Line<Task>>,
    pub(super) link: Link,
    pub(super) outage: Arc<Outage>,
}

impl Keeper {
    /// Works until the line is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(task) = self.line.take(ONE).await.pop() {
            // Whoever asked may be gone.
            match task {
                Task::Compact { doc, epoch, snapshot, reply } => {
                    let act = async |open: &mut Open| compact(open, &doc, epoch, &snapshot).await;
                    let _ = reply.send(self.link.attempt(&self.outage, act).await);
                }
                Task::Delete { doc, stands, memo, reply } => {
                    let act = async |open: &mut Open| delete(open, &doc, stands, &memo).await;
                    let _ = reply.send(self.link.attempt(&self.outage, act).await);
                }
                Task::Revive { doc, reply } => {
                    let act = async |open: &mut Open| revive(open, &doc).await;
                    let _ = reply.send(self.link.attempt(&self.outage, act).await);
                }
            }
        }
    }
}

/// Where a document stands, and its snapshot, as the one who has the turn sees it.
struct Turn {
    doc: i64,
    standing: Standing,
    generation: i64,
    through: u64,
    bytes: i64,
}

impl Turn {
    fn read(row: &Row) -> Result<Self, Trouble> {
        Ok(Self {
            doc: row.try_get(0)?,
            standing: Standing::read(row, 1)?,
            generation: row.try_get(4)?,
            through: row::position(row.try_get(5)?)?,
            bytes: row.try_get(6)?,
        })
    }
}

async fn compact(open: &mut Open, doc: &DocName, epoch: Epoch, snapshot: &Snapshot) -> Result<(), Trouble> {
    let name = doc.as_str().as_bytes();
    make_turn(open, name).await?;
    let take = open.statement(TAKE_TURN).await?;
    begin(open).await?;
    let outcome = async {
        let taken = open.client.query_opt(&take, &[&name]).await.map_err(Trouble::from);
        let Some(row) = taken.map_err(taken_by_another)? else { return Err(unfit(open, name, epoch, snapshot).await?) };
        let turn = Turn::read(&row)?;
        fits(turn.standing, epoch, snapshot, turn.through)?;
        replace(open, &turn, snapshot).await?;
        settle(open, &turn, snapshot).await
    };
    let outcome = outcome.await;
    end(open, outcome).await
}

/// Somebody else has the turn: what they write may be newer than this.
fn taken_by_another(trouble: Trouble) -> Trouble {
    if trouble.has_code(&SqlState::LOCK_NOT_AVAILABLE) {
        return StoreError::Conflict("another node is compacting the document".to_owned()).into();
    }
    trouble
}

/// Why there is no turn to take: the document was never written, or is deleted and was never compacted.
async fn unfit(open: &mut Open, name: &[u8], epoch: Epoch, snapshot: &Snapshot) -> Result<Trouble, Trouble> {
    let statement = open.statement(DOCUMENT).await?;
    let row = open.client.query_opt(&statement, &[&name]).await?;
    let standing = row.map_or_else(|| Ok(Standing::default()), |row| Standing::read(&row, 0))?;
    let unfit = fits(standing, epoch, snapshot, 0).err();
    Ok(unfit.unwrap_or_else(|| Trouble::Unfit(StoreError::Conflict("the document has just changed".to_owned()))))
}

fn fits(standing: Standing, epoch: Epoch, snapshot: &Snapshot, had: u64) -> Result<(), Trouble> {
    standing.admit(epoch)?;
    let through = snapshot.through.0;
    if through == 0 || through > standing.last || through < had {
        let why = format!("through is {through}, the log ends at {}", standing.last);
        return Err(StoreError::Conflict(why).into());
    }
    Ok(())
}

/// Writes the new snapshot, reads it back, and drops the former one.
async fn replace(open: &mut Open, turn: &Turn, snapshot: &Snapshot) -> Result<(), Trouble> {
    let generation = turn.generation + 1;
    let put = open.statement(PUT_PART).await?;
    for (part, bytes) in parts(snapshot) {
        open.client.execute(&put, &[&turn.doc, &generation, &part, &bytes]).await?;
    }
    let read = open.statement(READ_PART).await?;
    for (part, bytes) in parts(snapshot) {
        let row = open.client.query_opt(&read, &[&turn.doc, &generation, &part]).await?;
        let same = row.map(|row| row.try_get::<_, &[u8]>(0).map(|found| found == bytes)).transpose()?;
        if same != Some(true) {
            let why = "a snapshot did not read back as it was written".to_owned();
            return Err(StoreError::Unavailable(why).into());
        }
    }
    let (state, sidecar) = (row::number(snapshot.state.len() as u64), row::number(snapshot.sidecar.len() as u64));
    let (through, crc) = (row::number(snapshot.through.0), crc_of(snapshot));
    execute(open, PUT_SNAPSHOT, &[&turn.doc, &generation, &through, &state, &sidecar, &crc]).await?;
    execute(open, DROP_PARTS, &[&turn.doc, &generation]).await
}

/// Drops the records that are in the snapshot, and commits, unless the document was deleted meanwhile.
async fn settle(open: &mut Open, turn: &Turn, snapshot: &Snapshot) -> Result<(), Trouble> {
    let (epoch, through) = (row::number(turn.standing.epoch), row::number(snapshot.through.0));
    let drop_records = open.statement(DROP_RECORDS).await?;
    let row = open.client.query_one(&drop_records, &[&turn.doc, &epoch, &through]).await?;
    let dropped: i64 = row.try_get(0)?;
    let written = row::number((snapshot.state.len() + snapshot.sidecar.len()) as u64);
    let grown = written - turn.bytes - dropped;
    let settle = open.statement(SETTLE).await?;
    commit_with(&open.client, &settle, &[&turn.doc, &epoch, &grown]).await?.ok_or(Trouble::Unfit(StoreError::Deleted))
}

async fn delete(open: &mut Open, doc: &DocName, stands: Option<(Epoch, Seq)>, memo: &Bytes) -> Result<bool, Trouble> {
    let name = doc.as_str().as_bytes();
    make_turn(open, name).await?;
    let turn = open.statement(AWAIT_TURN).await?;
    let bury = open.statement(BURY).await?;
    begin(open).await?;
    let outcome = async {
        let Some(row) = open.client.query_opt(&turn, &[&name]).await? else { return Ok(false) };
        let id: i64 = row.try_get(0)?;
        for (sql, parameters) in [(FORGET_PARTS, &[&id as &(dyn ToSql + Sync)][..]), (REMEMBER, &[&id, &&memo[..]])] {
            execute(open, sql, parameters).await?;
        }
        let forget = open.statement(FORGET_RECORDS).await?;
        // The tombstone first: behind it nothing can be appended that would be left over.
        let (epoch, last) = stands.map(|(epoch, through)| (row::number(epoch.0), row::number(through.0))).unzip();
        let (whom, of): ([&(dyn ToSql + Sync); 3], [&(dyn ToSql + Sync); 1]) = ([&id, &epoch, &last], [&id]);
        let (buried, forgotten, committed) = futures_util::join!(
            open.client.query_one(&bury, &whom),
            open.client.execute(&forget, &of),
            open.client.batch_execute("COMMIT"),
        );
        if !done(buried)? {
            return Ok(false);
        }
        forgotten?;
        committed?;
        Ok(true)
    };
    let outcome = outcome.await;
    let is_buried = end(open, outcome).await?;
    if let (false, Some((epoch, _))) = (is_buried, stands) {
        let standing = standing(open, name).await?;
        standing.admit(epoch)?;
        if standing.last > 0 {
            return Err(StoreError::Conflict("another node has written on".into()).into());
        }
    }
    Ok(is_buried)
}

async fn revive(open: &mut Open, doc: &DocName) -> Result<Epoch, Trouble> {
    let name = doc.as_str().as_bytes();
    let lift = open.statement(LIFT).await?;
    if let Some(row) = open.client.query_opt(&lift, &[&name]).await? {
        return Ok(Epoch(row::position(row.try_get(0)?)?));
    }
    Ok(Epoch(standing(open, name).await?.epoch))
}

async fn standing(open: &mut Open, name: &[u8]) -> Result<Standing, Trouble> {
    let statement = open.statement(DOCUMENT).await?;
    let row = open.client.query_opt(&statement, &[&name]).await?;
    row.map_or_else(|| Ok(Standing::default()), |row| Standing::read(&row, 0))
}

/// Makes the row whose lock is the turn, in a transaction of its own: who waits for one that is being made would wait
/// for a whole compaction.
async fn make_turn(open: &mut Open, name: &[u8]) -> Result<(), Trouble> {
    execute(open, MAKE_TURN, &[&name]).await
}

async fn execute(open: &mut Open, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<(), Trouble> {
    let statement = open.statement(sql).await?;
    open.client.execute(&statement, parameters).await?;
    Ok(())
}

async fn begin(open: &Open) -> Result<(), Trouble> {
    Ok(open.client.batch_execute("BEGIN").await?)
}

/// Ends a transaction that did not come to its commit. One that did is over, and this says nothing to it.
async fn end<T>(open: &Open, outcome: Result<T, Trouble>) -> Result<T, Trouble> {
    if !matches!(outcome, Err(Trouble::Lost(_))) {
        open.client.batch_execute("ROLLBACK").await?;
    }
    outcome
}

/// Runs a transaction's last statement and sends the commit along with it. `None`: it found nothing to change, and
/// nothing was committed.
async fn commit_with(
    client: &Client,
    last: &Statement,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<()>, Trouble> {
    let (changed, committed) = futures_util::join!(client.query_one(last, parameters), client.batch_execute("COMMIT"));
    if !done(changed)? {
        return Ok(None);
    }
    committed?;
    Ok(Some(()))
}

/// Whether a statement that divides by the number of rows that it changed has changed one.
fn done(outcome: Result<Row, tokio_postgres::Error>) -> Result<bool, Trouble> {
    match outcome.map_err(Trouble::from) {
        Ok(_) => Ok(true),
        Err(trouble) if trouble.has_code(&SqlState::DIVISION_BY_ZERO) => Ok(false),
        Err(trouble) => Err(trouble),
    }
}

/// A snapshot as it stands in rows: first the state, then the sidecar.
fn parts(snapshot: &Snapshot) -> impl Iterator<Item = (i64, &[u8])> {
    (0..).zip(snapshot.state.chunks(PART_BYTES).chain(snapshot.sidecar.chunks(PART_BYTES)))
}

/// The checksum of a snapshot.
pub(super) fn crc_of(snapshot: &Snapshot) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&snapshot.state);
    hasher.update(&snapshot.sidecar);
    hasher.finalize().into()
}
