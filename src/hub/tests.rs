//! Documents behind their inboxes, with readers that hear nothing.

use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::awareness::Entry;
use syncline_protocol::update::UpdateLimits;

use super::*;
use crate::clock::Clock;
use crate::document::core::CoreSettings;
use crate::document::core::Guards;
use crate::document::memory::Memory;
use crate::document::port::Ends;
use crate::document::request::Present;
use crate::metrics::Metrics;
use crate::store::memory::MemoryStore;
use crate::table::events::Publish;
use crate::table::events::Unheard;

fn hub(publish: Arc<dyn Publish>) -> Arc<Hub> {
    let metrics = Metrics::install().0;
    let around = Surroundings {
        store: Arc::new(MemoryStore::new()),
        clock: Clock::start(),
        settings: CoreSettings {
            doc_bytes_max: 100_000,
            compact_bytes: 1_000_000,
            idle: Duration::from_secs(60),
            heavy_bytes: usize::MAX,
            update: UpdateLimits::default(),
        },
        guards: Guards::nowhere(),
        compactions: Arc::new(Semaphore::new(1)),
        jobs: Arc::new(Semaphore::new(1)),
        memory: Memory::new(1 << 20, metrics.documents_bytes.clone(), metrics.documents_unloaded.clone()),
        metrics,
        publish,
    };
    let limits = InboxLimits { doc_bytes_max: 1_000_000, total_bytes_max: 1_000_000 };
    Hub::new(around, limits, Budget::new(1_000_000), TaskTracker::new())
}

/// What a silent reader hears.
#[derive(Debug, Default)]
struct Ears(Mutex<Vec<ErrorCode>>);

impl Ends for Ears {
    fn ended(&self, code: ErrorCode) {
        self.0.lock().unwrap().push(code);
    }
}

impl Ears {
    fn port(self: &Arc<Self>) -> Port {
        Port::silent(self.clone())
    }

    fn heard(&self) -> Vec<ErrorCode> {
        self.0.lock().unwrap().clone()
    }
}

fn doc(name: &str) -> DocName {
    DocName::parse(name).unwrap()
}

fn member(user: &str) -> Member {
    Member {
        user: user.into(),
        name: Some(user.to_uppercase().into()),
        email: Some(format!("{user}@a.example").into()),
    }
}

fn shows(client: u64, clock: u64, state: Option<&'static str>) -> Vec<DocumentMessage> {
    let state = state.map(|state| Bytes::from_static(state.as_bytes()));
    vec![DocumentMessage::Awareness(vec![Entry { client, clock, state }])]
}

async fn present(hub: &Arc<Hub>, doc: &DocName) -> Vec<Present> {
    match hub.ask(doc, Request::Presence).await.unwrap() {
        Answer::Presence(present) => present,
        other => panic!("{other:?}"),
    }
}

/// A letter in the text `t`, by the client 1.
fn letter() -> Bytes {
    Bytes::from_static(&[1, 1, 1, 0, 4, 1, 1, b't', 1, b'a', 0])
}

#[tokio::test]
async fn a_silent_reader_is_present_with_what_it_shows_until_it_leaves() {
    let (hub, paper) = (hub(Arc::new(Unheard)), doc("paper"));
    let reader = hub.new_reader();
    let joined = hub.join_as(reader, &paper, Access::Read, Some(member("alice")), Arc::<Ears>::default().port());
    let membership = joined.await.unwrap();
    membership.say(shows(7, 1, Some("{\"typing\":true}"))).await.unwrap();

    let lines = present(&hub, &paper).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].member, Some(member("alice")));
    assert_eq!(lines[0].clients, [(7, Bytes::from_static(b"{\"typing\":true}"))]);
    assert_eq!(hub.stats().readers, 1);

    membership.leave().await;
    assert_eq!(present(&hub, &paper).await, []);
    assert_eq!(hub.stats().readers, 0);
}

#[tokio::test]
async fn one_reader_is_in_several_documents_and_comes_back_to_each() {
    let (hub, paper, table) = (hub(Arc::new(Unheard)), doc("paper"), doc("table:t1"));
    let (reader, ears) = (hub.new_reader(), Arc::<Ears>::default());
    assert_ne!(reader, hub.new_reader());
    let _in_paper = hub.join_as(reader, &paper, Access::Write, None, ears.port()).await.unwrap();
    for _ in 0..2 {
        let in_table = hub.join_as(reader, &table, Access::Write, None, ears.port()).await.unwrap();
        assert_eq!(present(&hub, &table).await.len(), 1);
        in_table.leave().await;
    }
    assert_eq!(present(&hub, &table).await.len(), 0);
    assert_eq!(present(&hub, &paper).await.len(), 1);
    assert_eq!(ears.heard(), []);
}

#[tokio::test]
async fn a_silent_reader_hears_that_its_document_was_deleted() {
    let (hub, paper) = (hub(Arc::new(Unheard)), doc("paper"));
    let ears = Arc::<Ears>::default();
    hub.ask(&paper, Request::Create { template: letter(), member: None }).await.unwrap();
    let _membership = hub.join_as(hub.new_reader(), &paper, Access::Read, None, ears.port()).await.unwrap();
    hub.ask(&paper, Request::Delete).await.unwrap();
    // The answer leaves before the readers are told, in the same turn; what is asked next comes after that.
    assert_eq!(hub.ask(&paper, Request::Presence).await.unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(ears.heard(), [ErrorCode::NotFound]);
}
