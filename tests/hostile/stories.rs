//! Genuine updates, as Yjs wrote them in its own order, and what an attacker makes of them.

use std::sync::LazyLock;

use bytes::Bytes;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

const CORPORA: [&str; 2] = [
    include_str!("../../protocol/vectors/updates/yjs13.jsonl"),
    include_str!("../../protocol/vectors/updates/yjs14.jsonl"),
];

/// The updates of one history, in an order in which they happened.
pub(crate) struct Story {
    pub(crate) updates: Vec<Bytes>,
}

/// All histories that the real Yjs wrote for us.
pub(crate) static STORIES: LazyLock<Vec<Story>> = LazyLock::new(|| {
    let mut stories: Vec<(String, Story)> = Vec::new();
    for line in CORPORA.into_iter().flat_map(str::lines) {
        let (name, update) = (field(line, "name"), unhex(field(line, "update")));
        let title = title_of(name);
        match stories.last_mut().filter(|(last, _)| *last == title) {
            Some((_, story)) => story.updates.push(update),
            None => stories.push((title, Story { updates: vec![update] })),
        }
    }
    stories.into_iter().map(|(_, story)| story).collect()
});

/// "typing 3" and "typing whole" belong together, and so does everything of "history 2".
fn title_of(name: &str) -> String {
    let words: Vec<&str> = name.split(' ').collect();
    let kept = if words[0] == "history" || words[0] == "version" { 2 } else { words.len().saturating_sub(1).max(1) };
    words[..kept].join(" ")
}

/// The generator writes neither spaces nor escapes in these fields.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let start = line.find(&format!("\"{name}\":\"")).expect("the generator writes it") + name.len() + 4;
    line[start..].split('"').next().expect("a closing quote")
}

pub(crate) fn unhex(hex: &str) -> Bytes {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits")).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Chance with a seed (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// One update of a sequence.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) update: Bytes,
    /// Whether it was tampered with.
    pub(crate) mutated: bool,
}

/// A document's hostile life: some genuine history, then up to eight mutated updates with genuine ones in between.
pub(crate) fn sequence(seed: u64) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let story = dice.pick(&STORIES);
    let known = dice.below(story.updates.len().min(24) + 1);
    let genuine = |update: &Bytes| Step { update: update.clone(), mutated: false };
    let mut steps: Vec<Step> = story.updates[..known].iter().map(genuine).collect();
    for turn in 0..1 + dice.below(8) {
        // Near what is already there: that passes the causal gate more often than anything else.
        let near = (known + turn).saturating_sub(dice.below(6)).min(story.updates.len() - 1);
        let source = if dice.below(4) == 0 { dice.below(story.updates.len()) } else { near };
        let other = dice.pick(&STORIES);
        let donor = dice.pick(&other.updates);
        steps.push(Step { update: mutated(&mut dice, &story.updates[source], donor), mutated: true });
        if dice.below(3) == 0 {
            steps.push(genuine(&story.updates[near]));
        }
    }
    steps
}

/// Half of the attackers know the validator, and try until something passes it.
fn mutated(dice: &mut Dice, update: &[u8], donor: &[u8]) -> Bytes {
    let tries = if dice.below(2) == 0 { 1 } else { 24 };
    let mut bytes = Vec::new();
    for _ in 0..tries {
        bytes = update.to_vec();
        for _ in 0..1 + dice.below(4) {
            mutate(dice, &mut bytes, donor);
        }
        if bytes != update && validate(&bytes, &UpdateLimits::default()).is_ok() {
            break;
        }
    }
    bytes.into()
}

/// Bytes that mean something in the format: counts, infos, type references, ends of numbers.
const TELLING: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 0x27, 0x28, 0x7f, 0x80, 0x84, 0xc4, 0xff];

fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>, donor: &[u8]) {
    if bytes.is_empty() {
        return bytes.push(0);
    }
    let at = dice.below(bytes.len());
    match dice.below(16) {
        0..=3 => bytes[at] = dice.below(12) as u8,
        4..=5 => bytes[at] = *dice.pick(&TELLING),
        6..=8 => bytes[at] = bytes[at].wrapping_add(if dice.below(2) == 0 { 1 } else { 255 }),
        9..=10 => bytes[at] ^= 1 << dice.below(8),
        11 => bytes[at] = bytes[dice.below(bytes.len())],
        12 => drop(bytes.remove(at)),
        13 => bytes.insert(at, *dice.pick(&TELLING)),
        14 => {
            let end = bytes.len().min(at + 1 + dice.below(12));
            let to = dice.below(bytes.len() + 1);
            let copy = bytes[at..end].to_vec();
            bytes.splice(to..to, copy);
        }
        _ => {
            let from = dice.below(donor.len());
            let end = donor.len().min(from + 1 + dice.below(12));
            let replaced = bytes.len().min(at + end - from);
            bytes.splice(at..replaced, donor[from..end].iter().copied());
        }
    }
}
