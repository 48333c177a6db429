//! A large document as people leave it: many short runs of text by several authors, and where to type in it.

use crate::edit::typist::letter;
use crate::edit::update;
use crate::edit::update::Content;
use crate::edit::update::Id;
use crate::edit::update::Parent;
use crate::edit::update::Place;
use crate::edit::update::Section;

const ROOT: &str = "paper";
const RUN_CHARS: std::ops::RangeInclusive<u32> = 20..=60;
/// What a run takes in the encoded update besides its text.
const RUN_HEAD_BYTES: usize = 10;

/// A text of many authors who took turns, a run of some forty characters each. An author is a client id: whoever comes back
/// the next day is another one.
#[derive(Debug, Clone)]
pub(crate) struct Paper {
    author_base: u64,
    authors: usize,
    /// In the order of the text.
    runs: Vec<Run>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    from: Id,
    length: u32,
}

impl Run {
    fn last(&self) -> Id {
        Id { clock: self.from.clock + self.length - 1, ..self.from }
    }
}

impl Paper {
    /// A paper whose update takes about `bytes`, written by `authors` clients from `author_base` on.
    pub(crate) fn new(bytes: usize, authors: usize, author_base: u64, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut clocks = vec![0; authors];
        let (mut runs, mut written) = (Vec::new(), 0);
        while written < bytes {
            let author = runs.len() % authors;
            let length = random.u32(RUN_CHARS);
            runs.push(Run { from: Id { client: author_base + author as u64, clock: clocks[author] }, length });
            clocks[author] += length;
            written += length as usize + RUN_HEAD_BYTES;
        }
        Self { author_base, authors, runs }
    }

    /// Units in it: characters.
    pub(crate) fn units(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.length)).sum()
    }

    /// Whether a client wrote any of it.
    pub(crate) fn is_author(&self, client: u64) -> bool {
        client.wrapping_sub(self.author_base) < self.authors as u64
    }

    /// The root text that holds it.
    pub(crate) fn root(&self) -> &'static str {
        ROOT
    }

    /// Its text.
    pub(crate) fn text(&self) -> String {
        let chars = self.runs.iter().flat_map(|run| run.from.clock..run.from.clock + run.length);
        chars.map(|clock| char::from(letter(clock))).collect()
    }

    /// The whole of it as one update.
    pub(crate) fn update(&self) -> Vec<u8> {
        let longest: Vec<u8> =
            (0..self.runs.iter().map(|run| run.last().clock + 1).max().unwrap_or(0)).map(letter).collect();
        let longest = std::str::from_utf8(&longest).expect("letters are ASCII");
        let structs_of = |author: usize| -> Vec<_> {
            let own = (author..self.runs.len()).step_by(self.authors);
            own.map(|index| (self.place(index), Content::Text(slice(longest, &self.runs[index])))).collect()
        };
        let authors = (0..self.authors.min(self.runs.len())).rev();
        let structs: Vec<_> = authors.map(|author| (self.runs[author].from, structs_of(author))).collect();
        let sections: Vec<_> = structs.iter().map(|(from, structs)| Section { from: *from, structs }).collect();
        let mut out = Vec::new();
        update::write(&mut out, &sections, &[]);
        out
    }

    /// Number of places to type at: inside of a run, each between two neighbours that stay neighbours until somebody types
    /// there.
    pub(crate) fn places(&self) -> usize {
        self.runs.len()
    }

    /// The neighbours at a place, and how many characters of the paper's text stand before it.
    pub(crate) fn place_to_type(&self, place: usize) -> (Id, Id, usize) {
        let run = &self.runs[place];
        let inside = run.length / 2;
        let before: usize = self.runs[..place].iter().map(|run| run.length as usize).sum();
        let right = Id { clock: run.from.clock + inside, ..run.from };
        (Id { clock: right.clock - 1, ..right }, right, before + inside as usize)
    }

    fn place(&self, index: usize) -> Place<'_> {
        match index.checked_sub(1) {
            None => Place::First { parent: Parent::Root(ROOT), key: None },
            Some(before) => Place::After { left: self.runs[before].last(), right: None },
        }
    }
}

fn slice<'a>(text: &'a str, run: &Run) -> &'a str {
    let start = run.from.clock as usize;
    &text[start..start + run.length as usize]
}

#[cfg(test)]
mod tests {
    use syncline_protocol::update::UpdateLimits;
    use syncline_protocol::update::validate;

    use super::*;
    use crate::account::rebuilt_text;
    use crate::edit::Typist;

    #[test]
    fn the_engine_reads_the_paper_and_what_is_typed_into_it() {
        let paper = Paper::new(50_000, 30, 0x7000_0000, 1);
        let update = paper.update();
        validate(&update, &UpdateLimits::default()).unwrap();
        assert!((45_000..55_000).contains(&update.len()), "{} bytes", update.len());
        let mut text = paper.text();
        assert_eq!(rebuilt_text([update.as_slice()], paper.root()).unwrap(), text);

        let mut history = vec![update];
        let mut typist = Typist::new(9000);
        let (left, right, at) = paper.place_to_type(paper.places() / 2);
        typist.go_between(left, right);
        for clock in 0..50 {
            let mut update = Vec::new();
            typist.type_one(&mut update);
            history.push(update);
            text.insert(at + clock as usize, char::from(letter(clock)));
        }
        assert_eq!(rebuilt_text(history.iter().map(Vec::as_slice), paper.root()).unwrap(), text);
    }
}
