//! Tables on several nodes: records written over REST and by Yjs clients, and versions that are the same everywhere.

use std::collections::BTreeMap;

use syncline::clock::Now;
use syncline::document::core::Cluster;
use syncline::document::core::Core;
use syncline::document::core::CoreSettings;
use syncline::document::core::Effect;
use syncline::document::core::Guards;
use syncline::document::core::Input;
use syncline::document::core::Ticket;
use syncline::document::request::Answer;
use syncline::document::request::Request;
use syncline::table::command::Command;
use syncline::table::command::OnConflict;
use syncline::table::command::RecordPatch;
use syncline::table::command::TableAnswer;
use syncline::table::command::TableRequest;
use syncline::table::command::Write;
use syncline::table::view::RecordView;

use crate::cluster::fleet::Fleet;
use crate::edits;
use crate::server::Go;
use crate::server::broken;

/// Far beyond those of requests that somebody waits for.
const TICKET: Ticket = Ticket(u64::MAX);

impl Fleet {
    /// A record is written over REST, at the node that the world has.
    pub(crate) fn put_record(&mut self) {
        let chance = &mut self.world.chance;
        let (doc, id) = (chance.below(self.world.docs), edits::record_id(chance));
        let cells = BTreeMap::from([(edits::key(chance), chance.below(1000).into())]);
        let user = Some(format!("user{}", chance.below(3)).into());
        self.world.say(|| format!("doc{doc}: {id} is written at node {}", self.at));
        let patch = RecordPatch { id, cells, ..RecordPatch::default() };
        let command = Command::PutRecord { patch, on_conflict: OnConflict::Force };
        let write = Write { command, user, once: None, correlation_id: None, peer: None, guard: None };
        self.world.server.ask(doc, Request::Table(TableRequest::Write(Box::new(write))), None);
    }

    /// Every node that holds a table says the same of its records as one that reads it from the store.
    pub(crate) fn judge_records(&mut self, doc: usize) -> Go {
        let now = self.world.server.now;
        let expected = self.stored_records(doc)?;
        for actor in self.world.server.actors.values_mut().filter(|actor| actor.doc == doc) {
            let records = records_of(&mut actor.core, now);
            if records != expected {
                return broken(format!("doc{doc}: records are {records:?}, and in the store {expected:?}"));
            }
        }
        Ok(())
    }

    fn stored_records(&self, doc: usize) -> Go<Vec<RecordView>> {
        let server = &self.world.server;
        let settings = CoreSettings { cluster: Cluster::Alone, heavy_bytes: usize::MAX, ..server.limits.core.clone() };
        let Ok(loaded) = server.disk.load(doc) else { return broken("deleted at rest") };
        let mut core = Core::<()>::new(server.name_of(doc), settings, Guards::nowhere(), &mut Vec::new());
        core.handle(server.now, Input::Loaded(Ok(loaded)), &mut Vec::new());
        Ok(records_of(&mut core, server.now))
    }
}

fn records_of<P>(core: &mut Core<P>, now: Now) -> Vec<RecordView> {
    let page = TableRequest::Page { after: None, limit: 100, fields: None, include_deleted: true };
    let mut effects = Vec::new();
    core.handle(now, Input::Ask { ticket: TICKET, request: Request::Table(page) }, &mut effects);
    effects
        .into_iter()
        .find_map(|effect| match effect {
            Effect::Answer { ticket: TICKET, result: Ok(Answer::Table(TableAnswer::Page { records, .. })) } => {
                Some(records)
            }
            _ => None,
        })
        .unwrap_or_default()
}
