//! Processor time and memory of a process, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context;
use anyhow::Result;

const NANOSECONDS: u64 = 1_000_000_000;

/// The processor time that a process had used at one moment.
///
/// The kernel counts a process's time in hundredths of a second (`utime + stime`), and that of each thread in nanoseconds
/// (`schedstat`). The second is used when no thread ended in between, because a thread takes its count along.
#[derive(Debug, Clone)]
pub(crate) struct Cpu {
    process_ns: u64,
    threads_ns: BTreeMap<u32, u64>,
}

impl Cpu {
    /// That of process `pid` now.
    ///
    /// # Errors
    /// When there is no such process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
        let ticks = ticks_of(&stat).context("/proc/…/stat is not what it was")?;
        let mut threads_ns = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            // A thread may be gone by now.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
            let used = text.split_ascii_whitespace().next().and_then(|used| used.parse().ok());
            let id = entry.file_name().to_str().and_then(|id| id.parse().ok());
            if let (Some(id), Some(used)) = (id, used) {
                threads_ns.insert(id, used);
            }
        }
        Ok(Self { process_ns: ticks * (NANOSECONDS / rustix::param::clock_ticks_per_second()), threads_ns })
    }

    /// Seconds used between `before` and this.
    pub(crate) fn seconds_since(&self, before: &Self) -> f64 {
        let process_ns = self.process_ns - before.process_ns;
        let all_live = before.threads_ns.keys().all(|id| self.threads_ns.contains_key(id));
        let threads_ns = || -> u64 {
            let used = |(id, now): (&u32, &u64)| now.saturating_sub(before.threads_ns.get(id).copied().unwrap_or(0));
            self.threads_ns.iter().map(used).sum()
        };
        let used_ns = if all_live { threads_ns() } else { process_ns };
        used_ns as f64 / NANOSECONDS as f64
    }
}

/// Bytes of memory that process `pid` has resident.
///
/// # Errors
/// When there is no such process.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).with_context(|| format!("process {pid}"))?;
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.context("/proc/…/statm is not what it was")? * rustix::param::page_size() as u64)
}

/// `utime + stime`. The program's name stands in brackets and may hold anything, so fields are counted from its end.
fn ticks_of(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 140 60 0 0 20 0 5 0";
        assert_eq!(ticks_of(stat), Some(200));
        assert_eq!(ticks_of("7 (a"), None);
    }

    #[test]
    fn work_is_seen() {
        let own = std::process::id();
        let before = Cpu::of(own).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        // Until the kernel has counted some of it; other threads of the test only make that sooner.
        let seen = |random: &mut fastrand::Rng| {
            std::hint::black_box((0..1_000_000).map(|_| random.u64(..)).fold(0, u64::wrapping_add));
            Cpu::of(own).unwrap().seconds_since(&before) > 0.0
        };
        assert!((0..10_000).any(|_| seen(&mut random)));
        assert!(resident_bytes(own).unwrap() > 100_000);
    }
}
