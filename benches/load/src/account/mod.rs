//! What was sent, what arrived, when, and whether it is the same: by content, because servers merge what they pass on.
//!
//! | module | what it is for |
//! |---|---|
//! | [`histogram`] | how long things took |
//! | [`ledger`] | one document: whose units reached whom |
//! | [`presence`] | one document: whose states reached whom |
//! | [`history`] | everything one reader was sent, to be built again with the engine |
//! | [`grid`] | a table, compared cell by cell |
//! | [`process`] | processor time and memory of the server, from `/proc` |

mod grid;
mod histogram;
mod history;
mod ledger;
mod presence;
mod process;

pub(crate) use grid::same_grid;
pub(crate) use histogram::Histogram;
pub(crate) use history::History;
pub(crate) use history::rebuilt;
pub(crate) use history::rebuilt_text;
pub(crate) use ledger::Ledger;
pub(crate) use ledger::Tally;
pub(crate) use presence::Presence;
pub(crate) use process::Cpu;
pub(crate) use process::resident_bytes;
