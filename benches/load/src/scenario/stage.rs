//! A server, the clients on it, and the time line of a run: warm-up, measured time, drain.

use std::net::SocketAddr;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use clap::ValueEnum;

use crate::account::Tally;
use crate::account::resident_bytes;
use crate::client::ClientId;
use crate::client::Door;
use crate::client::Event;
use crate::client::Fleet;
use crate::scenario::Args;
use crate::scenario::Outcome;
use crate::scenario::meter::Meter;
use crate::target::Running;

/// How long after the last update deliveries and acknowledgements may take. What has not come then is lost.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

/// Longest wait for a socket: the clock is looked at in between.
const TURN_MAX: Duration = Duration::from_millis(20);

/// What a scenario does with its clients.
pub(crate) trait Load {
    /// Sends what is due. Gives the time when something will be due again, if it does not depend on what arrives.
    ///
    /// # Errors
    /// When the scenario has failed.
    fn act(&mut self, fleet: &mut Fleet, tally: &mut Tally) -> Result<Option<u64>>;

    /// Something happened to a client.
    ///
    /// # Errors
    /// When it should not have.
    fn on_event(&mut self, now_ns: u64, id: ClientId, event: Event<'_>, tally: &mut Tally) -> Result<()>;

    /// What was sent and has not arrived everywhere, or was not acknowledged by a server that does so.
    fn outstanding(&self) -> u64;
}

/// A server and its clients.
pub(crate) struct Stage {
    /// The clients.
    pub(crate) fleet: Fleet,
    /// What was counted in the measured time.
    pub(crate) tally: Tally,
    args: Args,
    pid: u32,
    /// Killed when the stage is dropped; `None` for one that ran before.
    running: Option<Running>,
}

impl Stage {
    /// Starts the server, or takes the one that runs already.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn new(args: &Args) -> Result<Self> {
        let (pid, addr, running) = seat(args)?;
        let fleet = Fleet::new(door(args, addr), args.seed)?;
        Ok(Self { fleet, tally: Tally::default(), args: args.clone(), pid, running })
    }

    /// SIGKILL, and the same server again on what is left of its data. All clients are gone; the next one is client 0.
    ///
    /// # Errors
    /// When it does not start, or ran before us.
    pub(crate) fn crash_and_restart(&mut self) -> Result<()> {
        let running = self.running.take().context("only a server that was started here can be killed")?.restart()?;
        self.fleet = Fleet::new(door(&self.args, running.addr), self.args.seed)?;
        self.pid = running.pid;
        self.running = Some(running);
        Ok(())
    }

    /// Bytes of the server's files.
    ///
    /// # Errors
    /// When they cannot be listed, or the server ran before us.
    pub(crate) fn data_bytes(&self) -> Result<u64> {
        self.running.as_ref().context("only a server that was started here has data that is known")?.data_bytes()
    }

    /// Bytes of memory that the server has resident.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        resident_bytes(self.pid)
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Begins to count processor time and seconds.
    ///
    /// # Errors
    /// When the server is gone.
    pub(crate) fn meter(&self) -> Result<Meter> {
        Meter::start(self.pid, self.fleet.now_ns())
    }

    /// A document that no run before this one has used: a server that ran already may know those.
    pub(crate) fn new_document(&self) -> String {
        let name = self.args.scenario.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("{name}-{:x}", now.as_nanos())
    }

    /// Connects a client to each of `documents`, and waits until all are ready.
    ///
    /// # Errors
    /// When one cannot be, and those of `load`.
    pub(crate) fn open(&mut self, documents: impl Iterator<Item = String>, load: &mut impl Load) -> Result<()> {
        let Self { fleet, tally, args, .. } = self;
        let clients = documents.map(|document| (args.target.path(&document, args.access()), document));
        fleet.open_all(clients, |now_ns, id, event| dispatch(load, now_ns, id, event, tally))
    }

    /// Lets the load run for `duration`.
    ///
    /// # Errors
    /// Those of `load`.
    pub(crate) fn run(&mut self, load: &mut impl Load, duration: Duration) -> Result<()> {
        let end_ns = self.fleet.now_ns() + duration.as_nanos() as u64;
        while self.fleet.now_ns() < end_ns {
            let next_ns = load.act(&mut self.fleet, &mut self.tally)?.unwrap_or(u64::MAX).min(end_ns);
            let wait = Duration::from_nanos(next_ns.saturating_sub(self.fleet.now_ns()));
            self.turn(load, wait.min(TURN_MAX))?;
        }
        Ok(())
    }

    /// Warms up, then measures: the tally is that of the measured time alone.
    ///
    /// # Errors
    /// Those of `load`.
    pub(crate) fn measure(&mut self, load: &mut impl Load) -> Result<Outcome> {
        self.run(load, self.args.warmup())?;
        self.tally.clear();
        let (meter, bytes_before) = (self.meter()?, self.fleet.bytes_read());
        self.run(load, self.args.measured())?;
        let (tally, bytes_read) = (&self.tally, self.fleet.bytes_read() - bytes_before);
        let outcome = meter.outcome(&self.args, self.fleet.now_ns(), tally.sent, tally.delivered)?;
        Ok(outcome
            .with_latency(&tally.latency)
            .with("updates_per_frame", tally.delivered as f64 / tally.frames as f64)
            .with("bytes_per_delivered", bytes_read as f64 / tally.delivered as f64)
            .with_acknowledgements(tally))
    }

    /// Waits, without sending more, until everything has arrived. The tally goes on.
    ///
    /// # Errors
    /// When something does not arrive, and those of `load`.
    pub(crate) fn drain(&mut self, load: &mut impl Load) -> Result<()> {
        let end_ns = self.fleet.now_ns() + DRAIN_PATIENCE.as_nanos() as u64;
        while load.outstanding() > 0 {
            let left = load.outstanding();
            ensure!(self.fleet.now_ns() < end_ns, "lost: {left} deliveries or acknowledgements did not come");
            self.turn(load, TURN_MAX)?;
        }
        Ok(())
    }

    /// Serves the clients once, for at most `timeout`, without sending what is due.
    ///
    /// # Errors
    /// Those of `load`.
    pub(crate) fn turn(&mut self, load: &mut impl Load, timeout: Duration) -> Result<()> {
        let Self { fleet, tally, .. } = self;
        fleet.turn(timeout, |now_ns, id, event| dispatch(load, now_ns, id, event, tally))
    }
}

fn dispatch(load: &mut impl Load, now_ns: u64, id: ClientId, event: Event<'_>, tally: &mut Tally) -> Result<()> {
    if let Event::Closed(code, reason) = event {
        bail!("client {id} was closed: {code} {reason}");
    }
    load.on_event(now_ns, id, event, tally).with_context(|| format!("client {id}"))
}

fn door(args: &Args, addr: SocketAddr) -> Door {
    Door { addr, dialect: args.target.dialect(), answers_sync: args.target.answers_sync() }
}

fn seat(args: &Args) -> Result<(u32, SocketAddr, Option<Running>)> {
    if let (Some(addr), Some(pid)) = (args.addr, args.pid) {
        return Ok((pid, addr, None));
    }
    let running = args.target.start(&args.start_options())?;
    Ok((running.pid, running.addr, Some(running)))
}
