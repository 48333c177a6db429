//! `syncline-load report`: what the lines of one or several sessions say, as a page, charts and a summary.
//!
//! | module | what it is for |
//! |---|---|
//! | [`summary`] | medians, spreads, ratios within a round |
//! | [`page`] | the measured part of `docs/BENCHMARKS.md` |
//! | [`chart`] | SVG, drawn here |

mod chart;
mod page;
mod summary;

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::compare::record::Line;
use crate::compare::record::Run;
use crate::compare::record::Session;
use crate::report::summary::Summary;

/// Between these two lines the page is written by this program; everything else on it is left as it is.
const BEGIN: &str = "<!-- measured: written by `make compare` -->";
const END: &str = "<!-- end of measured -->";

/// Fewer rounds do not go on the page.
const ROUNDS_MIN: u32 = 5;

/// What `report` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Lines of `compare`. Work that is in several files counts in the last one.
    #[arg(default_value = "benches/results/compare.jsonl")]
    lines: Vec<PathBuf>,
    /// Writes the page, its charts and the summary. Without it the measured part is printed.
    #[arg(long)]
    write: bool,
    /// The page, which has the two marks that the measured part goes between.
    #[arg(long, default_value = "docs/BENCHMARKS.md")]
    page: PathBuf,
    /// Where the charts are, beside the page.
    #[arg(long, default_value = "benchmarks")]
    charts: String,
    /// The figures of the page, for programs.
    #[arg(long, default_value = "benches/results/summary.json")]
    summary: PathBuf,
}

/// Runs it.
///
/// # Errors
/// When a file cannot be read or written, or there are too few rounds for a page.
pub(crate) fn main(args: &Args) -> Result<()> {
    let mut summary = Summary::default();
    for path in &args.lines {
        let (session, runs) = read(path)?;
        ensure!(
            !args.write || session.rounds >= ROUNDS_MIN,
            "{} has {} rounds; a page takes {ROUNDS_MIN}",
            path.display(),
            session.rounds
        );
        summary.add(session, &runs);
    }
    if !args.write {
        println!("{}", page::measured(&summary, &args.charts));
        return Ok(());
    }
    let page = fs::read_to_string(&args.page).with_context(|| args.page.display().to_string())?;
    let charts = args.page.with_file_name(&args.charts);
    fs::create_dir_all(&charts)?;
    for (name, drawing) in chart::all(&summary) {
        fs::write(charts.join(name), drawing)?;
    }
    fs::write(&args.page, replaced(&page, &page::measured(&summary, &args.charts))?)?;
    Ok(fs::write(&args.summary, serde_json::to_string_pretty(&summary)? + "\n")?)
}

/// The session and the runs of one file.
fn read(path: &PathBuf) -> Result<(Session, Vec<Run>)> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines: Vec<Line> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut lines = lines.into_iter();
    let Some(Line::Session(session)) = lines.next() else {
        anyhow::bail!("{} does not begin with a session", path.display())
    };
    let runs = lines.filter_map(|line| match line {
        Line::Run(run) => Some(run),
        Line::Session(_) => None,
    });
    Ok((session, runs.collect()))
}

/// The page with another measured part.
fn replaced(page: &str, measured: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("the page has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("the page has no line {END}"))?;
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", measured.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_on_the_page_stays() {
        let page = format!("# Title\n\n{BEGIN}\nold\n{END}\n\n## Notes\n");
        let page = replaced(&page, "new\n").unwrap();
        assert_eq!(page, format!("# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\n## Notes\n"));
        assert_eq!(replaced(&page, "new").unwrap(), page);
        assert!(replaced("# Title", "new").is_err());
    }

    #[test]
    fn the_page_of_this_repository_has_the_marks() {
        let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/BENCHMARKS.md")).unwrap();
        replaced(&page, "new").unwrap();
    }
}
