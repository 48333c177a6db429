//! What the server keeps of one table beside the document: versions, authors, what current entries are, whose client ids
//! are whose, which requests were done.
//!
//! It follows from the document's log: [`Register::observe`] is called with each record in order, live and when the log is
//! read again, and does the same both times. A snapshot carries it folded ([`super::sidecar`]).

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use syncline_protocol::ErrorCode;
use syncline_protocol::update::Drafted;
use syncline_protocol::update::Entries;
use syncline_protocol::update::Invalid;
use syncline_protocol::update::Summary;
use yrs::ID;
use yrs::ReadTxn;
use yrs::TransactionMut;
use yrs::branch::BranchID;

use super::answered::Answered;
use super::before::Before;
use super::before::Contest;
use super::before::Gains;
use super::carry::carry_out;
use super::change::Author;
use super::change::ChangeSet;
use super::change::Overwrite;
use super::change::Repair;
use super::change::Resolution;
use super::change::Side;
use super::change::Source;
use super::column;
use super::content;
use super::field;
use super::field::Rule;
use super::ledger::Ledger;
use super::limits;
use super::plan::Put;
use super::refused::Refused;
use super::settle::Circumstances;
use super::state::Table;

/// A row with its stamps, its place in the order and its id, in all maps that have it.
const ROW_BYTES: usize = 400;
/// A cell's mark, and its entry in the index of current items.
const CELL_BYTES: usize = 130;

/// What is kept of one table.
#[derive(Debug, Default)]
pub struct Register {
    /// The table.
    pub table: Table,
    pub(super) entries: Entries,
    pub(super) ledger: Ledger,
    /// What was asked under an `Idempotency-Key`.
    pub answered: Answered,
    /// Versions of records that are gone with their content.
    pub(super) purged: BTreeMap<Arc<str>, u64>,
}

/// An update on its way into the engine, and what it touches.
#[derive(Debug)]
pub struct Seen<'a> {
    before: Before,
    drafted: Drafted<'a>,
}

impl Register {
    /// The register of a document of which nothing but the content is known: each record counts as created, once, by
    /// nobody. `state` is the same content, encoded.
    ///
    /// # Errors
    /// [`Invalid`] when the state cannot be read.
    pub fn of_state(txn: &impl ReadTxn, state: &[u8]) -> Result<Self, Invalid> {
        let mut register = Self { entries: Entries::read(state)?, ..Self::default() };
        let said = Circumstances { author: &Author::default(), at_ms: 0, roots: &[] };
        register.take_in(txn, &mut Before::of_nothing(txn), &said);
        Ok(register)
    }

