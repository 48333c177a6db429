//! What clients write: Yjs updates made byte by byte, because an engine per client would be the load.
//!
//! | module | what it is for |
//! |---|---|
//! | [`update`] | structs and deletions as update v1 |
//! | [`typist`] | one author's keystrokes: an update per character |
//! | [`grid`] | a table, and changes of its cells |
//! | [`paper`] | a large document of several authors, and where to type in it |

mod grid;
mod paper;
mod typist;
pub(crate) mod update;

pub(crate) use grid::Cell;
pub(crate) use grid::Grid;
pub(crate) use paper::Paper;
pub(crate) use typist::Typist;
pub(crate) use typist::letter;
pub(crate) use typist::root_of;
