//! What the server asked of the store, and how far that has come.

use bytes::Bytes;
use syncline::document::compact;
use syncline::document::core::Compacted;
use syncline::document::core::Input;
use syncline::document::job::Job;
use syncline::document::job::Outcome;
use syncline::document::lineage::Ending;
use syncline::document::port::Port;
use syncline::document::replica::Deleted;
use syncline::store::Epoch;
use syncline::store::Loaded;
use syncline::store::Record;
use syncline::store::Seq;
use syncline::store::StoreError;

use crate::chance::Chance;
use crate::fault::Fault;
use crate::server::Go;
use crate::server::Server;
use crate::server::broken;
use crate::store::Cover;

/// One question.
#[derive(Debug)]
pub(crate) enum Work {
    Load,
    /// Not of the store: the document's topic is listened to, and then it is loaded.
    Listen,
    Pull {
        after: Seq,
    },
    /// Not of the store, but answered like it.
    Job(Option<Job>),
    Append {
        batch: u64,
        epoch: Epoch,
        records: Vec<Record>,
    },
    /// Reads on where others have written on, and tries again.
    Delete {
        ending: Ending,
    },
    Revive,
    /// Loads first; what it loaded is built and stored in a second step.
    Compact {
        epoch: Epoch,
        loaded: Option<Loaded>,
    },
}

/// One question under way. It is done on disk first and answered later: a crash may come in between.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) actor: u64,
    pub(crate) doc: usize,
    pub(crate) work: Work,
    pub(crate) answer: Option<Input<Port>>,
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("not today".into())
}

impl Server {
    /// Takes one call a step further.
    pub(crate) fn progress(&mut self, index: usize, fails: bool, chance: &mut Chance) -> Go {
        if self.calls[index].answer.is_some() {
            let call = self.calls.remove(index);
            if let (Some(actor), Some(answer)) = (self.actors.get_mut(&call.actor), call.answer) {
                actor.take_answer(answer);
            }
            return Ok(());
        }
        let doc = self.calls[index].doc;
        let answer = match &mut self.calls[index].work {
            Work::Listen => {
                self.listen(doc);
                self.calls[index].work = Work::Load;
                return Ok(());
            }
            Work::Pull { .. } if fails => Input::Pulled(Err(unavailable())),
            Work::Pull { after } => Input::Pulled(self.disk.load_after(doc, *after)),
            Work::Load if fails => Input::Loaded(Err(unavailable())),
            Work::Load => Input::Loaded(self.disk.load(doc)),
            Work::Job(job) => Input::Done(job.take().map_or(Outcome::Lost, Job::run)),
            Work::Append { batch, epoch, records } => {
                // An append that failed may have been kept all the same.
                let kept = !fails || chance.one_in(2);
                let result = if kept { self.disk.append(doc, *epoch, records) } else { Err(unavailable()) };
                Input::Appended { batch: *batch, result: if fails { Err(unavailable()) } else { result } }
            }
            Work::Delete { .. } if fails => Input::Erased(Err(unavailable())),
            Work::Delete { ending } => {
                let memo = if self.fault == Fault::MemoLost { Bytes::new() } else { ending.memo() };
                match self.disk.end(doc, ending, memo) {
                    Some(outcome) => Input::Erased(outcome),
                    None => return Ok(()),
                }
            }
            Work::Revive if fails => Input::Revived(Err(unavailable())),
            Work::Revive => Input::Revived(Ok(self.disk.revive(doc))),
            Work::Compact { .. } if fails => Input::Compacted(Err(unavailable())),
            Work::Compact { loaded: loaded @ None, .. } => match self.disk.load(doc) {
                Ok(found) => {
                    *loaded = Some(found);
                    return Ok(());
                }
                Err(error) => Input::Compacted(Err(error)),
            },
            Work::Compact { epoch, loaded: Some(loaded) } => {
                let (epoch, loaded) = (*epoch, loaded.clone());
                Input::Compacted(self.compact(doc, epoch, &loaded)?)
            }
        };
        if matches!(answer, Input::Erased(Ok(_))) {
            self.promised[doc] = Cover::default();
        }
        self.calls[index].answer = Some(answer);
        if self.disk.is_haunted(doc) {
            return broken(format!("doc{doc}: something that was deleted is there again"));
        }
        self.check_promises()
    }

    fn compact(&mut self, doc: usize, epoch: Epoch, loaded: &Loaded) -> Go<Result<Compacted, StoreError>> {
        let Ok(built) = compact::build_for(&self.name_of(doc), loaded, Deleted::Collected) else {
            return broken("honest content cannot be compacted");
        };
        let Some(snapshot) = built else { return Ok(Err(StoreError::Conflict("nothing is stored".into()))) };
        let done = Compacted { through: snapshot.through, state_bytes: snapshot.state.len() };
        Ok(self.disk.compact(doc, epoch, snapshot).map(|()| done))
    }

    /// The process dies. Of what was under way, the disk has all, nothing, or the beginning.
    pub(crate) fn crash(&mut self, chance: &mut Chance) -> Go {
        self.fuse = None;
        for mut call in std::mem::take(&mut self.calls) {
            if call.answer.is_some() {
                continue;
            }
            match &mut call.work {
                Work::Append { epoch, records, .. } => {
                    let kept = [0, records.len(), chance.below(records.len() + 1)][chance.below(3)];
                    let _ = self.disk.append(call.doc, *epoch, &records[..kept]);
                }
                Work::Compact { epoch, loaded: Some(loaded) } if chance.one_in(2) => {
                    let _ = self.compact(call.doc, *epoch, loaded)?;
                }
                Work::Delete { ending } if chance.one_in(2) => {
                    let memo = ending.memo();
                    if self.disk.end(call.doc, ending, memo) == Some(Ok(true)) {
                        self.promised[call.doc] = Cover::default();
                    }
                }
                Work::Revive if chance.one_in(2) => drop(self.disk.revive(call.doc)),
                _ => {}
            }
        }
        self.actors.clear();
        self.directory.fill(None);
        for connection in self.connections.values_mut() {
            connection.server_died(chance);
        }
        self.check_promises()
    }
}