    /// About how many bytes of memory it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.table.rows.len() * ROW_BYTES + self.table.cells * CELL_BYTES
    }

    /// What does not show in the table, for comparisons.
    #[cfg(test)]
    pub(crate) fn marks_text(&self) -> String {
        let clients: Vec<_> = self.ledger.iter().collect();
        let answered: Vec<_> = self.answered.iter().collect();
        format!("{:?} {clients:?} {answered:?}", self.purged)
    }

    /// Looks at an update before the engine merges it.
    ///
    /// # Errors
    /// [`Invalid`] when it cannot be read: it was not validated.
    pub fn look<'a>(&self, txn: &impl ReadTxn, update: &'a [u8]) -> Result<Seen<'a>, Invalid> {
        let drafted = self.entries.draft(update)?;
        let before = Before::of_update(&self.table, txn, update, &self.entries.touches(&drafted));
        Ok(Seen { before, drafted })
    }

    /// Whether the table takes what an update brings.
    ///
    /// # Errors
    /// `PAYLOAD_TOO_LARGE` over a limit, `INVALID_UPDATE` for an id that could not be told from a path or would break
    /// JavaScript objects: a record cannot get another one later.
    pub fn admit(&self, seen: &Seen<'_>) -> Result<(), Refused> {
        if let Some(id) = &seen.before.bad_id {
            let id: String = id.chars().take(64).collect();
            return Err(Refused::new(ErrorCode::InvalidUpdate, format!("{id:?} cannot be an id")));
        }
        let Gains { rows, fields, cells } = seen.before.gains;
        if rows > 0 {
            limits::check_rows(&self.table, rows)?;
        }
        if fields > 0 {
            limits::check_fields(&self.table, fields)?;
        }
        limits::check_cells(&self.table, cells)
    }

    /// Takes in what an update changed, after the engine merged it and committed: `txn` is the transaction.
    pub fn observe(
        &mut self,
        txn: &TransactionMut,
        seen: Seen<'_>,
        update: &[u8],
        summary: &Summary,
        author: &Author,
        at_ms: u64,
    ) -> Result<ChangeSet, Invalid> {
        if let Some(user) = &author.user {
            summary.ranges().iter().for_each(|range| self.ledger.see(range.client, range.start, user));
        }
        let deleted = deletions(txn);
        let Seen { mut before, drafted } = seen;
        before.roots.extend(summary.roots(update).filter(|root| !content::is_own(root)).map(Arc::from));
        let contests = std::mem::take(&mut before.contests).into_iter();
        let contests: Vec<_> = contests.map(|contest| (self.last_writer(&contest), contest)).collect();
        let roots = changed_roots(txn);
        let said = Circumstances { author, at_ms, roots: &roots };
        // Entries first: new records take their names from there.
        self.entries.settle_draft(&drafted, &deleted);
        let mut change = self.take_in(txn, &mut before, &said);
        if self.judges(author) {
            change.wrong = self.wrong(txn, &before, &change);
        }
        for (by, contest) in contests {
            let won = !deleted(contest.item.client, contest.item.clock);
            let is_reserved = field::is_reserved(&contest.key);
            // What the server wrote for nobody was a repair, and promised nothing.
            let promised = by.is_some() || is_reserved;
            if won && promised && contest.over_server && contest.value != contest.was {
                change.again.push((contest.row.clone(), contest.key.clone(), contest.was.clone()));
            }
            if !is_reserved {
                change.overwrites.extend(self.overwrite(txn, contest, by, won, &change));
            }
        }
        Ok(change)
    }

    /// Carries out a plan of the server and takes in what it changed. `txn` is a new transaction; it is committed here.
    /// Answers the update that it makes.
    pub fn carry_out(
        &mut self,
        txn: &mut TransactionMut,
        puts: &[Put],
        author: &Author,
        at_ms: u64,
    ) -> Result<(Vec<u8>, ChangeSet), Invalid> {
        let mut before = Before::of_puts(&self.table, txn, puts);
        carry_out(txn, puts);
        txn.commit();
        let update = txn.encode_update_v1();
        self.entries.settle(&update, deletions(txn))?;
        let said = Circumstances { author, at_ms, roots: &[] };
        let change = self.take_in(txn, &mut before, &said);
        Ok((update, change))
    }
}

