//! The same laws over several nodes that hold the same documents: one store for all of them, or one for each, and a bus
//! between them, everything of which may be slow, lost, cut off or away.
//!
//! ```text
//!   clients ── links ──▶ node (one Server) ──▶ calls ──▶ store, shared or its own
//!      any node             ▲      │
//!                           └─ bus ◀┘   per topic and sender in order; numbered, delayed, lossy
//! ```
//!
//! Beyond the laws of one server: what a client was told is saved is in the shared store, whichever node dies and whenever;
//! at rest all clients, all nodes and a fresh load are equal, everybody sees everybody at whichever node, and nobody of a
//! node that died is seen.
//!
//! `SYNCLINE_SIM_SEEDS` says how many; `SYNCLINE_SIM_CLUSTER_SEED` replays one and tells its story.

mod bus;
mod fleet;
mod nodes;
mod rest;
mod ring;
mod steps;
mod stories;
mod tables;

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use crate::fault::Fault;
use crate::number;
use crate::server::Stop;

use fleet::Fleet;

/// Runs one history. The broken law, if one is.
fn history(seed: u64, fault: Fault, trace: bool) -> Option<String> {
    let run = || match Fleet::new(seed, fault, trace).run() {
        Ok(()) => None,
        Err(Stop::Broken(law)) => Some(law),
        Err(Stop::Crash) => Some("a crash outside of the history".into()),
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Some("a panic".into()))
}

#[test]
fn every_history_of_several_nodes_keeps_the_laws() {
    if let Some(seed) = number("SYNCLINE_SIM_CLUSTER_SEED") {
        assert_eq!(history(seed, Fault::None, true), None);
        return;
    }
    if let Some((seed, law)) = crate::first_broken(|seed| history(seed, Fault::None, false)) {
        panic!(
            "{law}\nreplay with SYNCLINE_SIM_CLUSTER_SEED={seed} cargo test --test sim several_nodes -- --nocapture"
        );
    }
}

/// Each deliberate mistake is noticed within so many histories.
const FAULT_SEEDS: u64 = 500;

/// The history in which a mistake of the shell is noticed.
fn caught_after(fault: Fault) -> Option<u64> {
    let (seed, law) = (0..FAULT_SEEDS).find_map(|seed| history(seed, fault, false).map(|law| (seed, law)))?;
    println!("{fault:?}: seed {seed}: {law}");
    Some(seed)
}

#[test]
fn telling_other_nodes_before_it_is_durable_is_caught() {
    assert!(caught_after(Fault::PublishBeforeDurable).is_some());
}

#[test]
fn never_looking_for_what_was_missed_is_caught() {
    assert!(caught_after(Fault::NeverPull).is_some());
}

#[test]
fn comparing_without_what_is_deleted_is_caught() {
    assert!(caught_after(Fault::DigestWithoutDeletions).is_some());
}

#[test]
fn clients_of_a_lost_node_that_stay_are_caught() {
    assert!(caught_after(Fault::LostStay).is_some());
}
