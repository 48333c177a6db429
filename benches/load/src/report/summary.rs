//! Medians and spreads of each figure, and what Syncline reached against its bars.

use serde::Serialize;

use crate::compare::record::Run;
use crate::compare::record::Session;
use crate::compare::work::Bar;
use crate::compare::work::Measure;
use crate::compare::work::Work;
use crate::compare::works::WORKS;
use crate::target::TargetKind;

/// What one or several sessions found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Where and with what, in the order of the files.
    pub(crate) sessions: Vec<Session>,
    /// What was measured, in the order of the list of works.
    pub(crate) works: Vec<WorkSummary>,
}

/// One piece of work.
#[derive(Debug, Serialize)]
pub(crate) struct WorkSummary {
    /// Its name.
    pub(crate) name: String,
    #[serde(skip)]
    pub(crate) work: &'static Work,
    /// Rounds in which Syncline did it.
    pub(crate) rounds: usize,
    /// Its figures, in the order of the work's.
    pub(crate) figures: Vec<Figure>,
    /// Who failed at it how often, and the first reason given.
    pub(crate) failures: Vec<Failure>,
}

/// A server that did not do the work.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    /// Which.
    pub(crate) target: TargetKind,
    /// How often.
    pub(crate) rounds: usize,
    /// What was said the first time.
    pub(crate) error: String,
}

/// One measure over all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    #[serde(skip)]
    pub(crate) measure: &'static Measure,
    /// What it is.
    pub(crate) what: &'static str,
    /// Where it stood in the outcome.
    pub(crate) field: &'static str,
    /// Each server's.
    pub(crate) servers: Vec<(TargetKind, Spread)>,
    /// What is held against the bar: the ratio within each round, or Syncline's figure.
    pub(crate) reached: Option<Spread>,
}

/// A median and how far the rounds lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The middle one; between the two middle ones of an even number.
    pub(crate) median: f64,
    /// The lowest.
    pub(crate) min: f64,
    /// The highest.
    pub(crate) max: f64,
}

impl Spread {
    /// That of some figures; `None` of none.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<_> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let median = (figures[(figures.len() - 1) / 2] + figures[figures.len() / 2]) / 2.0;
        Some(Self { median, min, max })
    }
}

impl Summary {
    /// Adds a session. Work that was there before is replaced.
    pub(crate) fn add(&mut self, session: Session, runs: &[Run]) {
        if !self.sessions.contains(&session) {
            self.sessions.push(session);
        }
        for work in WORKS {
            let runs: Vec<_> = runs.iter().filter(|run| run.work == work.name).collect();
            if runs.is_empty() {
                continue;
            }
            self.works.retain(|known| known.name != work.name);
            self.works.push(WorkSummary::of(work, &runs));
        }
        let place = |name: &str| WORKS.iter().position(|work| work.name == name);
        self.works.sort_by_key(|work| place(&work.name));
    }
}

impl WorkSummary {
    fn of(work: &'static Work, runs: &[&Run]) -> Self {
        let done = runs.iter().filter(|run| run.target == TargetKind::Syncline && run.error.is_none());
        Self {
            name: work.name.to_owned(),
            work,
            rounds: done.count(),
            figures: work.measures.iter().map(|measure| Figure::of(measure, work.targets, runs)).collect(),
            failures: work.targets.iter().filter_map(|target| Failure::of(*target, runs)).collect(),
        }
    }
}

impl Failure {
    fn of(target: TargetKind, runs: &[&Run]) -> Option<Self> {
        let errors: Vec<_> =
            runs.iter().filter(|run| run.target == target).filter_map(|run| run.error.as_ref()).collect();
        let error = (*errors.first()?).clone();
        Some(Self { target, rounds: errors.len(), error })
    }
}