impl Register {
    /// What the server does about what a client's transaction did, in a transaction of its own: puts back what is wrong,
    /// writes again what it had acknowledged, and what the table's settings say. `None` when there is nothing to do.
    ///
    /// The server's client id is higher than those of browsers, but that decides only between two who wrote over the same
    /// value: an edit that competes with what a request had *seen* stands behind that request's in the order of items.
    pub fn reply_to(&self, txn: &impl ReadTxn, change: &mut ChangeSet) -> Option<Vec<Put>> {
        let mut puts = Vec::new();
        for wrong in &change.wrong {
            let value = (!wrong.was.is_null()).then(|| wrong.was.clone());
            puts.push(Put::Cell { row: wrong.row.clone(), key: wrong.key.to_string(), value });
        }
        let mut taken = Taken::new(txn);
        // What is put back in the same breath is nobody's victory.
        let wrong = &change.wrong;
        change.overwrites.retain(|lost| !wrong.iter().any(|wrong| wrong.row == lost.row && wrong.key == lost.key));
        let policy = self.table.policy();
        let again = if policy == Resolution::LatestArrival { Vec::new() } else { std::mem::take(&mut change.again) };
        for (row, key, value) in &again {
            puts.push(Put::Cell { row: row.clone(), key: key.to_string(), value: Some(value.clone()) });
        }
        for overwrite in &mut change.overwrites {
            let acknowledged = again.iter().any(|(row, key, _)| *row == overwrite.row && *key == overwrite.key);
            overwrite.resolution = if acknowledged { Resolution::Acknowledged } else { policy };
            let swaps = match overwrite.resolution {
                Resolution::Crdt => false,
                Resolution::LatestArrival => !overwrite.arrived_won,
                Resolution::OnlineWins => overwrite.arrived_won && overwrite.winner.offline,
                Resolution::Acknowledged => true,
            };
            // What lost was not judged when it came: a wrong value does not come back.
            let lost = &overwrite.loser.value;
            let fits = !self.table.is_declared()
                || self.broken_rule(&mut taken, &overwrite.row, &overwrite.key, lost).is_none();
            if swaps && fits {
                std::mem::swap(&mut overwrite.winner, &mut overwrite.loser);
                if !acknowledged {
                    let value = Some(overwrite.winner.value.clone());
                    puts.push(Put::Cell { row: overwrite.row.clone(), key: overwrite.key.to_string(), value });
                }
            } else if swaps {
                overwrite.resolution = Resolution::Crdt;
            }
        }
        (!puts.is_empty()).then_some(puts)
    }

    /// Whether what this author brings is checked cell by cell afterwards. What the server brings was checked before.
    fn judges(&self, author: &Author) -> bool {
        self.table.is_declared() && author.source != Source::System
    }

    /// The cells that a client wrote and their fields do not take: of the keys that it wrote, and of all keys of a record
    /// that is new.
    fn wrong(&self, txn: &impl ReadTxn, before: &Before, change: &ChangeSet) -> Vec<Repair> {
        let mut wrong = Vec::new();
        let mut taken = Taken::new(txn);
        for (id, was) in &before.rows {
            let Some(map) = &was.now else { continue };
            let mut judge = |key: &Arc<str>, value: &Value, stood: &Value| {
                let repair = self.repair(&mut taken, id, key, value, stood)?;
                Some(Repair { user: self.user_of(was.client, &change.author), ..repair })
            };
            if !was.existed {
                let raw = content::raw(txn, map);
                wrong.extend(raw.iter().filter_map(|(key, value)| judge(key, value, &Value::Null)));
                continue;
            }
            wrong.extend(was.raw.iter().filter_map(|(name, key)| match &key.now {
                Some(now) => judge(name, now, &key.was),
                None => judge(name, &content::value(txn, map, name), &key.was),
            }));
        }
        wrong
    }

    /// What to do about one key, if its field does not take the value. Nobody is named in it yet.
    fn repair(
        &self,
        taken: &mut Taken<'_, impl ReadTxn>,
        row: &Arc<str>,
        key: &Arc<str>,
        value: &Value,
        was: &Value,
    ) -> Option<Repair> {
        if field::is_reserved(key) {
            return None;
        }
        let rule = self.broken_rule(taken, row, key, value)?;
        // What was there may be no better: then the cell is cleared.
        let was = if self.broken_rule(taken, row, key, was).is_some() { Value::Null } else { was.clone() };
        let (row, field) = (row.clone(), field::field_of(key).into());
        Some(Repair { row, field, key: key.clone(), value: value.clone(), was, rule: rule.word(), user: None })
    }

    fn broken_rule(&self, taken: &mut Taken<'_, impl ReadTxn>, row: &str, key: &str, value: &Value) -> Option<Rule> {
        if value.is_null() {
            return None;
        }
        let Some(field) = self.table.fields.get(field::field_of(key)) else { return Some(Rule::UnknownField) };
        if let Err(rule) = field::check_raw(field, key, value) {
            return Some(rule);
        }
        (column::is_on(field, "unique") && taken.by_another(&self.table, row, key, value)).then_some(Rule::NotUnique)
    }
}

