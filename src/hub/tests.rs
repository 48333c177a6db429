//! Documents behind their inboxes, with readers that hear nothing, and what their rooms are told.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::awareness::Entry;
use syncline_protocol::update::UpdateLimits;

use super::*;
use crate::clock::Clock;
use crate::document::core::Cluster;
use crate::document::core::CoreSettings;
use crate::document::core::Guards;
use crate::document::memory::Memory;
use crate::document::port::Ends;
use crate::document::request::Present;
use crate::event::Happening;
use crate::metrics::Metrics;
use crate::store::Epoch;
use crate::store::Seq;
use crate::store::memory::MemoryStore;
use crate::table::change::Author;
use crate::table::change::ChangeSet;
use crate::table::events::Presence;
use crate::table::events::Publish;
use crate::table::events::Publisher;
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
            cluster: Cluster::Alone,
        },
        guards: Guards::nowhere(),
        compactions: Arc::new(Semaphore::new(1)),
        jobs: Arc::new(Semaphore::new(1)),
        memory: Memory::new(1 << 20, metrics.documents_bytes.clone(), metrics.documents_unloaded.clone()),
        metrics,
        publish,
        link: None,
    };
    let limits = InboxLimits { doc_bytes_max: 1_000_000, total_bytes_max: 1_000_000 };
    Hub::new(around, limits, Budget::new(1_000_000), TaskTracker::new())
}

/// A room that writes down what its documents tell it.
#[derive(Debug, Default)]
struct Recorder {
    told: Mutex<Vec<Told>>,
    is_heard: AtomicBool,
}

#[derive(Debug, Clone, PartialEq)]
enum Told {
    Opened(DocName),
    Presence(u64, Presence),
    Changed(Vec<String>, Option<String>),
    Happened(String),
}

struct Scribe(Arc<Recorder>);

impl Recorder {
    fn note(&self, told: Told) {
        self.told.lock().unwrap().push(told);
    }

    /// What was told since the last time.
    fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

impl Publish for Scribe {
    fn open(&self, doc: &DocName, _: Epoch, _: Seq) -> Arc<dyn Publisher> {
        self.0.note(Told::Opened(doc.clone()));
        Arc::new(Self(self.0.clone()))
    }
}

impl Publisher for Scribe {
    fn changed(&self, _: Epoch, _: Seq, change: ChangeSet) {
        let roots = change.roots.iter().map(ToString::to_string).collect();
        self.0.note(Told::Changed(roots, change.author.user.map(|user| user.to_string())));
    }

    fn tell(&self, _: &Author, _: u64, happenings: Vec<Happening>) {
        happenings.iter().for_each(|happening| self.0.note(Told::Happened(happening.name.to_string())));
    }

    fn presence(&self, peer: u64, _: u64, presence: Presence) {
        self.0.note(Told::Presence(peer, presence));
    }

