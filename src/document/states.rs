//! The encoded states of one document, made once and shared by everybody who asks for the same.
//!
//! A state that was made stays good: what was merged since is kept beside it, bytes that are here anyway, and goes out
//! behind it. So when a hundred people open a large document while somebody types in it, the engine encodes it once.
//!
//! ```text
//!   have nothing    [ part | part | part ] [ tail | tail ]      encoded once, then the changes since
//!   have {7: 1200}  [ part ] [ tail ]                           others that come back with the same
//!                                              ▲
//!                                 log: changes that no tail has yet
//! ```
//!
//! Changes are merged into a state's tail only when somebody asks for that state; a document that nobody opens pays a
//! short copy for each change. A tail that has grown to a quarter of its state makes the state worth another encode: it
//! is forgotten, with its tail.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::channel::ServerMessage;
use syncline_protocol::limits::PART_BYTES;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::merge;
use syncline_protocol::update::parts;
use syncline_protocol::y_websocket;

use crate::store::Loaded;

use super::memory::Weight;

/// States kept beside that for newcomers. After a restart all clients come back with one or two different ones. Full: the
/// one asked for longest ago makes room.
const DIFFS_MAX: usize = 3;
/// A larger one is not kept: few can share it, and the document is in memory already.
const DIFF_BYTES_MAX: usize = 1 << 20;
/// A tail is at most this part of its state.
const TAIL_SHARE: usize = 4;
/// A change costs some 20 bytes beside what it says. Where a log has larger ones it is nearly as good as the state that
/// the engine would make of it.
const RECORD_BYTES_MIN: usize = 64;
/// No client, no struct, no deletion.
const NOTHING: Bytes = Bytes::from_static(&[0, 0]);

/// One message of a state, and the frame that carries it to every reader of the `y-websocket` dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The message. Its bytes are a slice of the frame.
    pub message: ServerMessage,
    /// The message as it goes to a socket.
    pub frame: Bytes,
}

impl Part {
    /// One step of several.
    fn update(update: &Bytes) -> Self {
        Self::new(ServerMessage::Update, update)
    }

    /// The last step, which tells a client that it has everything.
    fn answer(update: &Bytes) -> Self {
        Self::new(ServerMessage::SyncStep2, update)
    }

    fn new(kind: impl Fn(Bytes) -> ServerMessage, update: &Bytes) -> Self {
        let frame = y_websocket::frame(&kind(update.clone()));
        let message = kind(frame.slice(frame.len() - update.len()..));
        Self { message, frame }
    }

    fn payload(&self) -> &Bytes {
        match &self.message {
            ServerMessage::SyncStep1(bytes)
            | ServerMessage::SyncStep2(bytes)
            | ServerMessage::Update(bytes)
            | ServerMessage::Awareness(bytes) => bytes,
        }
    }
}

/// What brings a reader to the whole, in order.
pub type Parts = Arc<[Part]>;

/// A state that was encoded just now, in steps that arrive one after the other.
#[derive(Debug)]
pub struct Prepared {
    have: StateVector,
    parts: Vec<Part>,
    weight: Option<Weight>,
}

impl Prepared {
    /// Cuts what a reader that has `have` lacks. Takes milliseconds for a large one.
    #[must_use]
    pub fn new(have: StateVector, update: Bytes) -> Self {
        let weight = have.is_empty().then(|| Weight::of([&update]));
        // A state that cannot be cut, which would be our own mistake, is still sent, in one piece.
        let steps = parts(&update, &have, PART_BYTES).unwrap_or_else(|_| vec![update]);
        Self { have, parts: steps.iter().map(Part::update).collect(), weight }
    }

    /// How much the whole document is, if it is all of it.
    #[must_use]
    pub fn weight(&self) -> Option<Weight> {
        self.weight
    }
}

/// The states of one document that were encoded and are still good.
#[derive(Debug, Default)]
pub struct States {
    kept: Vec<State>,
    /// What was merged, and is not in every tail yet.
    log: VecDeque<Bytes>,
    /// Changes that the log no longer has.
    forgotten: u64,
    asked: u64,
}

