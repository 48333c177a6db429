//! The tables, made and brought up to date by whoever starts first.
//!
//! ```text
//! syncline_schema           one row: which step of STEPS was done last; its lock is the turn to do the next ones
//! syncline_store            one row: the number that tells this store from others
//! syncline_documents        a row for each name ever written: epoch, last record, whether its tombstone stands
//! syncline_records          the log: (document, epoch, position) -> one update
//! syncline_snapshots        a row for each document ever compacted or deleted: the snapshot in force, the memo
//! syncline_snapshot_parts   the bytes of snapshots, in parts: (document, generation, part)
//! syncline_probe            one row, written to see whether writing works
//! ```
//!
//! Text is kept as bytes: names order as bytes whatever the database's collation and encoding are, and nothing in one
//! can mean anything. Documents have a random number, made by the node that writes them first: a sequence would be
//! spent with every append, and names would stand in every row. The lock is that of a row, as every engine has it that
//! speaks the protocol; advisory locks are PostgreSQL's alone.

use tokio_postgres::error::SqlState;

use crate::store::postgres::OpenError;
use crate::store::postgres::link::Open;
use crate::store::postgres::link::Trouble;
use crate::store::postgres::row;

/// What each version adds to the one before it. A step that was published is never changed.
const STEPS: &[&str] = &[
    "
    CREATE TABLE syncline_documents (
        name BYTEA PRIMARY KEY,
        id BIGINT NOT NULL UNIQUE,
        epoch BIGINT NOT NULL,
        last BIGINT NOT NULL,
        deleted BOOLEAN NOT NULL,
        bytes BIGINT NOT NULL,
        updated_at_ms BIGINT NOT NULL
    );
    CREATE TABLE syncline_records (
        doc BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        at_ms BIGINT NOT NULL,
        author BYTEA,
        bytes BYTEA NOT NULL,
        sidecar BYTEA NOT NULL,
        crc BIGINT NOT NULL,
        PRIMARY KEY (doc, epoch, seq)
    );
    CREATE TABLE syncline_snapshots (
        doc BIGINT PRIMARY KEY,
        generation BIGINT NOT NULL,
        through BIGINT NOT NULL,
        state_bytes BIGINT NOT NULL,
        sidecar_bytes BIGINT NOT NULL,
        crc BIGINT NOT NULL,
        memo BYTEA NOT NULL
    );
    CREATE TABLE syncline_snapshot_parts (
        doc BIGINT NOT NULL,
        generation BIGINT NOT NULL,
        part BIGINT NOT NULL,
        bytes BYTEA NOT NULL,
        PRIMARY KEY (doc, generation, part)
    );
    CREATE TABLE syncline_probe (id BIGINT PRIMARY KEY, probes BIGINT NOT NULL);
    INSERT INTO syncline_probe (id, probes) VALUES (1, 0);
",
    "
    CREATE TABLE syncline_store (id BIGINT PRIMARY KEY, number BIGINT NOT NULL);
    INSERT INTO syncline_store (id, number) VALUES (1, 1 + floor(random() * 9e18)::bigint);
",
];

/// Two nodes that make the first table at the same moment: one of them is told so, and finds it there when it looks again.
const BEGINNINGS_MAX: usize = 5;

/// Brings the tables up to date, alone among all nodes. Answers the number that tells this store from others.
pub(super) async fn migrate(open: &Open) -> Result<u64, OpenError> {
    begin(open).await?;
    open.client.batch_execute("BEGIN").await.map_err(Trouble::from)?;
    let row = open.client.query_one("SELECT version FROM syncline_schema WHERE id = 1 FOR UPDATE", &[]).await;
    let found: i64 = row.and_then(|row| row.try_get(0)).map_err(Trouble::from)?;
    let known = STEPS.len() as u64;
    let found = u64::try_from(found).unwrap_or(u64::MAX);
    if found > known {
        return Err(OpenError::Newer { found, known });
    }
    let steps = STEPS.iter().skip(usize::try_from(found).unwrap_or(usize::MAX));
    for step in steps {
        open.client.batch_execute(step).await.map_err(Trouble::from)?;
    }
    let done = format!("UPDATE syncline_schema SET version = {known} WHERE id = 1; COMMIT");
    open.client.batch_execute(&done).await.map_err(Trouble::from)?;
    let row = open.client.query_one("SELECT number FROM syncline_store WHERE id = 1", &[]).await;
    let number: i64 = row.and_then(|row| row.try_get(0)).map_err(Trouble::from)?;
    if found < known {
        tracing::info!(event = "store_migrated", from = found, to = known, "the tables were brought up to date");
    }
    Ok(row::position(number)?)
}

/// Makes the table that the lock is in.
async fn begin(open: &Open) -> Result<(), Trouble> {
    let sql = "
        CREATE TABLE IF NOT EXISTS syncline_schema (id BIGINT PRIMARY KEY, version BIGINT NOT NULL);
        INSERT INTO syncline_schema (id, version) VALUES (1, 0) ON CONFLICT (id) DO NOTHING";
    let mut tries = 0;
    loop {
        tries += 1;
        let Err(error) = open.client.batch_execute(sql).await else { return Ok(()) };
        let trouble = Trouble::from(error);
        let race = trouble.is_passing()
            || [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT]
                .iter()
                .any(|code| trouble.has_code(code));
        if !race || tries >= BEGINNINGS_MAX {
            return Err(trouble);
        }
    }
}
