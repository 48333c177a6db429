//! A store that fails on command, deterministically: nothing in it sleeps or draws lots.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytes::Bytes;
use tokio::sync::watch;

use crate::name::DocName;
use crate::store::Epoch;
use crate::store::Loaded;
use crate::store::Page;
use crate::store::Pending;
use crate::store::Record;
use crate::store::Seq;
use crate::store::Snapshot;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::ready;

/// Which call a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// [`Store::append`]
    Append,
    /// [`Store::load`], [`Store::load_after`]
    Load,
    /// [`Store::compact`]
    Compact,
    /// [`Store::delete`]
    Delete,
    /// [`Store::revive`]
    Revive,
    /// [`Store::list`]
    List,
    /// [`Store::probe`]
    Probe,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done; the answer is [`StoreError::Unavailable`].
    Refuse,
    /// It is done, and the answer is [`StoreError::Unavailable`] all the same.
    DoneButRefused,
    /// It is done, and no answer ever comes.
    DoneButSilent,
    /// It is done, and the answer waits until [`Faults::release`].
    Hold,
}

/// A fault, and when it strikes.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Which calls it counts and strikes; `None` for all.
    pub op: Option<Op>,
    /// So many calls go well first.
    pub after: u64,
    /// So many calls are struck then.
    pub times: u64,
    /// What happens to them.
    pub fault: Fault,
}

impl Plan {
    /// Strikes every call of one kind from now on.
    #[must_use]
    pub fn always(op: Op, fault: Fault) -> Self {
        Self { op: Some(op), after: 0, times: u64::MAX, fault }
    }
}

/// The handle on a [`Faulty`] store. Clones control the same store.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Controls>);

#[derive(Debug)]
struct Controls {
    plans: Mutex<Vec<Plan>>,
    /// How often the gate was opened. A held answer waits for the next time.
    released: watch::Sender<u64>,
    /// How many calls were struck.
    struck: watch::Sender<u64>,
}

impl Faults {
    /// Adds a plan. Of several that strike the same call, the first added wins; all of them count it.
    pub fn plan(&self, plan: Plan) {
        self.plans().push(plan);
    }

    /// Forgets all plans and releases what is held: the store is well again.
    pub fn heal(&self) {
        self.plans().clear();
        self.release();
    }

    /// Lets go of every answer that is held now. Plans stay.
    pub fn release(&self) {
        self.0.released.send_modify(|count| *count += 1);
    }

    /// How many calls were struck so far.
    #[must_use]
    pub fn struck(&self) -> u64 {
        *self.0.struck.borrow()
    }

    /// Waits until at least so many calls were struck.
    pub async fn until_struck(&self, count: u64) {
        let mut struck = self.0.struck.subscribe();
        // The sender lives in `self`, so this cannot end early.
        let _ = struck.wait_for(|seen| *seen >= count).await;
    }

    fn strike(&self, op: Op) -> Option<Fault> {
        let mut struck = None;
        for plan in self.plans().iter_mut().filter(|plan| plan.op.is_none_or(|wanted| wanted == op)) {
            if plan.after > 0 {
                plan.after -= 1;
            } else if plan.times > 0 {
                plan.times -= 1;
                struck = struck.or(Some(plan.fault));
            }
        }
        if struck.is_some() {
            self.0.struck.send_modify(|count| *count += 1);
        }
        struck
    }

    fn plans(&self) -> MutexGuard<'_, Vec<Plan>> {
        self.0.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store around another one. Without plans it does exactly what that one does.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
}

impl<S: Store> Faulty<S> {
    /// Wraps a store; the handle controls it.
    pub fn new(inner: S) -> (Self, Faults) {
        let (released, struck) = (watch::Sender::new(0), watch::Sender::new(0));
        let faults = Faults(Arc::new(Controls { plans: Mutex::default(), released, struck }));
        (Self { inner, faults: faults.clone() }, faults)
    }

