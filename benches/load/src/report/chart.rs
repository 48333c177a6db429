//! Charts as SVG, with nothing in them but shapes and text: they read the same everywhere.

use std::fmt::Write as _;

use crate::compare::work::Bar;
use crate::compare::work::Unit;
use crate::report::summary::Figure;
use crate::report::summary::Summary;
use crate::report::summary::WorkSummary;
use crate::target::TargetKind;

const WIDTH: f64 = 880.0;
/// Where the rows' names end and the axis begins.
const LEFT: f64 = 330.0;
const RIGHT: f64 = WIDTH - 70.0;
const ROW: f64 = 34.0;
const BAR: f64 = 15.0;
const TOP: f64 = 78.0;

const RATIOS: &str = "ratios.svg";
const RATES: &str = "rates.svg";

/// The servers in the order of the legend.
const SERVERS: [TargetKind; 4] =
    [TargetKind::Syncline, TargetKind::Relay, TargetKind::Hocuspocus, TargetKind::YWebsocketServer];

/// What a chart shows, for its heading and for those who cannot see it.
pub(crate) fn title(name: &str) -> &'static str {
    match name {
        RATIOS => {
            "What the same work costs each server, as a multiple of the server named at the left (log scale, less is better)"
        }
        _ => "How much each server does in a second, on one processor (more is better)",
    }
}

/// Every chart there is something to draw for: its file name and the drawing.
pub(crate) fn all(summary: &Summary) -> Vec<(&'static str, String)> {
    let mut charts = Vec::new();
    let rows: Vec<_> = summary.works.iter().filter_map(Row::of).collect();
    if !rows.is_empty() {
        charts.push((RATIOS, ratios(&rows)));
    }
    let groups: Vec<_> = summary.works.iter().flat_map(groups_of).collect();
    if !groups.is_empty() {
        charts.push((RATES, rates(&groups)));
    }
    charts
}

/// One line of dots.
struct Row {
    label: String,
    points: Vec<(TargetKind, f64)>,
    goal: f64,
}

impl Row {
    /// The first figure of a work, where its bar is a multiple of another server's cost.
    fn of(work: &WorkSummary) -> Option<Self> {
        let figure = work.figures.first()?;
        let Bar::AtMostTimes(reference, goal) = figure.measure.bar else { return None };
        let base = figure.median(reference).filter(|base| *base > 0.0)?;
        let ratio = |target: TargetKind| Some((target, figure.median(target).filter(|own| *own > 0.0)? / base));
        let label = format!("{} (1 × = {})", work.work.short, reference.name());
        Some(Self { label, points: SERVERS.into_iter().filter_map(ratio).collect(), goal })
    }
}