/// Which values unique fields have. Read once for each field that a transaction touches: for every record one look.
struct Taken<'t, T> {
    txn: &'t T,
    /// By raw key, how many records that are not deleted have a value, as JSON text.
    counts: HashMap<Box<str>, HashMap<String, usize>>,
}

impl<'t, T: ReadTxn> Taken<'t, T> {
    fn new(txn: &'t T) -> Self {
        Self { txn, counts: HashMap::new() }
    }

    fn by_another(&mut self, table: &Table, own: &str, key: &str, value: &Value) -> bool {
        let counts = self.counts.entry(key.into()).or_insert_with(|| count_values(table, self.txn, key));
        let count = counts.get(&value.to_string()).copied().unwrap_or(0);
        let is_live = table.rows.get(own).is_some_and(|row| row.deleted.is_none());
        let is_own =
            is_live && content::row(self.txn, own).is_some_and(|row| content::value(self.txn, &row, key) == *value);
        count > usize::from(is_own)
    }
}

fn count_values(table: &Table, txn: &impl ReadTxn, key: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    let Some(rows) = content::root(txn, content::ROWS) else { return counts };
    for (id, _) in table.rows.iter().filter(|(_, row)| row.deleted.is_none()) {
        let Some(row) = content::nested(txn, &rows, id) else { continue };
        let value = content::value(txn, &row, key);
        if !value.is_null() {
            *counts.entry(value.to_string()).or_default() += 1;
        }
    }
    counts
}

impl Register {
    /// Who wrote what is in a contested cell. To be asked before the change is taken in: then somebody else wrote it last.
    fn last_writer(&self, contest: &Contest) -> Option<Arc<str>> {
        let row = self.table.rows.get(&contest.row)?;
        let id = field::field_of(&contest.key);
        let mark = row.fields.iter().find(|mark| *mark.field == *id)?;
        mark.stamp.user.clone()
    }

    /// What was lost, if two users wrote different things.
    fn overwrite(
        &self,
        txn: &impl ReadTxn,
        contest: Contest,
        by: Option<Arc<str>>,
        won: bool,
        change: &ChangeSet,
    ) -> Option<Overwrite> {
        let was = contest.was;
        let offline = change.author.source == Source::Offline;
        let user = self.user_of(Some(contest.item.client), &change.author);
        if user == by || contest.value == was || was.is_null() || contest.value.is_null() {
            return None;
        }
        let arrived = Side { value: contest.value, user, offline };
        let known = Side { value: was, user: by, offline: false };
        let row = content::row(txn, &contest.row)?;
        let shown = content::value(txn, &row, &contest.key);
        let (winner, loser) = if won { (arrived, known) } else { (known, arrived) };
        // Neither of them, when the same transaction went on to clear the cell.
        (shown == winner.value).then(|| Overwrite {
            row: contest.row,
            field: field::field_of(&contest.key).into(),
            key: contest.key,
            winner,
            loser,
            resolution: Resolution::Crdt,
            arrived_won: won,
        })
    }
}

/// Whether a transaction deleted an item: of a client, at a clock.
fn deletions(txn: &TransactionMut) -> impl Fn(u64, u32) -> bool {
    |client, clock| txn.delete_set().contains(&ID::new(yrs::ClientID::new(client), clock))
}

/// The roots in which the engine saw a change, without those of the schema. Only roots whose type was declared show here.
fn changed_roots(txn: &TransactionMut) -> Vec<Arc<str>> {
    let mut roots: Vec<Arc<str>> = Vec::new();
    for branch in txn.changed_parent_types() {
        if let BranchID::Root(name) = branch.id()
            && !content::is_own(&name)
            && !roots.contains(&name)
        {
            roots.push(name);
        }
    }
    roots
}
