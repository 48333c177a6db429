//! Stand-in.
use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use yrs::updates::decoder::Decode;
use yrs::{Doc, ReadTxn, StateVector, Transact, Update};

use crate::document::request::{Answer, Refusal, Request};
use crate::name::DocName;
use crate::store::{DocInfo, Page, Seq};

/// Stand-in.
#[derive(Default)]
pub struct Hub {
    docs: Mutex<BTreeMap<DocName, (Doc, u64)>>,
}
/// Stand-in.
pub struct HubStats {
    /// x
    pub documents: usize,
    /// x
    pub readers: usize,
    /// x
    pub outbox_bytes: usize,
}

fn merge(doc: &Doc, update: &Bytes) -> Result<(), Refusal> {
    let bad = || Refusal::new(ErrorCode::InvalidUpdate, "not an update");
    let update = Update::decode_v1(update).map_err(|_| bad())?;
    doc.transact_mut().apply_update(update).map_err(|_| bad())
}

impl Hub {
    /// Asks.
    pub async fn ask(&self, name: &DocName, request: Request) -> Result<Answer, Refusal> {
        let missing = || Refusal::new(ErrorCode::NotFound, "there is no such document");
        let mut docs = self.docs.lock().map_err(|_| missing())?;
        match request {
            Request::State { have } => {
                let (doc, seq) = docs.get(name).ok_or_else(missing)?;
                let have = StateVector::decode_v1(&have.encode()).map_err(|_| missing())?;
                Ok(Answer::State {
                    update: doc.transact().encode_state_as_update_v1(&have).into(),
                    revision: Seq(*seq),
                })
            }
            Request::Update { update, .. } => {
                let fresh = Doc::new();
                merge(&fresh, &update)?;
                let (doc, seq) = docs.entry(name.clone()).or_default();
                merge(doc, &update)?;
                *seq += 1;
                Ok(Answer::Saved(Seq(*seq)))
            }
            Request::Create { template, .. } => {
                if let Some((_, seq)) = docs.get(name) {
                    return Ok(Answer::Created { created: false, revision: Seq(*seq) });
                }
                let doc = Doc::new();
                merge(&doc, &template)?;
                docs.insert(name.clone(), (doc, 1));
                Ok(Answer::Created { created: true, revision: Seq(1) })
            }
            Request::Presence => docs.get(name).map(|_| Answer::Presence(vec![])).ok_or_else(missing),
            Request::Delete => docs.remove(name).map(|_| Answer::Done).ok_or_else(missing),
            Request::Flush => Ok(Answer::Done),
        }
    }
    /// Lists.
    pub async fn list(&self, prefix: &str, after: Option<&DocName>, limit: usize) -> Result<Page, Refusal> {
        let docs = self.docs.lock().map_err(|_| Refusal::new(ErrorCode::Internal, "x"))?;
        let mut all: Vec<DocInfo> = docs
            .iter()
            .filter(|(n, _)| n.as_str().starts_with(prefix) && after.is_none_or(|a| *n > a))
            .take(limit + 1)
            .map(|(n, (_, s))| DocInfo { name: n.clone(), bytes: 1, updated_at_ms: 1_700_000_000_123, last: Seq(*s) })
            .collect();
        let more = all.len() > limit;
        all.truncate(limit);
        let next = if more { all.last().map(|d| d.name.clone()) } else { None };
        Ok(Page { docs: all, next })
    }
    /// Ready.
    pub async fn store_ready(&self) -> bool {
        true
    }
    /// Stats.
    pub fn stats(&self) -> HubStats {
        HubStats { documents: 0, readers: 0, outbox_bytes: 0 }
    }
}