fn ratios(rows: &[Row]) -> String {
    let all = rows.iter().flat_map(|row| row.points.iter().map(|(_, ratio)| *ratio).chain([row.goal]));
    let (low, high) = all.fold((1.0_f64, 1.0_f64), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let span = f64::from((last - first).max(1));
    let x = |ratio: f64| LEFT + (ratio.log10() - f64::from(first)) / span * (RIGHT - LEFT);
    let height = TOP + rows.len() as f64 * ROW + 20.0;
    let mut svg = opened(title(RATIOS), height);
    for power in first..=last {
        let at = x(10_f64.powi(power));
        let label = if power >= 0 {
            format!("{} ×", 10_i64.pow(power.unsigned_abs()))
        } else {
            format!("{} ×", 10_f64.powi(power))
        };
        line(&mut svg, (at, TOP - 12.0), (at, height - 14.0), if power == 0 { "#868e96" } else { "#dee2e6" });
        text(&mut svg, (at, TOP - 18.0), "middle", &label);
    }
    for (index, row) in rows.iter().enumerate() {
        let y = TOP + (index as f64 + 0.5) * ROW;
        text(&mut svg, (LEFT - 14.0, y + 4.0), "end", &row.label);
        line(&mut svg, (LEFT, y), (RIGHT, y), "#f1f3f5");
        let goal = x(row.goal);
        let _ = writeln!(svg, r##"<path d="M{goal:.1} {:.1}v22" stroke="#e03131" stroke-width="2"/>"##, y - 11.0);
        row.points.iter().rev().for_each(|(target, ratio)| dot(&mut svg, *target, (x(*ratio), y)));
    }
    legend(&mut svg, Some("bar"));
    svg + "</svg>\n"
}

/// One group of bars, each as long as its part of the longest.
struct Group {
    label: String,
    unit: Unit,
    bars: Vec<(TargetKind, f64)>,
    goal: Option<f64>,
}

/// A work's figures that are so many a second.
fn groups_of(work: &WorkSummary) -> Vec<Group> {
    let is_rate = |figure: &&Figure| figure.measure.unit == Unit::PerSecond;
    let group = |figure: &Figure| {
        let bars: Vec<_> = SERVERS.into_iter().filter_map(|target| Some((target, figure.median(target)?))).collect();
        let goal = match figure.measure.bar {
            Bar::AtLeast(goal) => Some(goal),
            Bar::AtLeastTimes(reference, goal) => figure.median(reference).map(|base| base * goal),
            _ => None,
        };
        let label = format!("{}, {}", work.work.title, figure.what);
        Group { label, unit: figure.measure.unit, bars, goal }
    };
    work.figures.iter().filter(is_rate).map(group).filter(|group| !group.bars.is_empty()).collect()
}

fn rates(groups: &[Group]) -> String {
    let bars: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = TOP + bars as f64 * BAR + groups.len() as f64 * 30.0 + 6.0;
    let mut svg = opened(title(RATES), height);
    let (left, mut y) = (40.0, TOP);
    for group in groups {
        text(&mut svg, (left, y), "start", &group.label);
        y += 8.0;
        let longest = group.bars.iter().map(|(_, rate)| *rate).chain(group.goal).fold(0.0, f64::max);
        let length = |rate: f64| rate / longest * (RIGHT - left - 40.0);
        let top = y;
        for (target, rate) in &group.bars {
            let (width, height) = (length(*rate).max(1.0), BAR - 3.0);
            let color = color(*target);
            let _ =
                writeln!(svg, r#"<rect x="{left}" y="{y:.1}" width="{width:.1}" height="{height}" fill="{color}"/>"#);
            text(&mut svg, (left + width + 6.0, y + 10.5), "start", &group.unit.shown(*rate));
            y += BAR;
        }
        if let Some(goal) = group.goal {
            let at = left + length(goal);
            let _ =
                writeln!(svg, r##"<path d="M{at:.1} {top:.1}V{:.1}" stroke="#e03131" stroke-width="2"/>"##, y - 3.0);
        }
        y += 22.0;
    }
    legend(&mut svg, Some("bar"));
    svg + "</svg>\n"
}

fn opened(title: &str, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#343a40\" role=\"img\">\n\
         <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, (16.0, 24.0), "start", title);
    svg
}

fn legend(svg: &mut String, goal: Option<&str>) {
    let mut x = 16.0;
    for target in SERVERS {
        dot(svg, target, (x + 6.0, 41.0));
        text(svg, (x + 17.0, 45.0), "start", target.name());
        x += 40.0 + target.name().len() as f64 * 6.6;
    }
    if let Some(goal) = goal {
        let _ = writeln!(svg, r##"<path d="M{x:.1} 34v14" stroke="#e03131" stroke-width="2"/>"##);
        text(svg, (x + 8.0, 45.0), "start", goal);
    }
}

/// Each server has a shape besides its colour.
fn dot(svg: &mut String, target: TargetKind, (x, y): (f64, f64)) {
    let color = color(target);
    let shape = match target {
        TargetKind::Syncline => format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="6.5""#),
        TargetKind::Relay => format!(r#"<rect x="{:.1}" y="{:.1}" width="10" height="10""#, x - 5.0, y - 5.0),
        TargetKind::Hocuspocus => format!(r#"<path d="M{x:.1} {:.1}l6 11h-12z""#, y - 6.0),
        TargetKind::YWebsocketServer => format!(r#"<path d="M{x:.1} {:.1}l6 6-6 6-6-6z""#, y - 6.0),
    };
    let _ = writeln!(svg, r#"{shape} fill="{color}"/>"#);
}

fn color(target: TargetKind) -> &'static str {
    match target {
        TargetKind::Syncline => "#e8590c",
        TargetKind::Relay => "#868e96",
        TargetKind::Hocuspocus => "#1971c2",
        TargetKind::YWebsocketServer => "#2f9e44",
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), color: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(svg, r#"<path d="M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}" stroke="{color}"/>"#);
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#);
}