impl Figure {
    fn of(measure: &'static Measure, targets: &[TargetKind], runs: &[&Run]) -> Self {
        let of = |target: TargetKind| runs.iter().filter(move |run| run.target == target);
        let servers = targets
            .iter()
            .filter_map(|target| Some((*target, Spread::of(of(*target).filter_map(|run| run.figure(measure.field)))?)));
        let own = of(TargetKind::Syncline).filter_map(|run| Some((run.round, run.figure(measure.field)?)));
        let reached = match measure.bar.reference() {
            Some(reference) => Spread::of(own.filter_map(|(round, own)| {
                let other = of(reference).find(|run| run.round == round)?.figure(measure.field)?;
                (other != 0.0).then_some(own / other)
            })),
            None if measure.bar == Bar::None => None,
            None => Spread::of(own.map(|(_, own)| own)),
        };
        Self { measure, what: measure.what, field: measure.field, servers: servers.collect(), reached }
    }

    /// Median of a server's.
    pub(crate) fn median(&self, target: TargetKind) -> Option<f64> {
        let (_, spread) = self.servers.iter().find(|(server, _)| *server == target)?;
        Some(spread.median)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(work: &str, round: u32, target: TargetKind, cpu: f64) -> Run {
        let serde_json::Value::Object(outcome) = json!({"server_cpu_us_per_delivered": cpu}) else { unreachable!() };
        Run { work: work.to_owned(), round, target, outcome, error: None }
    }

    fn session(seed: u64) -> Session {
        Session { seed, rounds: 3, facts: Vec::new() }
    }

    #[test]
    fn a_median_is_the_middle_one() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine became ten times slower after the first round; what counts is that both servers saw it.
        let name = "fanout-100";
        let runs = [
            run(name, 1, TargetKind::Relay, 1.0),
            run(name, 1, TargetKind::Syncline, 0.5),
            run(name, 2, TargetKind::Syncline, 4.0),
            run(name, 2, TargetKind::Relay, 10.0),
            run(name, 3, TargetKind::Relay, 10.0),
            run(name, 3, TargetKind::Syncline, 6.0),
        ];
        let mut summary = Summary::default();
        summary.add(session(1), &runs);
        let figure = &summary.works[0].figures[0];
        assert_eq!(figure.reached, Some(Spread { median: 0.5, min: 0.4, max: 0.6 }));
        assert_eq!(figure.median(TargetKind::Relay), Some(10.0));
        assert_eq!(figure.median(TargetKind::Hocuspocus), None);
    }

    #[test]
    fn a_round_in_which_one_failed_gives_no_ratio() {
        let failed = Run {
            outcome: serde_json::Map::new(),
            error: Some("lost".to_owned()),
            ..run("fanout-10", 2, TargetKind::Relay, 0.0)
        };
        let runs = [
            run("fanout-10", 1, TargetKind::Relay, 2.0),
            run("fanout-10", 1, TargetKind::Syncline, 1.0),
            failed,
            run("fanout-10", 2, TargetKind::Syncline, 9.0),
        ];
        let mut summary = Summary::default();
        summary.add(session(1), &runs);
        let work = &summary.works[0];
        assert_eq!(work.figures[0].reached, Some(Spread { median: 0.5, min: 0.5, max: 0.5 }));
        assert_eq!((work.failures[0].target, work.failures[0].rounds), (TargetKind::Relay, 1));
    }

    #[test]
    fn a_later_session_replaces_work_and_keeps_the_order() {
        let mut summary = Summary::default();
        let both = |cpu| ["fanout-100", "fanout-10"].map(|name| run(name, 1, TargetKind::Syncline, cpu));
        summary.add(session(1), &both(1.0));
        summary.add(session(2), &both(7.0)[..1]);
        let medians: Vec<_> = summary.works.iter().map(|work| work.figures[0].median(TargetKind::Syncline)).collect();
        assert_eq!(medians, [Some(1.0), Some(7.0)]);
        assert_eq!(summary.sessions.len(), 2);
    }
}
