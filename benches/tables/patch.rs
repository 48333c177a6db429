//! From a request to the answer that says it is on disk: a patch of one cell, beside the least that could be done.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use crate::Sizes;
use crate::material::COLUMNS;
use crate::material::Edit;
use crate::material::Material;
use crate::material::Where;
use crate::material::column_id;
use crate::material::is_number;
use crate::material::row_id;
use crate::report::Report;
use crate::report::quantile;
use crate::server::Client;
use crate::server::Server;

const ALONE: &str = "One cell edit over HTTP, to disk, alone";
const CROWD: &str = "One cell edit over HTTP, to disk, 32 connections at once";
const CONNECTIONS: usize = 32;
/// Requests that one way does before the other has its turn.
const TURN: usize = 25;
/// Coprime to the number of cells of every table here.
const STRIDE: usize = 7_919;

pub(crate) fn measure(report: &mut Report, sizes: &Sizes, dir: &Path) -> Result<()> {
    let material = Material::new(sizes.records);
    let server = Server::start(&dir.join("patch"))?;
    let mut client = server.client()?;
    client.make("patched", &material)?;
    client.make("updated", &material)?;
    let mut bare = File::create(dir.join("bare"))?;
    let edits = material.edits(0, Where::Everywhere, sizes.requests * sizes.rounds);
    let each = (sizes.requests / CONNECTIONS).max(1);
    let crowd: Vec<Vec<Edit>> =
        (1..=CONNECTIONS).map(|editor| material.edits(editor as u64, Where::Everywhere, each * sizes.rounds)).collect();
    for (round, edits) in edits.chunks(sizes.requests).enumerate() {
        alone(report, &mut client, &mut bare, sizes, round, edits)?;
        let patches = together(|number| {
            let (mut client, first) = (server.client()?, (round * CONNECTIONS + number) * each);
            (first..first + each).map(|at| timed(|| patch(&mut client, "patched", sizes.records, at + 17))).collect()
        })?;
        note(report, CROWD, "patch of one cell", patches);
        let updates = together(|number| {
            let mut client = server.client()?;
            crowd[number][round * each..][..each].iter().map(|edit| timed(|| update(&mut client, edit))).collect()
        })?;
        note(report, CROWD, "the same edit as a Yjs update", updates);
    }
    Ok(())
}

fn alone(
    report: &mut Report,
    client: &mut Client,
    bare: &mut File,
    sizes: &Sizes,
    round: usize,
    edits: &[Edit],
) -> Result<()> {
    let [mut patches, mut updates, mut appends] = [const { Vec::new() }; 3];
    for (turn, edits) in edits.chunks(TURN).enumerate() {
        let first = round * sizes.requests + turn * TURN;
        for at in first..first + edits.len() {
            patches.push(timed(|| patch(client, "patched", sizes.records, at))?);
        }
        for edit in edits {
            updates.push(timed(|| update(client, edit))?);
        }
        for edit in edits {
            appends.push(timed(|| append(bare, edit))?);
        }
    }
    note(report, ALONE, "patch of one cell", patches);
    note(report, ALONE, "the same edit as a Yjs update", updates);
    note(report, ALONE, "its bytes appended to a file, and fdatasync", appends);
    Ok(())
}

/// Sets one cell to what it was not.
pub(crate) fn patch(client: &mut Client, table: &str, records: usize, number: usize) -> Result<()> {
    let place = number * STRIDE % (records * COLUMNS);
    let (row, column) = (place / COLUMNS, place % COLUMNS);
    let value = if is_number(column) { json!(-1.0 - number as f64) } else { json!(format!("Patched {number}")) };
    let body = json!({ "cells": { column_id(column): value } });
    client.ask("PATCH", &format!("/v1/tables/{table}/records/{}", row_id(row)), body.to_string().as_bytes()).map(drop)
}

fn update(client: &mut Client, edit: &Edit) -> Result<()> {
    client.ask("POST", "/v1/docs/table%3Aupdated/updates", &edit.update).map(drop)
}

fn append(file: &mut File, edit: &Edit) -> Result<()> {
    file.write_all(&edit.update)?;
    Ok(file.sync_data()?)
}

/// Microseconds that something takes.
pub(crate) fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    work()?;
    Ok(us(began.elapsed()))
}

fn together(work: impl Fn(usize) -> Result<Vec<f64>> + Sync) -> Result<Vec<f64>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|number| scope.spawn(move || work(number))).collect();
        let all: Result<Vec<_>> = threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect();
        Ok(all?.concat())
    })
}

fn note(report: &mut Report, title: &'static str, what: &str, mut samples: Vec<f64>) {
    report.add(title, &format!("{what}, p50"), "µs", quantile(&mut samples, 0.5));
    report.add(title, &format!("{what}, p99"), "µs", quantile(&mut samples, 0.99));
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