    fn is_heard(&self) -> bool {
        self.0.is_heard.load(Ordering::Relaxed)
    }
}

fn recorded() -> (Arc<Hub>, Arc<Recorder>) {
    let recorder = Arc::<Recorder>::default();
    (hub(Arc::new(Scribe(recorder.clone()))), recorder)
}

fn came_in(reader: ReaderId, user: &str) -> Told {
    let Member { user, name, email } = member(user);
    Told::Presence(reader.0, Presence::Joined { user: Some(user), name, email })
}

fn state(reader: ReaderId, client: u64, state: Option<&'static str>) -> Told {
    let state = state.map(|state| Bytes::from_static(state.as_bytes()));
    Told::Presence(reader.0, Presence::State { client, state })
}

/// Waits until everything that was said before is handled and durable.
async fn settled(hub: &Arc<Hub>, doc: &DocName) {
    hub.ask(doc, Request::Flush).await.unwrap();
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
    present_or_not(hub, doc).await.unwrap()
}

async fn present_or_not(hub: &Arc<Hub>, doc: &DocName) -> Result<Vec<Present>, Refusal> {
    match hub.ask(doc, Request::Presence).await? {
        Answer::Presence(present) => Ok(present),
        other => panic!("{other:?}"),
    }
}

/// A letter in the text `t`, by the client 1.
fn letter() -> Bytes {
    Bytes::from_static(&[1, 1, 1, 0, 4, 1, 1, b't', 1, b'a', 0])
}

/// The same client's next letter, which does not say where it stands.
fn next_letter(clock: u8) -> Bytes {
    Bytes::copy_from_slice(&[1, 1, 1, clock, 0x84, 1, clock - 1, 1, b'b', 0])
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

#[tokio::test]
async fn a_room_hears_who_comes_what_each_shows_and_who_goes() {
    let (hub, recorder) = recorded();
    let paper = doc("paper");
    let (alice, bob) = (hub.new_reader(), hub.new_reader());
    let join =
        |reader, user| hub.join_as(reader, &paper, Access::Write, Some(member(user)), Arc::<Ears>::default().port());
    let alice_in = join(alice, "alice").await.unwrap();
    settled(&hub, &paper).await;
    assert_eq!(recorder.told(), [Told::Opened(paper.clone()), came_in(alice, "alice")]);

    alice_in.say(shows(7, 1, Some("{}"))).await.unwrap();
    settled(&hub, &paper).await;
    assert_eq!(recorder.told(), [state(alice, 7, Some("{}"))]);

    let bob_in = join(bob, "bob").await.unwrap();
    // Nobody speaks for somebody else who is here.
    bob_in.say(shows(7, 9, Some("{\"name\":\"alice\"}"))).await.unwrap();
    drop(bob_in);
    alice_in.leave().await;
    settled(&hub, &paper).await;
    let left = |reader: ReaderId| Told::Presence(reader.0, Presence::Left);
    assert_eq!(recorder.told(), [came_in(bob, "bob"), left(bob), left(alice)]);
}

#[tokio::test]
async fn a_room_hears_of_a_deletion_and_that_everybody_went() {
    let (hub, recorder) = recorded();
    let (paper, ears) = (doc("paper"), Arc::<Ears>::default());
    hub.ask(&paper, Request::Create { template: letter(), member: None }).await.unwrap();
    let alice = hub.new_reader();
    let _alice_in = hub.join_as(alice, &paper, Access::Read, None, ears.port()).await.unwrap();
    hub.ask(&paper, Request::Delete).await.unwrap();
    assert!(present_or_not(&hub, &paper).await.is_err());
    let told = recorder.told();
    assert_eq!(told[2..], [Told::Happened("document:deleted".into()), Told::Presence(alice.0, Presence::Left)]);

    // Who comes now is turned away, and was never in.
    let _again = hub.join_as(hub.new_reader(), &paper, Access::Read, None, ears.port()).await.unwrap();
    assert!(present_or_not(&hub, &paper).await.is_err());
    assert_eq!(recorder.told(), []);
    assert_eq!(ears.heard(), [ErrorCode::NotFound; 2]);
}

#[tokio::test]
async fn a_room_that_somebody_listens_to_hears_which_roots_changed_once_that_is_durable() {
    let (hub, recorder) = recorded();
    let paper = doc("paper");
    let write = |update| Request::Update { update, member: Some(member("alice")) };
    hub.ask(&paper, write(letter())).await.unwrap();
    assert_eq!(recorder.told(), [Told::Opened(paper.clone())]);

    recorder.is_heard.store(true, Ordering::Relaxed);
    let changed = Told::Changed(vec!["t".into()], Some("alice".into()));
    hub.ask(&paper, write(next_letter(1))).await.unwrap();
    assert_eq!(recorder.told(), std::slice::from_ref(&changed));
    hub.ask(&paper, write(next_letter(1))).await.unwrap(); // Nothing new.
    assert_eq!(recorder.told(), []);

    // Whoever stopped to listen may come back and go on.
    recorder.is_heard.store(false, Ordering::Relaxed);
    hub.ask(&paper, write(next_letter(2))).await.unwrap();
    assert_eq!(recorder.told(), [changed]);
}
