//! What a table takes in memory, in processes of their own.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use bytes::Bytes;
use syncline::document::replica::Deleted;
use syncline::document::replica::Replica;
use syncline::table::register::Register;
use syncline_protocol::state_vector::StateVector;

use crate::Sizes;
use crate::cost::Table;
use crate::material::Edit;
use crate::material::Material;
use crate::report::Report;
use crate::server::Server;
use crate::server::resident;

const TITLE: &str = "Resident memory of a table";

pub(crate) fn measure(report: &mut Report, sizes: &Sizes, dir: &Path) -> Result<()> {
    let material = Material::new(sizes.records);
    let (updates, state) = (dir.join("updates"), dir.join("state"));
    fs::write(&updates, encode(&material.table))?;
    let replica = Replica::load(Deleted::Kept, material.table.iter().map(|edit| &edit.update))?;
    fs::write(&state, replica.diff(&StateVector::default())?)?;
    for round in 0..sizes.rounds.min(3) {
        for (task, file, row) in [
            ("replica", &updates, "the engine's document alone"),
            ("table", &updates, "with the register, update by update as it was made"),
            ("state", &state, "with the register, read from one state"),
        ] {
            add(report, row, grown_by(task, file)?, material.cells());
        }
        served(report, &material, &dir.join(format!("memory{round}")))?;
    }
    Ok(())
}

fn add(report: &mut Report, row: &str, bytes: u64, cells: usize) {
    report.add(TITLE, &format!("{row}: whole"), "MB", bytes as f64 / 1e6);
    report.add(TITLE, &format!("{row}: each cell"), "bytes", bytes as f64 / cells as f64);
}

/// In a server, as it was written and as it is read again.
fn served(report: &mut Report, material: &Material, dir: &Path) -> Result<()> {
    for row in ["in a server, as it was written", "in a server, read again after a restart"] {
        let server = Server::start(dir)?;
        let mut client = server.client()?;
        client.ask("PUT", "/v1/tables/other", b"{}").map_or_else(|_| client.ask("GET", "/v1/tables/other", b""), Ok)?;
        let before = server.resident();
        if row.ends_with("written") {
            client.make("sized", material)?;
        }
        let answer = client.ask("GET", "/v1/tables/sized", b"")?;
        let table: serde_json::Value = serde_json::from_slice(&answer)?;
        ensure!(table["recordCount"] == material.records, "the whole table is there: {table}");
        add(report, row, server.resident().saturating_sub(before), material.cells());
    }
    Ok(())
}

fn grown_by(task: &str, file: &Path) -> Result<u64> {
    let run = Command::new(std::env::current_exe()?).arg("--child").arg(task).arg(file).output()?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Ok(String::from_utf8(run.stdout)?.trim().parse()?)
}

/// Prints by how many bytes this process grows. The file has the updates, or one state.
pub(crate) fn child(task: &str, file: &Path) -> Result<()> {
    let content = Bytes::from(fs::read(file)?);
    let bytes = match task {
        "replica" => {
            let edits = decode(&content)?;
            grown(|| Ok(Replica::load(Deleted::Kept, edits.iter().map(|edit| &edit.update))?))?
        }
        "table" => {
            let edits = decode(&content)?;
            grown(|| Table::new(&edits))?
        }
        "state" => grown(|| {
            let replica = Replica::load(Deleted::Kept, std::iter::once(&content))?;
            let register = Register::of_state(&replica.transact(), &content)?;
            Ok((replica, register))
        })?,
        _ => bail!("unknown task {task}"),
    };
    println!("{bytes}");
    Ok(())
}

fn grown<T>(make: impl FnOnce() -> Result<T>) -> Result<u64> {
    let before = resident(std::process::id());
    let made = black_box(make()?);
    let grown = resident(std::process::id()).saturating_sub(before);
    drop(made);
    Ok(grown)
}

/// Each update with its length before it.
fn encode(edits: &[Edit]) -> Vec<u8> {
    let mut out = Vec::new();
    for edit in edits {
        out.extend((edit.update.len() as u32).to_le_bytes());
        out.extend(&edit.update);
    }
    out
}

fn decode(mut from: &[u8]) -> Result<Vec<Edit>> {
    let mut edits = Vec::new();
    while let Some((length, rest)) = from.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let (update, rest) = rest.split_at_checked(length).context("the file is cut off")?;
        edits.push(Edit::new(update.to_vec()));
        from = rest;
    }
    Ok(edits)
}
