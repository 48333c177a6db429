//! What is done to servers, what is read off, and how far ahead Syncline has to be.

use crate::scenario::Scenario;
use crate::target::TargetKind;

/// A piece of work: a scenario with its settings, on some servers.
#[derive(Debug)]
pub(crate) struct Work {
    /// For `--only` and for the lines.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) title: &'static str,
    /// For charts.
    pub(crate) short: &'static str,
    /// What happens, in one or two sentences.
    pub(crate) story: &'static str,
    /// What `run` is told.
    pub(crate) scenario: Scenario,
    /// What else it is told.
    pub(crate) args: &'static [&'static str],
    /// Who does it.
    pub(crate) targets: &'static [TargetKind],
    /// How long is measured.
    pub(crate) seconds: f64,
    /// How long the load runs before that.
    pub(crate) warmup: f64,
    /// What is read off; the first is what charts show.
    pub(crate) measures: &'static [Measure],
}

/// One figure of an outcome.
#[derive(Debug)]
pub(crate) struct Measure {
    /// What it is, without its unit.
    pub(crate) what: &'static str,
    /// Where it stands in the outcome.
    pub(crate) field: &'static str,
    /// How it is written.
    pub(crate) unit: Unit,
    /// What Syncline has to reach.
    pub(crate) bar: Bar,
}

/// What Syncline's figure is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    /// At most so many times the other's figure, in the same round.
    AtMostTimes(TargetKind, f64),
    /// At least so many times the other's figure, in the same round.
    AtLeastTimes(TargetKind, f64),
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Nothing: it is shown.
    None,
}

impl Bar {
    /// Whose figure it is a multiple of.
    pub(crate) fn reference(self) -> Option<TargetKind> {
        match self {
            Self::AtMostTimes(target, _) | Self::AtLeastTimes(target, _) => Some(target),
            Self::AtMost(_) | Self::AtLeast(_) | Self::None => None,
        }
    }

    /// The number to reach.
    pub(crate) fn goal(self) -> Option<f64> {
        match self {
            Self::AtMostTimes(_, goal) | Self::AtLeastTimes(_, goal) | Self::AtMost(goal) | Self::AtLeast(goal) => {
                Some(goal)
            }
            Self::None => None,
        }
    }

    /// Whether `reached` (a ratio, or a figure where there is no reference) is good enough.
    pub(crate) fn is_met(self, reached: f64) -> bool {
        match self {
            Self::AtMostTimes(_, goal) | Self::AtMost(goal) => reached <= goal,
            Self::AtLeastTimes(_, goal) | Self::AtLeast(goal) => reached >= goal,
            Self::None => true,
        }
    }

    /// By which part of the goal `reached` falls short: 0.25 is a quarter too much, or too little.
    pub(crate) fn shortfall(self, reached: f64) -> f64 {
        match self {
            _ if self.is_met(reached) => 0.0,
            Self::AtMostTimes(_, goal) | Self::AtMost(goal) => reached / goal - 1.0,
            Self::AtLeastTimes(_, goal) | Self::AtLeast(goal) => 1.0 - reached / goal,
            Self::None => 0.0,
        }
    }
}

/// How a figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Microseconds.
    Us,
    /// Microseconds, written as milliseconds.
    UsAsMs,
    /// Events a second.
    PerSecond,
    /// KiB.
    KiB,
    /// MB, of a million bytes.
    Megabytes,
    /// A number of things.
    Count,
    /// A ratio.
    Times,
}

impl Unit {
    /// The figure with its unit, to three digits.
    pub(crate) fn shown(self, figure: f64) -> String {
        let number = self.number(figure);
        match self {
            Self::Us => format!("{number} µs"),
            Self::UsAsMs => format!("{number} ms"),
            Self::PerSecond => format!("{number}/s"),
            Self::KiB => format!("{number} KiB"),
            Self::Megabytes => format!("{number} MB"),
            Self::Count => number,
            Self::Times => format!("{number} ×"),
        }
    }

    /// The figure without its unit.
    pub(crate) fn number(self, figure: f64) -> String {
        three_digits(if self == Self::UsAsMs { figure / 1000.0 } else { figure })
    }
}

/// Three digits that count, thousands as `k` and millions as `M`.
fn three_digits(figure: f64) -> String {
    let (scaled, suffix) = match figure.abs() {
        size if size >= 999_500.0 => (figure / 1e6, " M"),
        size if size >= 9_995.0 => (figure / 1e3, " k"),
        _ => (figure, ""),
    };
    let decimals = match scaled.abs() {
        size if size >= 99.95 || size == 0.0 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    format!("{scaled:.decimals$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_on_its_own_side() {
        let at_most = Bar::AtMostTimes(TargetKind::Relay, 0.5);
        assert!(at_most.is_met(0.5) && !at_most.is_met(0.51));
        assert_eq!(at_most.shortfall(0.4), 0.0);
        assert!((at_most.shortfall(0.75) - 0.5).abs() < 1e-9);
        let at_least = Bar::AtLeast(60_000.0);
        assert!(at_least.is_met(60_000.0) && !at_least.is_met(59_999.0));
        assert!((at_least.shortfall(45_000.0) - 0.25).abs() < 1e-9);
        assert!(Bar::None.is_met(f64::NAN));
    }

    #[test]
    fn figures_have_three_digits() {
        let table = [
            (0.0, "0"),
            (0.01234, "0.012"),
            (0.4567, "0.457"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.0, "1234"),
            (12_345.0, "12.3 k"),
            (999_499.0, "999 k"),
            (1_234_567.0, "1.23 M"),
        ];
        for (figure, expected) in table {
            assert_eq!(three_digits(figure), expected);
        }
    }
}
