//! Whether a note that the former process left behind was the death of it.
//!
//! The work that was noted is done once more in a child process, on the same content. A child that dies or hangs proves the
//! case; the update, or the document, is quarantined. A child that lives acquits.

use std::io;
use std::io::Read;
use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

use crate::document::compact;
use crate::document::inflight::InFlight;
use crate::document::inflight::Suspect;
use crate::document::inflight::Work;
use crate::document::quarantine::Quarantine;
use crate::document::replica::Deleted;
use crate::document::replica::Replica;
use crate::name::DocName;
use crate::store::Loaded;
use crate::store::Store;
use crate::store::StoreError;

/// The hidden command under which this program tries out a suspect.
pub const TRIAL_COMMAND: &str = "try-suspect";
/// A child that takes longer hangs. Start-up waits for it, but only after a crash.
const TRIAL_PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// Tries every suspect, quarantines the guilty, forgets the notes.
///
/// # Errors
/// When the store cannot be read, or notes and quarantine cannot be written.
pub async fn judge(
    suspects: Vec<Suspect>,
    store: &dyn Store,
    inflight: &InFlight,
    quarantine: &Quarantine,
) -> io::Result<()> {
    for suspect in suspects {
        let Ok(doc) = DocName::parse(&suspect.doc) else { continue };
        let loaded = match store.load(&doc).await {
            Ok(loaded) => loaded,
            Err(StoreError::Deleted | StoreError::Damaged(_)) => continue, // It cannot be opened, so it cannot kill.
            Err(error) => return Err(io::Error::other(error)),
        };
        let (doc, user) = (suspect.doc.clone(), suspect.user.clone());
        let trial = suspect.clone();
        let survived =
            tokio::task::spawn_blocking(move || survives(&trial, &loaded)).await.map_err(io::Error::other)??;
        if survived {
            tracing::info!(event = "suspect_acquitted", channel_id = doc, work = ?suspect.work);
            continue;
        }
        let limits = UpdateLimits { bytes_max: usize::MAX, ..UpdateLimits::default() };
        quarantine.add(&suspect, validate(&suspect.update, &limits).ok().as_ref())?;
        tracing::error!(event = "suspect_quarantined", channel_id = doc, user_id = user, work = ?suspect.work);
    }
    inflight.forget_suspects()
}

fn survives(suspect: &Suspect, loaded: &Loaded) -> io::Result<bool> {
    let program: PathBuf = std::env::current_exe()?;
    let mut child = Command::new(program)
        .arg(TRIAL_COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or_else(|| io::Error::other("the child has no standard input"))?;
    let evidence = write_evidence(suspect, loaded);
    // A child that dies while it is still being told is as guilty as one that dies later.
    let told = stdin.write_all(&evidence);
    drop(stdin);
    let survived = wait(&mut child)?;
    Ok(told.is_ok() && survived)
}

fn wait(child: &mut Child) -> io::Result<bool> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if started.elapsed() > TRIAL_PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
}

/// What the child needs: the kind of work, the suspect update, and what the document holds. Only ever read by the same
/// program, so it has no version.
fn write_evidence(suspect: &Suspect, loaded: &Loaded) -> Vec<u8> {
    let work = match suspect.work {
        Work::Apply => 0_u8,
        Work::Load => 1,
        Work::Compact => 2,
    };
    let mut out = vec![work];
    let snapshot = loaded.snapshot.iter().map(|snapshot| &snapshot.state);
    let stored = snapshot.chain(loaded.records.iter().map(|(_, record)| &record.update));
    for bytes in std::iter::once(&suspect.update).chain(stored) {
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
    }
    out
}

/// The child's side: does the work that is described on standard input. Coming back at all is the answer; the engine
/// refusing the update is a life saved.
///
/// # Errors
/// When standard input is not what [`judge`] writes.
pub fn try_suspect(mut input: impl Read) -> io::Result<()> {
    let mut evidence = Vec::new();
    input.read_to_end(&mut evidence)?;
    let (&work, mut rest) = evidence.split_first().ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut pieces = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(io::Error::other)?;
        let (piece, after) = after.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        pieces.push(Bytes::copy_from_slice(piece));
        rest = after;
    }
    let (update, stored) = pieces.split_first().ok_or(io::ErrorKind::UnexpectedEof)?;
    let Ok(mut replica) = Replica::load(Deleted::Kept, stored.iter()) else { return Ok(()) };
    match work {
        0 => {
            let _ = replica.apply(update);
            let _ = replica.diff(&StateVector::default());
        }
        1 => drop(replica.diff(&StateVector::default())),
        _ => drop(compact::build(&as_loaded(stored), Deleted::Collected)),
    }
    Ok(())
}

fn as_loaded(stored: &[Bytes]) -> Loaded {
    let record =
        |update: &Bytes| crate::store::Record { update: update.clone(), user: None, at_ms: 0, sidecar: Bytes::new() };
    let records: Vec<_> =
        stored.iter().zip(1..).map(|(update, seq)| (crate::store::Seq(seq), record(update))).collect();
    Loaded { last: crate::store::Seq(records.len() as u64), records, ..Loaded::default() }
}
