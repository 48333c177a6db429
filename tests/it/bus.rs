//! The bus over a real Redis: who hears what, in which order, and what is noticed when something is lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use syncline::bus::Bus;
use syncline::bus::Ears;
use syncline::bus::Heard;
use syncline::bus::NodeId;
use syncline::bus::Topic;
use syncline::bus::envelope::BODY_BYTES_MAX;
use syncline::bus::redis::Address;
use syncline::bus::redis::RedisBus;
use syncline::config::Secret;
use syncline::metrics::Metrics;
use syncline::name::DocName;
use syncline::name::RoomName;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::server::PATIENCE;
use crate::support::cable::Cable;
use crate::support::redis::Redis;

/// Something that ears were told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Heard(Topic, Heard),
    Resumed,
}

struct Ear(mpsc::UnboundedSender<Word>);

impl Ears for Ear {
    fn heard(&self, topic: &Topic, heard: Heard) {
        let _ = self.0.send(Word::Heard(topic.clone(), heard));
    }

    fn resumed(&self) {
        let _ = self.0.send(Word::Resumed);
    }
}

/// One node, as far as the bus goes.
struct Node {
    bus: Arc<RedisBus>,
    words: mpsc::UnboundedReceiver<Word>,
    numbers: PrometheusHandle,
    _running: JoinSet<()>,
}

impl Node {
    /// Nobody knows yet whether Redis is there.
    fn begin(id: u64, url: &str) -> Self {
        let (metrics, numbers) = Metrics::install();
        let address = Address::parse(&Secret::new(url)).unwrap();
        let bus = RedisBus::new(NodeId(id), address, "test", metrics);
        let (sender, words) = mpsc::unbounded_channel();
        let (running, mut tasks) = (bus.clone(), JoinSet::new());
        tasks.spawn(async move { match running.run(Arc::new(Ear(sender))).await {} });
        Self { bus, words, numbers, _running: tasks }
    }

    async fn at(id: u64, url: &str) -> Self {
        let mut node = Self::begin(id, url);
        node.resumed().await;
        node
    }

    async fn next(&mut self) -> Word {
        timeout(PATIENCE, self.words.recv()).await.expect("something is heard").expect("the bus runs")
    }

    async fn resumed(&mut self) {
        assert_eq!(self.next().await, Word::Resumed);
    }

    /// The next word is this one, of that node.
    async fn hears(&mut self, topic: &Topic, from: u64, body: &str) {
        assert_eq!(self.hears_after(topic, from, body).await, Missed::No, "{body}");
    }

    async fn hears_after(&mut self, topic: &Topic, from: u64, body: &str) -> Missed {
        match self.next().await {
            Word::Heard(of, heard) => {
                assert_eq!((&of, heard.from, &heard.body[..]), (topic, NodeId(from), body.as_bytes()));
                if heard.missed { Missed::Something } else { Missed::No }
            }
            Word::Resumed => panic!("resumed, and not {body}"),
        }
    }

    fn says(&self, topic: &Topic, body: &str) {
        self.bus.publish(topic, Bytes::copy_from_slice(body.as_bytes()));
    }

    async fn listens(&self, topic: &Topic) {
        timeout(PATIENCE, self.bus.subscribe(topic)).await.expect("it is confirmed");
    }

    /// Until the bus knows that Redis is away.
    async fn is_down(&self) {
        let down = async {
            while self.bus.is_up() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await; // poll
            }
        };
        timeout(PATIENCE, down).await.expect("it notices");
    }

    fn number(&self, name: &str) -> u64 {
        let text = self.numbers.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("syncline_bus_{name} ")));
        line.expect("it is shown").parse().unwrap()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Missed {
    No,
    Something,
}

fn doc(name: &str) -> Topic {
    Topic::Doc(DocName::parse(name).unwrap())
}

fn room(name: &str) -> Topic {
    Topic::Room(RoomName::parse(name).unwrap())
}

async fn two(redis: &Redis) -> (Node, Node) {
    (Node::at(1, &redis.url()).await, Node::at(2, &redis.url()).await)
}

#[tokio::test]
async fn nodes_hear_each_other_in_order_and_not_themselves() {
    let redis = Redis::start().await;
    let (mut a, mut b) = two(&redis).await;
    let topics = [doc("one"), room("one"), Topic::Nodes];
    for topic in &topics {
        a.listens(topic).await;
        b.listens(topic).await;
    }
    for n in 0..3000 {
        a.says(&topics[n % 3], &n.to_string());
    }
    for n in 0..3000 {
        b.hears(&topics[n % 3], 1, &n.to_string()).await;
    }
    b.says(&topics[0], "over");
    a.hears(&topics[0], 2, "over").await;
    assert_eq!((a.number("published_total"), b.number("received_total")), (3000, 3000));
    assert_eq!(redis.calls("publish"), 3001, "one for each message");
    assert_eq!((a.number("received_total"), b.number("gaps_total"), a.number("dropped_total")), (1, 0, 0));
}

