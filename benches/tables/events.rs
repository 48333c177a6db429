//! Events of patches made as fast as they can be: with ten who listen, and with nobody.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;

use crate::Sizes;
use crate::material::Material;
use crate::patch::patch;
use crate::report::Report;
use crate::server::Listening;
use crate::server::Server;

const TITLE: &str = "Events of one table, eight writers at full speed";
const LISTENERS: usize = 10;
const WRITERS: usize = 8;
/// Said when the last patch is answered; who hears it has heard all before it.
const LAST: &str = "bench:last";

/// What came of one stretch of writing.
struct Stretch {
    patches: usize,
    wall: Duration,
    processor: Duration,
    delivered: usize,
    /// How often a listener was told that it had missed something.
    missed: usize,
}

pub(crate) fn measure(report: &mut Report, sizes: &Sizes, dir: &Path) -> Result<()> {
    let material = Material::new(sizes.records);
    let server = Server::start(&dir.join("events"))?;
    server.client()?.make("told", &material)?;
    for round in 0..sizes.rounds {
        // Each goes first in every other round.
        for listeners in if round % 2 == 0 { [0, LISTENERS] } else { [LISTENERS, 0] } {
            let stretch = write(&server, sizes, round, listeners)?;
            note(report, &stretch, listeners);
        }
    }
    Ok(())
}

fn write(server: &Server, sizes: &Sizes, round: usize, listeners: usize) -> Result<Stretch> {
    let open: Result<Vec<_>> = (0..listeners).map(|_| server.client()?.listen("table%3Atold")).collect();
    let (open, stop) = (open?, AtomicBool::new(false));
    let (began, processor) = (Instant::now(), server.processor());
    std::thread::scope(|scope| {
        let hearing: Vec<_> = open.into_iter().map(|listening| scope.spawn(move || hear(listening))).collect();
        let writing: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let stop = &stop;
                scope.spawn(move || -> Result<usize> {
                    let mut client = server.client()?;
                    let first = (round * 2 + usize::from(listeners > 0)) * 1_000_003;
                    let mut numbers = (first + writer..).step_by(WRITERS);
                    let mut patches = 0;
                    while !stop.load(Ordering::Relaxed) {
                        patch(&mut client, "told", sizes.records, numbers.next().unwrap_or_default())?;
                        patches += 1;
                    }
                    Ok(patches)
                })
            })
            .collect();
        std::thread::sleep(sizes.stretch);
        stop.store(true, Ordering::Relaxed);
        let mut patches = 0;
        for thread in writing {
            patches += thread.join().expect("it does not panic")?;
        }
        let event = format!("{{\"event\":\"{LAST}\"}}");
        server.client()?.ask("POST", "/v1/rooms/table%3Atold/events", event.as_bytes())?;
        let (mut delivered, mut missed) = (0, 0);
        for thread in hearing {
            let heard = thread.join().expect("it does not panic")?;
            delivered += heard.0;
            missed += heard.1;
        }
        let (wall, processor) = (began.elapsed(), server.processor() - processor);
        Ok(Stretch { patches, wall, processor, delivered, missed })
    })
}

/// How many events came, and how often some did not.
fn hear(mut listening: Listening) -> Result<(usize, usize)> {
    let (mut events, mut missed) = (0, 0);
    loop {
        match listening.next()? {
            LAST => return Ok((events, missed)),
            "ready" => missed += 1,
            _ => events += 1,
        }
    }
}

fn note(report: &mut Report, stretch: &Stretch, listeners: usize) {
    let who = if listeners == 0 { "nobody listens" } else { "ten listen" };
    let seconds = stretch.wall.as_secs_f64();
    let patches = stretch.patches as f64;
    report.add(TITLE, &format!("{who}: patches"), "/s", patches / seconds);
    report.add(
        TITLE,
        &format!("{who}: the server's processor time"),
        "µs a patch",
        stretch.processor.as_secs_f64() * 1e6 / patches,
    );
    if listeners > 0 {
        report.add(TITLE, "ten listen: events delivered", "/s", stretch.delivered as f64 / seconds);
        report.add(
            TITLE,
            "ten listen: events of a patch that one of them hears",
            "",
            stretch.delivered as f64 / listeners as f64 / patches,
        );
        report.add(TITLE, "ten listen: told that they missed some", "times", stretch.missed as f64);
    }
}
