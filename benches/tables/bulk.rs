//! A whole table in one request, and who waits for it.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;

use crate::Sizes;
use crate::material::COLUMNS;
use crate::material::Material;
use crate::material::column_id;
use crate::material::is_number;
use crate::patch::patch;
use crate::patch::timed;
use crate::report::Report;
use crate::report::quantile;
use crate::server::Server;

const TITLE: &str = "10 000 records of ten cells from CSV in one request";
/// Records of the tables that others edit meanwhile.
const OTHERS: usize = 100;
const EDITORS: usize = 4;

pub(crate) fn measure(report: &mut Report, sizes: &Sizes, dir: &Path) -> Result<()> {
    let server = Server::start(&dir.join("bulk"))?;
    let mut client = server.client()?;
    for editor in 0..EDITORS {
        client.make(&format!("other{editor}"), &Material::new(OTHERS))?;
    }
    let csv = csv(sizes.records);
    for round in 0..sizes.rounds {
        let table = format!("bulk{round}");
        client.json("PUT", &format!("/v1/tables/{table}"), &json!({ "fields": fields() }))?;
        let pause = || std::thread::sleep(sizes.stretch / 4);
        let (_, mut quiet) = edited_meanwhile(&server, round * 2, || {
            pause();
            Ok(0.0)
        })?;
        let (seconds, mut busy) = edited_meanwhile(&server, round * 2 + 1, || {
            let began = Instant::now();
            let answer =
                server.client()?.ask("POST", &format!("/v1/tables/{table}/import?format=csv"), csv.as_bytes())?;
            let imported: Value = serde_json::from_slice(&answer)?;
            ensure!(imported["imported"] == sizes.records, "all records were imported: {imported}");
            Ok(began.elapsed().as_secs_f64())
        })?;
        report.add(TITLE, "from the request to its answer, on disk", "s", seconds);
        for (when, samples) in [("nothing else happens", &mut quiet), ("meanwhile", &mut busy)] {
            report.add(TITLE, &format!("a patch of another table, {when}: p50"), "ms", quantile(samples, 0.5));
            report.add(TITLE, &format!("a patch of another table, {when}: p99"), "ms", quantile(samples, 0.99));
            report.add(TITLE, &format!("a patch of another table, {when}: longest"), "ms", quantile(samples, 1.0));
        }
    }
    Ok(())
}

/// Does something while four others edit a table each. Answers what it says, and the milliseconds that each of their
/// patches took.
fn edited_meanwhile(server: &Server, stretch: usize, work: impl FnOnce() -> Result<f64>) -> Result<(f64, Vec<f64>)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let editing: Vec<_> = (0..EDITORS)
            .map(|editor| {
                let stop = &stop;
                scope.spawn(move || -> Result<Vec<f64>> {
                    let (mut client, mut samples) = (server.client()?, Vec::new());
                    let table = format!("other{editor}");
                    while !stop.load(Ordering::Relaxed) {
                        let number = stretch * 1_000_003 + samples.len();
                        samples.push(timed(|| patch(&mut client, &table, OTHERS, number))? / 1000.0);
                    }
                    Ok(samples)
                })
            })
            .collect();
        let said = work();
        stop.store(true, Ordering::Relaxed);
        let mut samples = Vec::new();
        for thread in editing {
            samples.extend(thread.join().expect("it does not panic")?);
        }
        Ok((said?, samples))
    })
}

fn fields() -> Value {
    let field = |column| {
        let kind = if is_number(column) { "number" } else { "text" };
        json!({ "id": column_id(column), "name": format!("Column {column}"), "type": kind })
    };
    (0..COLUMNS).map(field).collect()
}

fn csv(records: usize) -> String {
    let mut csv = (0..COLUMNS).fold("id".to_owned(), |head, column| head + "," + &column_id(column));
    csv.push('\n');
    for row in 0..records {
        let _ = write!(csv, "p{row}");
        for column in 0..COLUMNS {
            let _ = if is_number(column) { write!(csv, ",{row}.5") } else { write!(csv, ",\"Part {row}, {column}\"") };
        }
        csv.push('\n');
    }
    csv
}