#[tokio::test]
async fn a_topic_is_heard_for_as_long_as_anybody_listens() {
    let redis = Redis::start().await;
    let (a, mut b) = two(&redis).await;
    let (topic, marker) = (doc("one"), doc("marker"));
    b.listens(&marker).await;
    b.listens(&topic).await;
    b.listens(&topic).await;
    b.bus.unsubscribe(&topic);
    a.says(&topic, "one still listens");
    b.hears(&topic, 1, "one still listens").await;
    b.bus.unsubscribe(&topic);
    a.says(&topic, "nobody listens");
    a.says(&marker, "x");
    b.hears(&marker, 1, "x").await;
    let gone = async {
        while redis.ask::<Vec<String>>(redis::cmd("PUBSUB").arg("CHANNELS")) != ["test:d:marker"] {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await; // poll
        }
    };
    timeout(PATIENCE, gone).await.expect("Redis is told");
    b.listens(&topic).await;
    a.says(&topic, "again");
    b.hears(&topic, 1, "again").await;
}

#[tokio::test]
async fn no_name_reaches_another() {
    let redis = Redis::start().await;
    let (a, mut b) = two(&redis).await;
    let long = "x".repeat(255);
    let names = ["*", "?", "[a-z]", "a", "b c", ":", "d:a", "n", "ü", "e\u{301}", "\\", "\"", "test:d:a", "a*", &long];
    // Every other one is listened to.
    for name in names.iter().step_by(2) {
        b.listens(&doc(name)).await;
    }
    for name in names {
        a.says(&doc(name), name);
        a.says(&room(name), "a room");
    }
    for name in names.iter().step_by(2) {
        b.hears(&doc(name), 1, name).await;
    }
    a.says(&doc("*"), "nothing in between");
    b.hears(&doc("*"), 1, "nothing in between").await;
}

#[tokio::test]
async fn a_redis_that_returns_empty_is_told_everything_again() {
    let mut redis = Redis::start().await;
    let (mut a, mut b) = two(&redis).await;
    let topics: Vec<_> = (0..20_000).map(|n| doc(&n.to_string())).collect();
    for topic in &topics {
        drop(b.bus.subscribe(topic));
    }
    a.listens(&topics[0]).await;
    b.listens(&topics[0]).await;
    a.says(&topics[0], "before");
    b.hears(&topics[0], 1, "before").await;
    redis.kill();
    a.is_down().await;
    b.is_down().await;
    a.says(&topics[0], "lost");
    // Nobody waits for a bus that is away.
    b.listens(&doc("late")).await;
    redis.start_again().await;
    a.resumed().await;
    b.resumed().await;
    let channels: BTreeSet<String> = redis.ask(redis::cmd("PUBSUB").arg("CHANNELS"));
    assert_eq!(channels.len(), topics.len() + 1, "all of them, when it says so");
    a.says(&topics[0], "after");
    assert_eq!(b.hears_after(&topics[0], 1, "after").await, Missed::Something, "what was lost is noticed too");
    a.says(&topics[19_999], "not counted where one does not listen");
    b.hears(&topics[19_999], 1, "not counted where one does not listen").await;
    assert_eq!((a.number("connects_total"), a.number("dropped_total")), (2, 1));
}

#[tokio::test]
async fn a_node_starts_without_redis_and_finds_it_later() {
    let mut redis = Redis::start().await;
    redis.kill();
    let mut a = Node::begin(1, &redis.url());
    a.listens(&doc("one")).await;
    assert!(!a.bus.is_up());
    redis.start_again().await;
    a.resumed().await;
    let b = Node::at(2, &redis.url()).await;
    b.says(&doc("one"), "hello");
    a.hears(&doc("one"), 2, "hello").await;
}

#[tokio::test]
async fn garbage_is_counted_and_nothing_else() {
    let redis = Redis::start().await;
    let (a, mut b) = two(&redis).await;
    let topic = doc("one");
    a.listens(&topic).await;
    b.listens(&topic).await;
    a.says(&topic, "first");
    b.hears(&topic, 1, "first").await;
    let huge = vec![1; 20 << 20];
    let garbage: [&[u8]; 6] = [b"", b"\x01", b"hello", &[0xff; 1000], b"\x02aaaaaaaa\x01\x01x", &huge];
    for payload in garbage {
        assert_eq!(redis.publish("test:d:one", payload), 2, "both were told");
    }
    redis.publish("test:d:two", b"nobody listens");
    a.says(&topic, "second");
    b.hears(&topic, 1, "second").await;
    assert_eq!((b.number("unreadable_total"), b.number("gaps_total")), (6, 0));
}

