//! One author's keystrokes.

use crate::edit::update;
use crate::edit::update::Content;
use crate::edit::update::Id;
use crate::edit::update::Parent;
use crate::edit::update::Place;
use crate::edit::update::Section;

/// The character that every typist writes as unit `clock`: what was written follows from how much was written.
pub(crate) fn letter(clock: u32) -> u8 {
    const LETTERS: &[u8; 32] = b"the quick brown fox jumps a dog ";
    // Scattered (Knuth's multiplier), so that text which is cut or shifted is not the same text.
    LETTERS[(clock.wrapping_mul(0x9e37_79b1) >> 27) as usize]
}

/// Types one character after the other: each keystroke is an update with one struct, as an editor sends it.
#[derive(Debug, Clone)]
pub(crate) struct Typist {
    client: u64,
    clock: u32,
    /// Where the next character goes.
    cursor: Cursor,
    root: String,
}

#[derive(Debug, Clone, Copy)]
enum Cursor {
    /// In an empty root.
    Start,
    /// Between two units; at the end of the root without a right one.
    Between(Id, Option<Id>),
}

impl Typist {
    /// An author who has not typed yet, in a text of its own at the root: concurrent authors at the same place would
    /// measure the engine's conflict resolution.
    pub(crate) fn new(client: u64) -> Self {
        Self { client, clock: 0, cursor: Cursor::Start, root: root_of(client) }
    }

    /// How many characters were typed; each was one update.
    pub(crate) fn typed(&self) -> u32 {
        self.clock
    }

    /// Puts the cursor between two neighbouring units that somebody wrote.
    pub(crate) fn go_between(&mut self, left: Id, right: Id) {
        self.cursor = Cursor::Between(left, Some(right));
    }

    /// Types one character: `out` is replaced by its update.
    pub(crate) fn type_one(&mut self, out: &mut Vec<u8>) {
        out.clear();
        let id = Id { client: self.client, clock: self.clock };
        let letter = [letter(self.clock)];
        let text = std::str::from_utf8(&letter).expect("letters are ASCII");
        let (place, right) = match self.cursor {
            Cursor::Start => (Place::First { parent: Parent::Root(&self.root), key: None }, None),
            Cursor::Between(left, right) => (Place::After { left, right }, right),
        };
        update::write(out, &[Section { from: id, structs: &[(place, Content::Text(text))] }], &[]);
        self.cursor = Cursor::Between(id, right);
        self.clock += 1;
    }
}

/// The root text of an author who types alone.
pub(crate) fn root_of(client: u64) -> String {
    format!("text-{client}")
}

#[cfg(test)]
mod tests {
    use syncline_protocol::update::UpdateLimits;
    use syncline_protocol::update::validate;

    use super::*;
    use crate::account::rebuilt_text;

    #[test]
    fn the_engine_reads_what_was_typed() {
        let mut typist = Typist::new(0xfedc_ba98);
        let (mut update, mut history) = (Vec::new(), Vec::new());
        for clock in 0..1000 {
            assert_eq!(typist.typed(), clock);
            typist.type_one(&mut update);
            let summary = validate(&update, &UpdateLimits::default()).unwrap();
            let [range] = summary.ranges() else { panic!("one range") };
            assert_eq!((range.client, range.start, range.end), (0xfedc_ba98, clock, clock + 1));
            history.push(update.clone());
        }
        let expected: Vec<u8> = (0..1000).map(letter).collect();
        let text = rebuilt_text(history.iter().map(Vec::as_slice), &root_of(0xfedc_ba98)).unwrap();
        assert_eq!(text.as_bytes(), expected);
    }
}