/// What brings one state vector to the whole.
#[derive(Debug)]
struct State {
    have: StateVector,
    /// As updates, none of which is a reader's last.
    parts: Vec<Part>,
    parts_bytes: usize,
    /// What was merged since, up to `seen`. Later runs are shorter.
    tail: Vec<Part>,
    tail_bytes: usize,
    /// Bytes of the log that are not in the tail.
    behind_bytes: usize,
    /// Changes that are in the tail, or were here before it.
    seen: u64,
    asked_at: u64,
    /// What was handed out since the last change: as steps alone, and as the answer to a step 1.
    ready: [Option<Parts>; 2],
}

impl States {
    /// The state for newcomers, of what is stored and nothing else: no engine is needed for it. Empty when the stored bytes
    /// would be much longer than what the engine makes of them.
    #[must_use]
    pub fn stored(loaded: &Loaded) -> Self {
        let mut states = Self::default();
        let newcomer = StateVector::default();
        let snapshot = loaded.snapshot.as_ref().map(|snapshot| snapshot.state.clone());
        let log: Vec<Bytes> = loaded.records.iter().map(|(_, record)| record.update.clone()).collect();
        let log_bytes: usize = log.iter().map(Bytes::len).sum();
        match snapshot {
            Some(state) if log_bytes <= state.len() / TAIL_SHARE => {
                states.keep(Prepared::new(newcomer.clone(), state), true);
                log.iter().for_each(|change| states.changed(change));
                // Whether they fit together shows now, not when somebody waits.
                states.find(&newcomer, true);
            }
            snapshot if log_bytes >= log.len() * RECORD_BYTES_MIN => {
                let all: Vec<Bytes> = snapshot.into_iter().chain(log).collect();
                if let Some(state) = merge(&all) {
                    states.keep(Prepared::new(newcomer, state), true);
                }
            }
            _ => {}
        }
        states
    }

    /// Whether [`Self::find`] has something for a newcomer.
    #[must_use]
    pub fn welcome_newcomers(&self) -> bool {
        self.kept.iter().any(|state| state.have.is_empty())
    }

    /// What brings a reader from `have` to the whole, if it is here; the last message is a step 2 if it `asked`.
    pub fn find(&mut self, have: &StateVector, asked: bool) -> Option<Parts> {
        let index = self.kept.iter().position(|state| state.have == *have)?;
        self.asked += 1;
        let state = &mut self.kept[index];
        state.asked_at = self.asked;
        if let Some(ready) = &state.ready[usize::from(asked)] {
            return Some(ready.clone());
        }
        let unseen = self.log.iter().skip((state.seen - self.forgotten) as usize);
        if !state.follow(unseen) {
            self.kept.remove(index);
            self.trim();
            return None;
        }
        let ready: Parts = state.messages(asked).into();
        state.ready[usize::from(asked)] = Some(ready.clone());
        self.trim();
        Some(ready)
    }

    /// Takes what was encoded just now. Answers it as [`Self::find`] will.
    pub fn keep(&mut self, prepared: Prepared, asked: bool) -> Parts {
        self.asked += 1;
        let mut state = State::new(prepared, self.forgotten + self.log.len() as u64, self.asked);
        self.kept.retain(|other| other.have != state.have);
        let messages: Parts = state.messages(asked).into();
        if state.have.is_empty() || state.parts_bytes <= DIFF_BYTES_MAX {
            state.ready[usize::from(asked)] = Some(messages.clone());
            self.make_room(&state.have);
            self.kept.push(state);
        }
        self.trim();
        messages
    }