#[tokio::test]
async fn what_does_not_fit_is_noticed_by_whoever_hears_the_next() {
    let redis = Redis::start().await;
    let (a, mut b) = two(&redis).await;
    let (topic, other) = (doc("one"), doc("other"));
    for topic in [&topic, &other] {
        a.listens(topic).await;
        b.listens(topic).await;
    }
    a.says(&topic, "first");
    b.hears(&topic, 1, "first").await;
    a.bus.publish(&topic, vec![0; BODY_BYTES_MAX + 1].into());
    a.says(&topic, "after what was too large");
    assert_eq!(b.hears_after(&topic, 1, "after what was too large").await, Missed::Something);
    redis.freeze();
    let mut said = 0;
    while a.number("dropped_total") == 1 {
        (said..said + 1000).for_each(|n| a.says(&topic, &n.to_string()));
        said += 1000;
    }
    redis.thaw();
    let dropped = a.number("dropped_total") - 1;
    for n in 0..said - dropped {
        b.hears(&topic, 1, &n.to_string()).await;
    }
    a.says(&other, "not concerned");
    b.hears(&other, 1, "not concerned").await;
    a.says(&topic, "after the queue was full");
    assert_eq!(b.hears_after(&topic, 1, "after the queue was full").await, Missed::Something);
    a.says(&topic, "and on");
    b.hears(&topic, 1, "and on").await;
}

#[tokio::test]
async fn a_node_that_is_cut_off_notices_and_so_do_the_others() {
    let redis = Redis::start().await;
    let cable = Cable::to(redis.port()).await;
    let mut a = Node::at(1, &format!("redis://127.0.0.1:{}", cable.port())).await;
    let mut b = Node::at(2, &redis.url()).await;
    let topic = doc("one");
    a.listens(&topic).await;
    b.listens(&topic).await;
    a.says(&topic, "first");
    b.hears(&topic, 1, "first").await;
    cable.pull();
    a.is_down().await;
    a.says(&topic, "nobody hears this");
    b.says(&topic, "nor this");
    assert!(b.bus.is_up());
    cable.plug();
    a.resumed().await;
    a.says(&topic, "here again");
    assert_eq!(b.hears_after(&topic, 1, "here again").await, Missed::Something);
    b.says(&topic, "welcome");
    assert_eq!(a.hears_after(&topic, 2, "welcome").await, Missed::Something);
}

#[tokio::test]
async fn a_redis_that_neither_answers_nor_hangs_up_is_given_up() {
    let redis = Redis::start().await;
    let mut a = Node::at(1, &redis.url()).await;
    redis.freeze();
    a.is_down().await;
    redis.thaw();
    a.resumed().await;
}

#[tokio::test]
async fn what_is_published_last_is_flushed() {
    let redis = Redis::start().await;
    let (a, mut b) = two(&redis).await;
    b.listens(&Topic::Nodes).await;
    (0..2000).for_each(|n| a.says(&Topic::Nodes, &n.to_string()));
    timeout(PATIENCE, a.bus.flush()).await.expect("Redis takes it");
    drop(a);
    for n in 0..2000 {
        b.hears(&Topic::Nodes, 1, &n.to_string()).await;
    }
}

#[tokio::test]
async fn users_and_passwords_open_it_and_a_user_needs_few_rights() {
    let redis = Redis::start().await;
    let rights = ["on", ">p@ss/word", "resetchannels", "&test:*", "-@all", "+hello", "+ping", "+publish"];
    let rights = rights.into_iter().chain(["+subscribe", "+unsubscribe"]);
    let _: String = redis.ask(redis::cmd("ACL").arg("SETUSER").arg("sync").arg(rights.collect::<Vec<_>>()));
    let _: String = redis.ask(redis::cmd("ACL").arg("SETUSER").arg("default").arg(">other"));
    let url = |user: &str| format!("redis://{user}@127.0.0.1:{}", redis.port());
    let (a, mut b) = (Node::at(1, &url("sync:p%40ss%2Fword")).await, Node::at(2, &url("default:other")).await);
    b.listens(&doc("one")).await;
    a.says(&doc("one"), "let in");
    b.hears(&doc("one"), 1, "let in").await;
    let stranger = Node::begin(3, &url("sync:wrong"));
    stranger.listens(&doc("one")).await;
    assert!(!stranger.bus.is_up());
}

#[tokio::test]
async fn a_unix_socket_and_a_member_of_a_redis_cluster_do_as_well() {
    for arguments in [&[][..], &["--cluster-enabled", "yes"]] {
        let redis = Redis::start_with(arguments).await;
        let url = format!("redis+unix://{}", redis.socket());
        let (a, mut b) = (Node::at(1, &url).await, Node::at(2, &redis.url()).await);
        b.listens(&doc("one")).await;
        a.says(&doc("one"), "hello");
        b.hears(&doc("one"), 1, "hello").await;
    }
}
