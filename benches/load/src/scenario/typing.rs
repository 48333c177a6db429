//! One writer in a large document: a few words here, then a few words elsewhere.

use std::iter;

use anyhow::Result;
use anyhow::ensure;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

use crate::account::Ledger;
use crate::account::Tally;
use crate::account::rebuilt_text;
use crate::client::ClientId;
use crate::client::Event;
use crate::client::Fleet;
use crate::client::Message;
use crate::client::Say;
use crate::edit::Paper;
use crate::edit::Typist;
use crate::edit::letter;
use crate::scenario::Args;
use crate::scenario::Outcome;
use crate::scenario::Stage;
use crate::scenario::fanout::author_base;
use crate::scenario::fanout::on_update;
use crate::scenario::pace::Pace;
use crate::scenario::stage::Load;

const READERS: usize = 10;
const RATE: f64 = 200.0;
/// Characters typed before the cursor goes elsewhere.
const STAY_CHARS: std::ops::RangeInclusive<u32> = 10..=50;

const WRITER: ClientId = 0;

/// One writer types at a rate into a paper that somebody has brought, and readers follow.
///
/// # Errors
/// When something is lost.
pub(super) fn run(args: &Args, mut stage: Stage) -> Result<Outcome> {
    let (readers, rate) = (args.readers.unwrap_or(READERS), args.rate.unwrap_or(RATE));
    ensure!(readers > 0 && args.authors > 0, "somebody has to read, and somebody has written");
    let mut load = Typing::new(args, readers, rate);
    let document = stage.new_document();
    stage.open(iter::repeat_n(document, load.members() + 1), &mut load)?;
    let paper_bytes = load.bring_paper(&mut stage)?;
    let outcome = stage.measure(&mut load)?;
    stage.drain(&mut load)?;
    load.verify()?;
    let outcome = outcome.verified()?;
    let per_update = outcome.server_cpu_s * 1e6 / outcome.sent as f64;
    let outcome = outcome.with("readers", readers as f64).with("rate", rate).with("bytes", paper_bytes as f64);
    let outcome = outcome.with("authors", args.authors as f64);
    Ok(outcome.with("server_cpu_us_per_update", per_update))
}

struct Typing {
    ledger: Ledger,
    paper: Paper,
    /// Units of the paper that each member still lacks. Whoever has brought it is no member.
    lacking: Vec<u64>,
    typist: Typist,
    pace: Pace,
    /// Places nobody has typed at yet.
    places: Vec<usize>,
    /// Where the typist was: the place, and the first character typed there.
    stays: Vec<(usize, u32)>,
    stay_until: u32,
    random: fastrand::Rng,
    is_acknowledged: bool,
    update: Vec<u8>,
}

impl Typing {
    fn new(args: &Args, readers: usize, rate: f64) -> Self {
        let mut random = fastrand::Rng::with_seed(args.seed);
        let base = author_base(&mut random);
        let mut ledger = Ledger::new(base, 1, readers + 1, 1);
        ledger.sample(random.usize(1..=readers));
        let paper = Paper::new(args.bytes, args.authors, base + 1000, args.seed);
        let mut places: Vec<_> = (0..paper.places()).collect();
        random.shuffle(&mut places);
        Self {
            typist: Typist::new(ledger.author(WRITER)),
            lacking: vec![paper.units(); readers + 1],
            ledger,
            paper,
            pace: Pace::new(rate),
            places,
            stays: Vec::new(),
            stay_until: 0,
            random,
            is_acknowledged: args.target.answers_sync(),
            update: Vec::new(),
        }
    }

    fn members(&self) -> usize {
        self.lacking.len()
    }

    /// One more client sends the paper, and leaves when everybody has it.
    fn bring_paper(&mut self, stage: &mut Stage) -> Result<usize> {
        let (update, author) = (self.paper.update(), self.members());
        stage.fleet.send(author, Say::Update(&update));
        stage.drain(self)?;
        stage.fleet.hang_up(author)?;
        Ok(update.len())
    }

