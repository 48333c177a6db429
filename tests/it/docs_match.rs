//! The documentation says what the code does: settings, metrics, log events, guards and links are compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use syncline::config;
use syncline::config::Sources;
use syncline::metrics;

#[test]
fn every_setting_is_documented_with_its_default() {
    let sources = Sources { flags: vec![("--dev", "dev", "true".to_owned())], ..Sources::default() };
    let printed = config::load(&sources).expect("the defaults are fine").to_toml();
    let (mut section, mut settings) = (String::new(), Vec::new());
    for line in printed.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some(word) = line.strip_prefix("# ").and_then(|line| line.strip_suffix(" is not set")) {
            settings.push((format!("{section}{word}"), "–".to_owned()));
        } else if let Some((word, value)) = line.split_once(" = ") {
            let value = value.split(" # ").next().unwrap_or_default().trim_matches('"');
            let value = if word == "dev" { "false" } else { value };
            settings.push((format!("{section}{word}"), value.to_owned()));
        }
    }
    let documented: Vec<_> =
        rows("docs/OPERATIONS.md", "## Settings").map(|[name, default]| (name, plain(&default))).collect();
    let documented: Vec<_> = documented.into_iter().filter(|(name, _)| !name.starts_with("rooms.")).collect();
    assert_eq!(documented, settings);
}

#[test]
fn every_metric_is_documented() {
    let documented: Vec<_> = rows("docs/EVENTS.md", "## Metrics").map(|[name, _]| name).collect();
    let labelled = [metrics::CONNECTIONS, metrics::ERRORS, metrics::ROOMS, metrics::ROOM_MEMBERS];
    let own: Vec<_> = labelled.iter().chain(metrics::NAMES).map(|name| (*name).to_owned()).collect();
    assert_eq!(documented, own);
}

#[test]
fn every_log_event_is_documented() {
    let documented: BTreeSet<_> = rows("docs/EVENTS.md", "## Log events").map(|[name, _]| name).collect();
    let mut logged = BTreeSet::new();
    for file in files("src", "rs") {
        let text = read(&file);
        // Tests inside a file log what they like.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let events = code.split("event = \"").skip(1).filter_map(|after| after.split('"').next());
        logged.extend(events.map(str::to_owned));
    }
    assert_eq!(documented, logged);
}

#[test]
fn every_named_guard_is_there() {
    let mut sources = String::new();
    for (dir, extension) in [("src", "rs"), ("protocol", "rs"), ("tests", "rs"), ("tests", "mjs"), ("fuzz", "rs")] {
        files(dir, extension).iter().for_each(|file| sources.push_str(&read(file)));
    }
    let hazards = read(&root().join("docs/HAZARDS.md"));
    let hazards = hazards.split("\n## Pins\n").next().unwrap_or_default();
    let guard_cells =
        hazards.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.rsplit(" | ").next());
    let guards: Vec<_> = guard_cells.flat_map(quoted).collect();
    assert!(guards.len() > 30, "the table of hazards was not found");
    for guard in guards {
        let is_there = match guard.strip_suffix(".mjs").or_else(|| guard.strip_suffix(".rs")) {
            Some(_) => root().join(&guard).exists(),
            None => sources.contains(&format!("fn {guard}(")),
        };
        assert!(is_there, "docs/HAZARDS.md names {guard}, which is not there");
    }
}

#[test]
fn links_lead_somewhere() {
    let mut pages = files("docs", "md");
    pages.extend(["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|page| root().join(page)));
    for page in pages {
        for link in read(&page).split("](").skip(1).filter_map(|after| after.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            let elsewhere = link.contains("://") || path.is_empty();
            let near = page.parent().expect("a page is in a directory").join(path);
            assert!(elsewhere || near.exists(), "{}: {link} leads nowhere", page.display());
        }
    }
}

/// Name (the first code in the first cell) and second cell of each table row below `heading`, up to the next heading.
fn rows(page: &str, heading: &str) -> impl Iterator<Item = [String; 2]> {
    let text = read(&root().join(page));
    let after = text.split(&format!("\n{heading}\n")).nth(1).unwrap_or_default().to_owned();
    let section = after.split("\n## ").next().unwrap_or_default().to_owned();
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| `")).map(cells).collect();
    rows.into_iter()
}

fn cells(line: &str) -> [String; 2] {
    let mut cells = line.split('|').skip(1);
    let name = quoted(cells.next().unwrap_or_default()).into_iter().next().unwrap_or_default();
    [name, cells.next().unwrap_or_default().trim().to_owned()]
}

fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A default as `check-config` prints it: without code marks, sizes in bytes.
fn plain(default: &str) -> String {
    let default = default.trim_matches('`');
    let unit = |suffix: &str, factor: u64| {
        let number: u64 = default.strip_suffix(suffix)?.trim().parse().ok()?;
        Some((number * factor).to_string())
    };
    unit("KiB", 1 << 10).or_else(|| unit("MiB", 1 << 20)).or_else(|| unit("GiB", 1 << 30)).unwrap_or(default.to_owned())
}

fn files(dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&root().join(dir), extension, &mut found);
    found
}

fn collect(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the directory is there").flatten() {
        let path = entry.path();
        let skipped = path.file_name().is_some_and(|name| name == "node_modules" || name == "target");
        if path.is_dir() && !skipped {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
