//! A bounded line of jobs for one thread.
//!
//! `push` never waits: it may be called from async code. Who comes when the line is full is refused at once. Waiting
//! for room instead would need a second line, which needs a bound of its own; and the job's bytes are in memory in
//! either case. So there is one line, a job's future is pending while it stands in it, and its order is the order of
//! the calls.

use std::collections::VecDeque;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Why a job was not taken. It comes back to the caller.
#[derive(Debug)]
pub(crate) enum Refused {
    Full,
    Closed,
}

/// How much may stand in a line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) jobs: usize,
    /// One job larger than this is still taken when the line is empty.
    pub(crate) bytes: usize,
}

#[derive(Debug)]
struct Line<J> {
    jobs: VecDeque<(J, usize)>,
    bytes: usize,
    door: Door,
}

/// Who may still come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    /// Only our own threads, to finish what callers asked for before.
    Own,
    Closed,
}

/// The line.
#[derive(Debug)]
pub(crate) struct Queue<J> {
    line: Mutex<Line<J>>,
    arrived: Condvar,
    bounds: Bounds,
}

impl<J> Queue<J> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let line = Line { jobs: VecDeque::new(), bytes: 0, door: Door::Open };
        Self { line: Mutex::new(line), arrived: Condvar::new(), bounds }
    }

    /// Puts a job at the end of the line.
    pub(crate) fn push(&self, job: J, bytes: usize) -> Result<(), (J, Refused)> {
        let line = self.lock();
        if line.door != Door::Open {
            return Err((job, Refused::Closed));
        }
        let over = line.bytes.saturating_add(bytes) > self.bounds.bytes || line.jobs.len() >= self.bounds.jobs;
        if over && !line.jobs.is_empty() {
            return Err((job, Refused::Full));
        }
        self.enter(line, job, bytes);
        Ok(())
    }

    /// Puts a job in line that our own threads need, whatever the bounds; they wait for each such job before the next.
    pub(crate) fn push_own(&self, job: J) -> Result<(), (J, Refused)> {
        let line = self.lock();
        if line.door == Door::Closed {
            return Err((job, Refused::Closed));
        }
        self.enter(line, job, 0);
        Ok(())
    }

    fn enter(&self, mut line: MutexGuard<'_, Line<J>>, job: J, bytes: usize) {
        line.bytes += bytes;
        line.jobs.push_back((job, bytes));
        drop(line);
        self.arrived.notify_one();
    }

    /// Takes what stands in line, up to a bound but at least one. Waits for the first. Empty when closed and drained.
    pub(crate) fn take(&self, jobs_max: usize, bytes_max: usize) -> Vec<J> {
        let mut line = self.lock();
        while line.jobs.is_empty() && line.door != Door::Closed {
            line = self.arrived.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut taken, mut sum) = (Vec::new(), 0_usize);
        while let Some((_, bytes)) = line.jobs.front() {
            sum = sum.saturating_add(*bytes);
            if !taken.is_empty() && (sum > bytes_max || taken.len() >= jobs_max) {
                break;
            }
            let Some((job, bytes)) = line.jobs.pop_front() else { break };
            line.bytes = line.bytes.saturating_sub(bytes);
            taken.push(job);
        }
        taken
    }

    /// Takes everything that stands in line now, without waiting.
    pub(crate) fn drain(&self) -> Vec<J> {
        let mut line = self.lock();
        line.bytes = 0;
        line.jobs.drain(..).map(|(job, _)| job).collect()
    }

    /// Lets no more callers in, only our own threads.
    pub(crate) fn close_door(&self) {
        let mut line = self.lock();
        if line.door == Door::Open {
            line.door = Door::Own;
        }
    }

    /// Lets nobody in any more. What stands in line is still taken.
    pub(crate) fn close(&self) {
        self.lock().door = Door::Closed;
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Line<J>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_line_refuses_and_keeps_the_order() {
        let queue = Queue::new(Bounds { jobs: 3, bytes: 100 });
        assert!(queue.push(1, 500).is_ok(), "the first is taken whatever its size");
        assert!(matches!(queue.push(2, 1), Err((2, Refused::Full))));
        assert_eq!(queue.take(9, 9), vec![1]);
        for job in 3..6 {
            queue.push(job, 10).unwrap();
        }
        assert!(matches!(queue.push(6, 1), Err((6, Refused::Full))));
        queue.push_own(7).unwrap();
        queue.close_door();
        assert!(matches!(queue.push(8, 1), Err((8, Refused::Closed))));
        queue.push_own(8).unwrap();
        queue.close();
        assert!(matches!(queue.push(8, 1), Err((8, Refused::Closed))));
        assert_eq!((queue.take(2, 99), queue.take(9, 99), queue.take(9, 99)), (vec![3, 4], vec![5, 7, 8], vec![]));
    }
}