    /// Something was merged.
    pub fn changed(&mut self, update: &[u8]) {
        if self.kept.is_empty() {
            return;
        }
        for state in &mut self.kept {
            state.behind_bytes += update.len();
            state.ready = [None, None];
        }
        // A single change that needs cutting is rare enough to encode again.
        let huge = update.len() > PART_BYTES;
        self.kept.retain(|state| !huge && !state.is_stale());
        // A copy, because the bytes may be a small slice of what a socket was read into.
        self.log.push_back(Bytes::copy_from_slice(update));
        self.trim();
    }

    /// Forgets everything: the next reader's state is encoded.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.trim();
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let behind = self.kept.iter().map(|state| state.behind_bytes).max().unwrap_or(0);
        self.kept.iter().map(|state| state.parts_bytes + state.tail_bytes).sum::<usize>() + behind
    }

    fn make_room(&mut self, have: &StateVector) {
        let diffs = self.kept.iter().enumerate().filter(|(_, state)| !state.have.is_empty());
        if !have.is_empty()
            && diffs.clone().count() >= DIFFS_MAX
            && let Some((oldest, _)) = diffs.min_by_key(|(_, state)| state.asked_at)
        {
            self.kept.remove(oldest);
        }
    }

    /// Forgets changes that every tail has.
    fn trim(&mut self) {
        let end = self.forgotten + self.log.len() as u64;
        let seen_by_all = self.kept.iter().map(|state| state.seen).min().unwrap_or(end);
        self.log.drain(..(seen_by_all - self.forgotten) as usize);
        self.forgotten = seen_by_all;
    }
}

impl State {
    fn new(Prepared { have, parts, .. }: Prepared, seen: u64, asked_at: u64) -> Self {
        let parts_bytes = parts.iter().map(|part| part.frame.len()).sum();
        let (tail, ready) = (Vec::new(), [None, None]);
        Self { have, parts, parts_bytes, tail, tail_bytes: 0, behind_bytes: 0, seen, asked_at, ready }
    }

    /// Whether another encode is cheaper for the readers than the tail.
    fn is_stale(&self) -> bool {
        self.tail_bytes + self.behind_bytes > self.parts_bytes / TAIL_SHARE
    }

    /// Takes changes into the tail. `false` when their bytes do not fit together.
    fn follow<'a>(&mut self, changes: impl Iterator<Item = &'a Bytes>) -> bool {
        let mut run: Vec<Bytes> = Vec::new();
        let mut run_bytes = 0;
        for change in changes {
            if run_bytes + change.len() > PART_BYTES && !self.append(&std::mem::take(&mut run)) {
                return false;
            }
            run_bytes = if run.is_empty() { change.len() } else { run_bytes + change.len() };
            run.push(change.clone());
            self.seen += 1;
        }
        let fits = run.is_empty() || self.append(&run);
        self.tail_bytes = self.tail.iter().map(|run| run.frame.len()).sum();
        self.behind_bytes = 0;
        fits
    }

    /// Joins runs as long as the one before is not twice as long, so that there are few and a change is copied a few
    /// times at most.
    fn append(&mut self, changes: &[Bytes]) -> bool {
        let Some(mut run) = merge(changes) else { return false };
        while let Some(before) = self.tail.last().map(Part::payload)
            && before.len() < 2 * run.len()
            && before.len() + run.len() <= PART_BYTES
        {
            let Some(joined) = merge(&[before.clone(), run]) else { return false };
            run = joined;
            self.tail.pop();
        }
        self.tail.push(Part::update(&run));
        true
    }

    fn messages(&self, asked: bool) -> Vec<Part> {
        let steps = self.parts.iter().chain(&self.tail);
        match (asked, self.parts.as_slice(), self.tail.split_last()) {
            (false, _, _) => steps.cloned().collect(),
            // Most documents: one message says it all.
            (true, [whole], None) => vec![Part::answer(whole.payload())],
            // The end of a large state is not copied only to be the last word.
            (true, _, None) => steps.cloned().chain([Part::answer(&NOTHING)]).collect(),
            (true, parts, Some((last, tail))) => {
                parts.iter().chain(tail).cloned().chain([Part::answer(last.payload())]).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests;