    /// The store inside.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The call is made at once in every case but a refusal: an answer that comes late does not change the order.
    fn call<T: Send + 'static>(&self, op: Op, call: impl FnOnce(&S) -> Pending<T>) -> Pending<T> {
        let unavailable = || StoreError::Unavailable("by plan".to_owned());
        match self.faults.strike(op) {
            None => call(&self.inner),
            Some(Fault::Refuse) => ready(Err(unavailable())),
            Some(Fault::DoneButRefused) => {
                let done = call(&self.inner);
                Box::pin(async move { done.await.and_then(|_| Err(unavailable())) })
            }
            Some(Fault::DoneButSilent) => {
                let done = call(&self.inner);
                Box::pin(async move {
                    let _ = done.await;
                    std::future::pending().await
                })
            }
            Some(Fault::Hold) => {
                let mut released = self.faults.0.released.subscribe();
                let before = *released.borrow();
                let done = call(&self.inner);
                Box::pin(async move {
                    // A handle that is gone releases nobody, and holds nobody.
                    let _ = released.wait_for(|count| *count > before).await;
                    done.await
                })
            }
        }
    }
}

impl<S: Store> Store for Faulty<S> {
    fn append(&self, doc: &DocName, epoch: Epoch, records: Vec<Record>) -> Pending<Seq> {
        self.call(Op::Append, |store| store.append(doc, epoch, records))
    }

    fn load(&self, doc: &DocName) -> Pending<Loaded> {
        self.call(Op::Load, |store| store.load(doc))
    }

    fn load_after(&self, doc: &DocName, after: Seq) -> Pending<Loaded> {
        self.call(Op::Load, |store| store.load_after(doc, after))
    }

    fn compact(&self, doc: &DocName, epoch: Epoch, snapshot: Snapshot) -> Pending<()> {
        self.call(Op::Compact, |store| store.compact(doc, epoch, snapshot))
    }

    fn delete(&self, doc: &DocName, memo: Bytes) -> Pending<bool> {
        self.call(Op::Delete, |store| store.delete(doc, memo))
    }

    fn delete_as_of(&self, doc: &DocName, epoch: Epoch, through: Seq, memo: Bytes) -> Pending<bool> {
        self.call(Op::Delete, |store| store.delete_as_of(doc, epoch, through, memo))
    }

    fn revive(&self, doc: &DocName) -> Pending<Epoch> {
        self.call(Op::Revive, |store| store.revive(doc))
    }

    fn list(&self, prefix: &str, after: Option<&DocName>, limit: usize) -> Pending<Page> {
        self.call(Op::List, |store| store.list(prefix, after, limit))
    }

    fn probe(&self) -> Pending<()> {
        self.call(Op::Probe, |store| store.probe())
    }

    fn identity(&self) -> u64 {
        self.inner.identity()
    }

    fn close(&self) -> Pending<()> {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn record() -> Vec<Record> {
        vec![Record { update: vec![1].into(), user: None, at_ms: 1, sidecar: vec![].into() }]
    }

    #[tokio::test]
    async fn plans_strike_when_they_say() {
        let doc = DocName::parse("d").unwrap();
        let (store, faults) = Faulty::new(MemoryStore::new());
        faults.plan(Plan { op: Some(Op::Append), after: 1, times: 1, fault: Fault::Refuse });
        faults.plan(Plan { op: Some(Op::Append), after: 2, times: 1, fault: Fault::DoneButRefused });
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(store.append(&doc, Epoch(0), record()).await.ok());
        }
        assert_eq!(seen, vec![Some(Seq(1)), None, None, Some(Seq(3))], "the third was done all the same");
        assert_eq!(faults.struck(), 2);
    }

    #[tokio::test]
    async fn a_held_answer_waits_and_keeps_its_place() {
        let doc = DocName::parse("d").unwrap();
        let (store, faults) = Faulty::new(MemoryStore::new());
        faults.plan(Plan { op: Some(Op::Append), after: 0, times: 1, fault: Fault::Hold });
        let held = tokio::spawn(store.append(&doc, Epoch(0), record()));
        faults.until_struck(1).await;
        assert_eq!(store.append(&doc, Epoch(0), record()).await, Ok(Seq(2)));
        assert!(!held.is_finished());
        faults.release();
        assert_eq!(held.await.unwrap(), Ok(Seq(1)));
    }
}