    fn type_one(&mut self) -> Result<()> {
        let typed = self.typist.typed();
        if typed == self.stay_until {
            let place = self.places.pop();
            let place = place.ok_or_else(|| anyhow::anyhow!("the paper is too small for so much typing"))?;
            let (left, right, _) = self.paper.place_to_type(place);
            self.typist.go_between(left, right);
            self.stays.push((place, typed));
            self.stay_until = typed + self.random.u32(STAY_CHARS);
        }
        self.typist.type_one(&mut self.update);
        Ok(())
    }

    fn verify(&self) -> Result<()> {
        let history = self.ledger.history().map(|history| history.updates());
        let text = rebuilt_text(history.into_iter().flatten(), self.paper.root())?;
        ensure!(text == self.expected(), "a reader's text of {} characters is not what was typed", text.len());
        Ok(())
    }

    fn expected(&self) -> String {
        let ends = self.stays[1..].iter().map(|(_, first)| *first).chain([self.typist.typed()]);
        let mut stays: Vec<_> =
            self.stays.iter().zip(ends).map(|((place, first), end)| (*place, *first..end)).collect();
        stays.sort_by_key(|(place, _)| *place);
        let paper = self.paper.text();
        let (mut text, mut at) = (String::with_capacity(paper.len() + self.typist.typed() as usize), 0);
        for (place, clocks) in stays {
            let (_, _, before) = self.paper.place_to_type(place);
            text.push_str(&paper[at..before]);
            text.extend(clocks.map(|clock| char::from(letter(clock))));
            at = before;
        }
        text.push_str(&paper[at..]);
        text
    }
}

impl Load for Typing {
    fn act(&mut self, fleet: &mut Fleet, tally: &mut Tally) -> Result<Option<u64>> {
        let now_ns = fleet.now_ns();
        for _ in 0..self.pace.take_due(now_ns) {
            self.type_one()?;
            self.ledger.send(WRITER, now_ns, tally);
            fleet.send(WRITER, Say::Update(&self.update));
        }
        Ok(Some(self.pace.next_ns()))
    }

    fn on_event(&mut self, now_ns: u64, id: ClientId, event: Event<'_>, tally: &mut Tally) -> Result<()> {
        let Some(lacking) = self.lacking.get_mut(id) else { return Ok(()) };
        if let Event::Message(Message::Update(update)) = event
            && *lacking > 0
        {
            let summary = validate(update, &UpdateLimits::default())?;
            let brought = summary.ranges().iter().filter(|range| self.paper.is_author(range.client));
            let brought: u64 = brought.map(|range| u64::from(range.end - range.start)).sum();
            *lacking = lacking.saturating_sub(brought);
        }
        on_update(&mut self.ledger, id, now_ns, event, tally)
    }

    fn outstanding(&self) -> u64 {
        let unacknowledged = if self.is_acknowledged { self.ledger.unacknowledged() } else { 0 };
        self.lacking.iter().sum::<u64>() + self.ledger.undelivered() + unacknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::args_of;

    #[test]
    fn what_is_expected_is_what_the_engine_makes_of_it() {
        let args = args_of(&["--scenario", "typing", "--target", "relay", "--bytes", "20000", "--authors", "9"]);
        let mut load = Typing::new(&args, 2, 100.0);
        let mut history = vec![load.paper.update()];
        for _ in 0..500 {
            load.type_one().unwrap();
            history.push(load.update.clone());
        }
        assert!(load.stays.len() > 10, "the cursor moves");
        let text = rebuilt_text(history.iter().map(Vec::as_slice), load.paper.root()).unwrap();
        assert_eq!(text, load.expected());
        assert_ne!(text, load.paper.text());
    }

    #[test]
    fn a_paper_that_is_typed_full_ends_the_run() {
        let args = args_of(&["--scenario", "typing", "--target", "relay", "--bytes", "200"]);
        let mut load = Typing::new(&args, 1, 100.0);
        assert!((0..1000).any(|_| load.type_one().is_err()));
    }
}
