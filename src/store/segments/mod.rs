//! The log: append-only segment files that hold the entries of all documents.
//!
//! ```text
//!  append ──▶ queue ──▶ writer ──▶ 0000000007.log   current: write, fdatasync, answer
//!                         │        0000000006.log + .idx   complete, with its table of contents
//!                         ▼
//!                       index ◀── read (loads go to the files themselves, behind nobody)
//! ```
//!
//! Two kinds of entries: the records of one append (atomic, since they are one entry), and a document's *note*: its
//! epoch, tombstone, and which snapshot is in force. The newest note is the truth about a document, and is never
//! dropped; sled only holds the bytes of snapshots. So a snapshot that vanished from sled is noticed.
//!
//! Entries carry all that is needed to build the index again from the files in any order: records are known by document,
//! epoch and sequence, notes by document and version. So a segment in the middle may be cleaned: what is still needed
//! of it is written again at the end of the log under the same numbers, then it is deleted.

pub(crate) mod disk;
pub(crate) mod files;
pub(crate) mod frame;
pub(crate) mod index;
pub(crate) mod job;
pub(crate) mod queue;
pub(crate) mod read;
pub(crate) mod round;
pub(crate) mod room;
pub(crate) mod scan;
pub(crate) mod window;
pub(crate) mod writer;
