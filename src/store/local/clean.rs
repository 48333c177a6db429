//! Gives log segments back.
//!
//! A segment that nothing points to is deleted. One that little points to is cleaned: what is needed of it is written
//! again at the end of the log. So a document that is never compacted pins its own entries and not a whole segment, and
//! the log stays below about twice what is needed of it.

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::name::DocName;
use crate::store::StoreError;
use crate::store::local::keeper::Keeping;
use crate::store::local::keeper::closed;
use crate::store::local::keeper::wait;
use crate::store::segments::index::SegmentId;
use crate::store::segments::job::Append;
use crate::store::segments::job::Job;
use crate::store::segments::job::Moved;
use crate::store::segments::read;

/// Waste that is not worth a write.
const SLACK_BYTES: u64 = 8 << 20;
/// More segments than this, and small ones are joined: each restart begins a new one.
const SEGMENTS_MAX: usize = 32;
/// Segments cleaned in one go, so that compactions get their turn.
const ROUNDS_MAX: usize = 16;
/// So much is read before the writer is waited for.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_JOBS: usize = 1024;

enum Choice {
    Clean(SegmentId),
    /// The current segment is mostly waste: complete it first.
    Roll,
}

impl Keeping {
    /// Deletes what is free and cleans what is nearly free.
    pub(crate) fn clean(&self) {
        for _ in 0..ROUNDS_MAX {
            self.delete_free();
            let done = match self.choose() {
                None => return,
                Some(Choice::Roll) => self.roll(),
                Some(Choice::Clean(id)) => self.clean_segment(id),
            };
            if let Err(error) = done {
                // The log cannot be written just now, and has said so itself.
                tracing::debug!(event = "store_clean_postponed", %error);
                return;
            }
        }
        self.stir();
    }

    fn delete_free(&self) {
        let free: Vec<SegmentId> = {
            let mut index = self.log.index();
            let free = index.segments.iter().filter(|(_, s)| s.sealed && s.refs == 0 && !s.stuck).map(|(&id, _)| id);
            let free: Vec<_> = free.collect();
            for id in &free {
                index.segments.remove(id);
            }
            free
        };
        for id in free {
            if let Err(error) = self.log.dir.remove(id) {
                tracing::warn!(event = "store_segment_undeleted", segment = id, %error, "the next start tries again");
            }
        }
    }

    fn choose(&self) -> Option<Choice> {
        let slack = SLACK_BYTES.min(self.log.segment_bytes);
        let index = self.log.index();
        let total: u64 = index.segments.values().map(|s| s.bytes).sum();
        let live: u64 = index.segments.values().map(|s| s.live).sum();
        let movable = || index.segments.iter().filter(|(_, s)| s.sealed && !s.stuck);
        if total > live.saturating_mul(2).saturating_add(slack) {
            let sparse = |s: &&crate::store::segments::index::Segment| s.live.saturating_mul(2) <= s.bytes;
            let emptiest = movable().filter(|(_, s)| sparse(s)).min_by_key(|(_, s)| s.live * 1024 / s.bytes.max(1));
            if let Some((&id, _)) = emptiest {
                return Some(Choice::Clean(id));
            }
            let current = index.segments.values().find(|s| !s.sealed);
            if current.is_some_and(|s| s.bytes > slack && sparse(&s)) {
                return Some(Choice::Roll);
            }
        }
        if movable().count() > SEGMENTS_MAX {
            let (&id, smallest) = movable().min_by_key(|(_, s)| s.bytes)?;
            return (smallest.bytes < self.log.segment_bytes / 4).then_some(Choice::Clean(id));
        }
        None
    }

    fn roll(&self) -> Result<(), StoreError> {
        let (reply, done) = oneshot::channel();
        self.log.line.push_own(Job::Roll { reply }).map_err(|_| closed())?;
        wait(done)
    }

    fn clean_segment(&self, id: SegmentId) -> Result<(), StoreError> {
        let docs: Vec<DocName> = {
            let index = self.log.index();
            let here = index.docs.iter().filter(|(_, state)| state.points_to(id));
            here.map(|(doc, _)| doc.clone()).collect()
        };
        let (mut waiting, mut bytes) = (Vec::new(), 0);
        for doc in docs {
            match self.read_for_move(&doc, id) {
                Ok(Some((job, size, done))) => {
                    self.log.line.push_own(job).map_err(|_| closed())?;
                    waiting.push(done);
                    bytes += size;
                }
                Ok(None) => {}
                Err(why) => {
                    tracing::warn!(event = "store_segment_stuck", segment = id, %doc, why, "a damaged segment is kept");
                    self.mark_stuck(id);
                    break;
                }
            }
            if bytes > BATCH_BYTES || waiting.len() > BATCH_JOBS {
                waiting.drain(..).try_for_each(wait)?;
                bytes = 0;
            }
        }
        waiting.into_iter().try_for_each(wait)?;
        // What changed meanwhile points elsewhere by itself. If something still points here, do not try for ever.
        if self.log.index().segments.get(&id).is_some_and(|s| s.refs > 0) {
            self.mark_stuck(id);
        }
        Ok(())
    }

    fn mark_stuck(&self, id: SegmentId) {
        if let Some(segment) = self.log.index().segments.get_mut(&id) {
            segment.stuck = true;
        }
    }

    #[expect(clippy::type_complexity, reason = "a job, its size, and where its answer arrives")]
    fn read_for_move(
        &self,
        doc: &DocName,
        from: SegmentId,
    ) -> Result<Option<(Job, usize, oneshot::Receiver<Result<(), StoreError>>)>, String> {
        let Some((state, files)) = self.log.index().reading(doc) else { return Ok(None) };
        if !state.losses.is_empty() {
            return Err("something of it was lost".to_owned());
        }
        let mut entries = Vec::new();
        let mut size = 0;
        for extent in state.extents.iter().filter(|e| e.segment == from) {
            let file = files.get(&from).ok_or("the file is gone")?;
            read::chain(file, doc.as_str(), self.log.dir.salt, &extent.run, state.through(), |entry| {
                size += entry.body.len();
                let (count, at_ms) = (entry.header.count, entry.header.at_ms);
                // Copied out, so that the rest of the entry is not kept.
                let body = Bytes::copy_from_slice(&entry.body);
                entries.push(Moved { first: entry.header.first, append: Append { count, at_ms, body } });
            })?;
        }
        entries.sort_by_key(|moved| moved.first);
        let (reply, done) = oneshot::channel();
        Ok(Some((Job::Move { doc: doc.clone(), epoch: state.epoch, from, entries, reply }, size, done)))
    }
}
