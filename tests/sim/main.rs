//! The seeded simulator: real clients' frames through the real `Session`, `Core`, `Outbox` and compaction, over a store that
//! is slow, fails and crashes. A seed is a history; the same seed is the same history.
//!
//! ```text
//!   client (yrs; y-websocket or Hocuspocus) ── link ──▶ Session ──▶ inbox ──▶ Core ──▶ effects ──▶ disk
//!        ▲                                                                      │
//!        └────────────────── link ◀── Outbox ◀──────────────────────────────────┘
//! ```
//!
//! Laws, all the time: saved means saved, across every crash, whether an echo says so or a provider's count of unsaved
//! changes that comes to zero; that count is never below zero; no queue is over its bound; nothing is sent before what it
//! builds on, twice, or to whom it is not for. At rest: all replicas and a fresh load are equal, every update was
//! acknowledged or, where its writer may only read, refused, and reached nobody; everybody sees who is there, and the rooms
//! know it too.
//!
//! `SYNCLINE_SIM_SEEDS` says how many, `SYNCLINE_SIM_FROM` where to begin; `SYNCLINE_SIM_SEED` replays one and tells its story.

mod calls;
mod chance;
mod client;
mod cluster;
mod connection;
mod counting;
mod counting_stories;
mod edits;
mod fault;
mod ledger;
mod mail;
mod members;
mod peering;
mod phases;
mod presence;
mod promises;
mod provider;
mod rest;
mod rights;
mod server;
mod store;
mod stories;
mod wire;
mod world;

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use fault::Fault;
use server::Stop;
use world::World;

/// Runs one history. The broken law, if one is.
fn history(seed: u64, fault: Fault, trace: bool) -> Option<String> {
    let run = || match World::new(seed, fault, trace).run() {
        Ok(()) => None,
        Err(Stop::Broken(law)) => Some(law),
        Err(Stop::Crash) => Some("a crash outside of the history".into()),
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Some("a panic".into()))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The first history that breaks a law, of as many as are wanted.
fn first_broken(broken_by: impl Fn(u64) -> Option<String> + Sync) -> Option<(u64, String)> {
    let seeds = number("SYNCLINE_SIM_SEEDS").unwrap_or(2_000);
    let (next, failed) = (AtomicU64::new(number("SYNCLINE_SIM_FROM").unwrap_or(0)), AtomicBool::new(false));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return None;
            }
            if let Some(law) = broken_by(seed) {
                failed.store(true, Ordering::Relaxed);
                return Some((seed, law));
            }
        }
        None
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().expect("histories are caught")).min()
    })
}

#[test]
fn every_history_keeps_the_laws() {
    if let Some(seed) = number("SYNCLINE_SIM_SEED") {
        assert_eq!(history(seed, Fault::None, true), None);
        return;
    }
    if let Some((seed, law)) = first_broken(|seed| history(seed, Fault::None, false)) {
        panic!("{law}\nreplay with SYNCLINE_SIM_SEED={seed} cargo test --test sim every_history -- --nocapture");
    }
}

/// Each deliberate mistake is noticed within so many histories.
const FAULT_SEEDS: u64 = 500;

/// Seeds until a mistake of the shell is noticed.
fn caught_after(fault: Fault) -> Option<u64> {
    let found = (0..FAULT_SEEDS).find_map(|seed| history(seed, fault, false).map(|law| (seed, law)))?;
    println!("{fault:?}: seed {}: {}", found.0, found.1);
    Some(found.0)
}

#[test]
fn an_acknowledgement_before_durability_is_caught() {
    assert!(caught_after(Fault::AckBeforeDurable).is_some());
}

#[test]
fn dropping_what_does_not_fit_is_caught() {
    assert!(caught_after(Fault::DropOnFullQueue).is_some());
}

#[test]
fn two_actors_for_one_document_are_caught() {
    assert!(caught_after(Fault::TwoActors).is_some());
}

#[test]
fn a_copy_of_a_deleted_document_that_is_not_known_is_caught() {
    assert!(caught_after(Fault::MemoLost).is_some());
}

#[test]
fn counting_later_changes_as_saved_is_caught() {
    assert!(caught_after(Fault::ClearDirtyAfterAwait).is_some());
}

#[test]
fn a_status_before_durability_is_caught() {
    assert!(caught_after(Fault::StatusOnReceipt).is_some());
}

#[test]
fn a_status_that_found_no_room_and_was_forgotten_is_caught() {
    assert!(caught_after(Fault::StatusLost).is_some());
}

#[test]
fn a_status_too_many_is_caught() {
    assert!(caught_after(Fault::StatusTwice).is_some());
}

#[test]
fn a_state_that_the_room_does_not_hear_of_is_caught() {
    assert!(caught_after(Fault::StateUntold).is_some());
}

#[test]
fn calling_a_refused_change_saved_is_caught() {
    assert!(caught_after(Fault::StatusForRefused).is_some());
}
