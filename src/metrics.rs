//! Every number the server shows to operators: names, meanings, and handles that cost an atomic addition to use.
//!
//! Nothing is labelled by document or user: their number is not bounded. There is no global recorder, so that one
//! process can run many servers, each with its own numbers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use metrics::Gauge;
use metrics::Histogram;
use metrics::Unit;
use metrics_exporter_prometheus::Matcher;
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_exporter_prometheus::PrometheusHandle;
use syncline_protocol::ErrorCode;

/// 50 µs to 10 s: a keystroke in memory takes the first, a stalled disk the last.
const SECONDS_BUCKETS: [f64; 16] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Group commits carry one record when idle and thousands under load.
const COMMIT_RECORDS_BUCKETS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0];
/// An entry has a good hundred bytes around its updates; a commit is at most 16 MiB, or one large append.
const COMMIT_BYTES_BUCKETS: [f64; 8] =
    [256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 16_777_216.0];

/// By what a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// `/sync/{doc}`.
    YWebsocket,
    /// `/collab`.
    Hocuspocus,
    /// `/socket.io/`, by WebSocket or by polling.
    SocketIo,
}

impl Transport {
    /// Every transport.
    pub const ALL: [Self; 3] = [Self::YWebsocket, Self::Hocuspocus, Self::SocketIo];

    /// Its label.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::YWebsocket => "y_websocket",
            Self::SocketIo => "socket_io",
            Self::Hocuspocus => "hocuspocus",
        }
    }
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $field:ident: $kind:ident, $name:literal, $unit:ident, $help:literal;)*) => {
        /// Names of all metrics without labels.
        pub const NAMES: &[&str] = &[$($name),*];

        /// Handles to all metrics of one server.
        pub struct Metrics {
            $(#[doc = $help] pub $field: $kind,)*
            connections: [Gauge; Transport::ALL.len()],
            rooms: [Gauge; ROOM_KINDS.len()],
            room_members: [Gauge; ROOM_KINDS.len()],
            errors: Vec<Counter>,
        }

        impl Metrics {
            fn register() -> Self {
                $(metrics!(@describe $kind, $name, $unit, $help);)*
                metrics::describe_gauge!(CONNECTIONS, Unit::Count, "Open connections by transport.");
                metrics::describe_gauge!(ROOMS, Unit::Count, "Rooms in memory, by kind.");
                metrics::describe_gauge!(
                    ROOM_MEMBERS,
                    Unit::Count,
                    "Connections that are present in rooms, by kind of room; one that is in several counts in each."
                );
                metrics::describe_counter!(ERRORS, Unit::Count, "Refusals and errors told to clients, by code.");
                Self {
                    $($field: metrics!(@register $kind, $name),)*
                    connections: Transport::ALL.map(|by| metrics::gauge!(CONNECTIONS, "transport" => by.word())),
                    rooms: ROOM_KINDS.map(|kind| metrics::gauge!(ROOMS, "kind" => kind)),
                    room_members: ROOM_KINDS.map(|kind| metrics::gauge!(ROOM_MEMBERS, "kind" => kind)),
                    errors: ErrorCode::ALL
                        .iter()
                        .map(|code| metrics::counter!(ERRORS, "code" => code.word()))
                        .collect(),
                }
            }
        }
    };
    (@describe Counter, $name:literal, $unit:ident, $help:literal) => {
        metrics::describe_counter!($name, Unit::$unit, $help)
    };
    (@describe Gauge, $name:literal, $unit:ident, $help:literal) => {
        metrics::describe_gauge!($name, Unit::$unit, $help)
    };
    (@describe Histogram, $name:literal, $unit:ident, $help:literal) => {
        metrics::describe_histogram!($name, Unit::$unit, $help)
    };
    (@register Counter, $name:literal) => { metrics::counter!($name) };
    (@register Gauge, $name:literal) => { metrics::gauge!($name) };
    (@register Histogram, $name:literal) => { metrics::histogram!($name) };
}

/// Open connections by transport.
pub const CONNECTIONS: &str = "syncline_connections";
/// Rooms by kind.
pub const ROOMS: &str = "syncline_rooms";
/// Who is in them.
pub const ROOM_MEMBERS: &str = "syncline_room_members";
/// Kinds of rooms that are counted apart, and all others together: a list of its own, whatever names clients make up.
pub const ROOM_KINDS: [&str; 14] = [
    "base",
    "campaign",
    "channel",
    "component",
    "entity",
    "global",
    "presence",
    "project",
    "settlement",
    "structure",
    "table",
    "thread",
    "user",
    "other",
];
/// Refusals by code.
pub const ERRORS: &str = "syncline_errors_total";

