//! Stand-in.
#![allow(missing_docs, clippy::unused_self)]
use std::time::Duration;
#[derive(Debug, Default)]
pub struct Metrics;
impl Metrics {
    pub fn append_started(&self, _records: usize) {}
    pub fn append_finished(&self, _took: Duration, _ok: bool) {}
    pub fn compacted(&self, _took: Duration, _ok: bool) {}
}
