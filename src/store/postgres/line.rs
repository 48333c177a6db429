//! A bounded line of jobs for tasks.
//!
//! As `segments/queue.rs`, for tasks in place of a thread: `push` never waits, who comes when the line is full is refused
//! at once, and the order is the order of the calls.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::Notify;

use crate::store::StoreError;

/// How much may stand in a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) jobs: usize,
    /// One job larger than this is still taken when the line is empty.
    pub(super) bytes: usize,
}

/// The line. Several tasks may take from it.
#[derive(Debug)]
pub(super) struct Line<J> {
    /// What stands in it, as a refusal says it.
    what: &'static str,
    bounds: Bounds,
    inner: Mutex<Inner<J>>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner<J> {
    jobs: VecDeque<(J, usize)>,
    bytes: usize,
    closed: bool,
}

impl<J> Line<J> {
    pub(super) fn new(what: &'static str, bounds: Bounds) -> Self {
        let inner = Inner { jobs: VecDeque::new(), bytes: 0, closed: false };
        Self { what, bounds, inner: Mutex::new(inner), changed: Notify::new() }
    }

    /// Puts a job at the end of the line, or gives it back with the reason.
    pub(super) fn push(&self, job: J, bytes: usize) -> Result<(), (J, StoreError)> {
        let mut inner = self.inner();
        if inner.closed {
            return Err((job, super::closed()));
        }
        let full = inner.jobs.len() >= self.bounds.jobs || inner.bytes.saturating_add(bytes) > self.bounds.bytes;
        if full && !inner.jobs.is_empty() {
            return Err((job, StoreError::Unavailable(format!("the {} queue is full", self.what))));
        }
        inner.bytes += bytes;
        inner.jobs.push_back((job, bytes));
        drop(inner);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for jobs, and takes what stands there up to the bounds, at least one; none when the line is closed and
    /// empty. Nothing is lost when the future is dropped.
    pub(super) async fn take(&self, most: Bounds) -> Vec<J> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look: what comes in between is not missed.
            changed.as_mut().enable();
            if let Some(jobs) = self.look(most) {
                return jobs;
            }
            changed.await;
        }
    }

    fn look(&self, most: Bounds) -> Option<Vec<J>> {
        let mut inner = self.inner();
        if inner.jobs.is_empty() {
            return inner.closed.then(Vec::new);
        }
        let (mut taken, mut bytes) = (Vec::new(), 0_usize);
        while let Some((_, size)) = inner.jobs.front() {
            let fits = taken.len() < most.jobs && bytes.saturating_add(*size) <= most.bytes;
            if !fits && !taken.is_empty() {
                break;
            }
            bytes += size;
            taken.extend(inner.jobs.pop_front().map(|(job, _)| job));
        }
        inner.bytes -= bytes;
        if !inner.jobs.is_empty() {
            self.changed.notify_one();
        }
        Some(taken)
    }

    /// Takes everything, at once.
    pub(super) fn drain(&self) -> Vec<J> {
        let mut inner = self.inner();
        inner.bytes = 0;
        inner.jobs.drain(..).map(|(job, _)| job).collect()
    }

    /// Nobody comes in any more; who stands in it is served.
    pub(super) fn close(&self) {
        self.inner().closed = true;
        self.changed.notify_waiters();
    }

    fn inner(&self) -> MutexGuard<'_, Inner<J>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Bounds = Bounds { jobs: 9, bytes: 900 };

    #[tokio::test]
    async fn the_order_is_that_of_the_calls_and_both_bounds_hold() {
        let line = Line::new("test", Bounds { jobs: 3, bytes: 100 });
        line.push(1, 500).expect("an empty line takes any one");
        let (back, why) = line.push(2, 0).unwrap_err();
        assert_eq!((back, why), (2, StoreError::Unavailable("the test queue is full".to_owned())));
        assert_eq!(line.take(ALL).await, [1]);
        for job in 1..=3 {
            line.push(job, 30).unwrap();
        }
        assert!(line.push(4, 0).is_err());
        assert_eq!(line.take(Bounds { jobs: 1, bytes: 900 }).await, [1]);
        assert!(line.push(4, 41).is_err());
        line.push(4, 40).unwrap();
        assert_eq!(line.take(Bounds { jobs: 9, bytes: 60 }).await, [2, 3]);
        assert_eq!(line.drain(), [4]);
    }

    #[tokio::test]
    async fn a_closed_line_is_emptied_first() {
        let line = Line::new("test", ALL);
        line.push(1, 1).unwrap();
        line.close();
        assert_eq!(line.push(2, 1).unwrap_err().0, 2);
        assert_eq!(line.take(ALL).await, [1]);
        assert_eq!(line.take(ALL).await, [0; 0]);
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_a_job_and_by_the_end() {
        let line = std::sync::Arc::new(Line::new("test", ALL));
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let line = line.clone();
                tokio::spawn(async move { line.take(Bounds { jobs: 1, bytes: 9 }).await.len() })
            })
            .collect();
        tokio::task::yield_now().await;
        line.push(1, 1).unwrap();
        line.push(2, 1).unwrap();
        line.close();
        let mut served = 0;
        for taker in takers {
            served += taker.await.unwrap();
        }
        assert_eq!(served, 2);
    }
}