metrics! {
    messages_in: Counter, "syncline_messages_in_total", Count, "Messages read from clients.";
    messages_out: Counter, "syncline_messages_out_total", Count, "Messages written to clients.";
    bytes_in: Counter, "syncline_in_bytes_total", Bytes, "Bytes of messages read from clients.";
    bytes_out: Counter, "syncline_out_bytes_total", Bytes, "Bytes of messages written to clients.";
    update_apply: Histogram, "syncline_update_apply_seconds", Seconds,
        "Time to validate and apply one batch of updates.";
    update_commit: Histogram, "syncline_update_commit_seconds", Seconds,
        "Time from accepting an update until it is durable.";
    update_deliver: Histogram, "syncline_update_deliver_seconds", Seconds,
        "Time from reading an update until it is in every reader's outbox.";
    updates_out_of_order: Counter, "syncline_updates_out_of_order_total", Count,
        "Updates that had to wait for others they depend on.";
    updates_pending_dropped: Counter, "syncline_updates_pending_dropped_total", Count,
        "Waiting updates that were dropped at a bound; their channel is synchronised again.";
    poison_refusals: Counter, "syncline_poison_refusals_total", Count,
        "Updates refused because they are impossible or dangerous.";
    documents_loaded: Gauge, "syncline_documents_loaded", Count, "Documents in memory.";
    documents_bytes: Gauge, "syncline_documents_bytes", Bytes, "Memory that documents take, by estimate.";
    documents_unloaded: Counter, "syncline_documents_unloaded_total", Count,
        "Documents without readers that were asked to leave because memory was short.";
    documents_quarantined: Gauge, "syncline_documents_quarantined", Count,
        "Updates and documents that stopped the server once and are not let in again.";
    document_reloads: Counter, "syncline_document_reloads_total", Count,
        "Documents that were loaded again after trouble in memory.";
    compactions: Counter, "syncline_compactions_total", Count, "Logs of documents that were folded into a snapshot.";
    outbox_bytes: Gauge, "syncline_outbox_bytes", Bytes, "Bytes that wait for clients.";
    lagging: Counter, "syncline_lagging_total", Count, "Times that a reader was too slow and began to lag.";
    stateless_missed: Counter, "syncline_stateless_missed_total", Count, "Messages between clients that did not fit a slow reader's outbox.";
    lag_resyncs: Counter, "syncline_lag_resyncs_total", Count, "Slow readers that were caught up by one diff.";
    keep_alives: Counter, "syncline_keep_alives_total", Count, "Messages sent only so that a client does not give up.";
    store_commit_records: Histogram, "syncline_store_commit_records", Count,
        "Records of all documents in one commit of the log.";
    store_commit_bytes: Histogram, "syncline_store_commit_bytes", Bytes, "Bytes in one commit of the log.";
    store_commit: Histogram, "syncline_store_commit_seconds", Seconds,
        "Time to write one commit of the log and make it durable.";
    store_failures: Counter, "syncline_store_failures_total", Count, "Calls to the store that failed.";
    auth_refusals: Counter, "syncline_auth_refusals_total", Count,
        "Connections and requests refused for their token or rights.";
    callback_requests: Counter, "syncline_auth_callback_requests_total", Count,
        "Times that the application was asked for somebody's rights.";
    callback_failures: Counter, "syncline_auth_callback_failures_total", Count,
        "Of those, and of those that waited in vain for their turn: without a usable answer in time.";
    callback_seconds: Histogram, "syncline_auth_callback_seconds", Seconds,
        "Time until the application answered.";
    revocations: Counter, "syncline_revocations_total", Count, "Revocations that were asked for.";
    revocations_forgotten: Counter, "syncline_revocations_forgotten_total", Count,
        "Revoked tokens and users that had to make room for others while they were still in force.";
    bus_up: Gauge, "syncline_bus_up", Count, "Whether the bus to the other nodes works: 1 or 0.";
    bus_connects: Counter, "syncline_bus_connects_total", Count, "Times that the bus was reached, the first time included.";
    bus_published: Counter, "syncline_bus_published_total", Count, "Messages that were given to the bus.";
    bus_received: Counter, "syncline_bus_received_total", Count, "Messages of other nodes.";
    bus_dropped: Counter, "syncline_bus_dropped_total", Count,
        "Messages that were not sent: the bus was away, too much waited, or they were too large.";
    bus_gaps: Counter, "syncline_bus_gaps_total", Count,
        "Messages of other nodes before which others may have been missed.";
    bus_unreadable: Counter, "syncline_bus_unreadable_total", Count, "Messages on the bus that no node writes.";
    nodes_alive: Gauge, "syncline_nodes_alive", Count, "Nodes that are alive as far as this one knows, itself included.";
    rate_limit_refusals: Counter, "syncline_rate_limit_refusals_total", Count,
        "Connections and requests refused for coming too often.";
    held_refusals: Gauge, "syncline_held_refusals", Count, "Refused connections that are held before they are closed.";
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Counts one open connection until it is dropped.
#[derive(Debug)]
#[must_use = "the connection is counted until this is dropped"]
pub struct ConnectionGauge(Gauge);

impl Drop for ConnectionGauge {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl Metrics {
    /// A new set of numbers, and the handle that renders them. Somebody must call
    /// [`PrometheusHandle::run_upkeep`] now and then: histograms collect samples until it, or a rendering, folds them.
    #[must_use]
    pub fn install() -> (Arc<Self>, PrometheusHandle) {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_commit_records".into()), &COMMIT_RECORDS_BUCKETS)
            })
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_commit_bytes".into()), &COMMIT_BYTES_BUCKETS)
            })
            .expect("the lists of buckets are not empty")
            .build_recorder();
        let metrics = metrics::with_local_recorder(&recorder, Self::register);
        (Arc::new(metrics), recorder.handle())
    }

    /// Counts an open connection.
    pub fn connected(&self, by: Transport) -> ConnectionGauge {
        let gauge = self.connections[by as usize].clone();
        gauge.increment(1.0);
        ConnectionGauge(gauge)
    }

    /// Says how many rooms of a kind there are, and how many connections are in them.
    pub fn count_rooms(&self, kind: &str, rooms: usize, members: usize) {
        if let Some(at) = ROOM_KINDS.iter().position(|known| *known == kind) {
            self.rooms[at].set(rooms as f64);
            self.room_members[at].set(members as f64);
        }
    }

    /// Counts a refusal or error that a client was told.
    pub fn refused(&self, code: ErrorCode) {
        self.errors[code as usize].increment(1);
        match code {
            ErrorCode::AuthFailed | ErrorCode::AuthExpired | ErrorCode::Forbidden => self.auth_refusals.increment(1),
            ErrorCode::RateLimited => self.rate_limit_refusals.increment(1),
            _ => {}
        }
    }

    /// Counts messages from a client.
    pub fn received(&self, messages: usize, bytes: usize) {
        self.messages_in.increment(messages as u64);
        self.bytes_in.increment(bytes as u64);
    }

    /// Counts messages to clients.
    pub fn sent(&self, messages: u64, bytes: u64) {
        self.messages_out.increment(messages);
        self.bytes_out.increment(bytes);
    }

    /// Records one commit of the log: records of all documents that were in it, bytes, and the time until durable.
    pub fn committed(&self, records: u32, bytes: usize, took: Duration) {
        self.store_commit_records.record(f64::from(records));
        // Precise up to 2^53 bytes.
        #[allow(clippy::cast_precision_loss)]
        self.store_commit_bytes.record(bytes as f64);
        self.store_commit.record(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_and_unique() {
        for (at, name) in NAMES.iter().enumerate() {
            assert!(name.starts_with("syncline_"), "{name}");
            assert!(!NAMES[at + 1..].contains(name), "{name}");
        }
    }

    #[test]
    fn everything_is_shown_from_the_start_with_its_meaning() {
        let (metrics, handle) = Metrics::install();
        metrics.committed(3, 700, Duration::from_millis(2));
        metrics.update_apply.record(0.0);
        metrics.update_commit.record(0.0);
        metrics.update_deliver.record(0.0);
        metrics.callback_seconds.record(0.0);
        let text = handle.render();
        for name in NAMES.iter().chain(&[CONNECTIONS, ERRORS]) {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} in {text}");
        }
        for code in ErrorCode::ALL {
            assert!(text.contains(&format!("{ERRORS}{{code=\"{}\"}} 0", code.word())), "{text}");
        }
        assert!(text.contains("syncline_store_commit_seconds_bucket{le=\"0.0025\"} 1"), "{text}");
        assert!(text.contains("syncline_store_commit_records_bucket{le=\"4\"} 1"), "{text}");
        assert!(text.contains("syncline_store_commit_bytes_bucket{le=\"256\"} 0"), "{text}");
        assert!(text.contains("syncline_store_commit_bytes_bucket{le=\"1024\"} 1"), "{text}");
    }

    #[test]
    fn two_servers_do_not_share_numbers() {
        let (one, shown) = Metrics::install();
        let (two, other) = Metrics::install();
        one.received(1, 100);
        two.sent(2, 5);
        assert!(shown.render().contains("syncline_in_bytes_total 100"));
        assert!(other.render().contains("syncline_in_bytes_total 0"));
        assert!(other.render().contains("syncline_messages_out_total 2"));
    }

    #[test]
    fn refusals_and_connections_are_counted_by_kind() {
        let (metrics, handle) = Metrics::install();
        for code in ErrorCode::ALL {
            metrics.refused(*code);
        }
        let open = metrics.connected(Transport::YWebsocket);
        let text = handle.render();
        assert!(text.contains("syncline_errors_total{code=\"INTERNAL\"} 1"), "{text}");
        assert!(text.contains("syncline_auth_refusals_total 3"), "{text}");
        assert!(text.contains("syncline_rate_limit_refusals_total 1"), "{text}");
        assert!(text.contains("syncline_connections{transport=\"y_websocket\"} 1"), "{text}");
        drop(open);
        assert!(handle.render().contains("syncline_connections{transport=\"y_websocket\"} 0"));
    }
}
