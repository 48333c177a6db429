//! The list: everything that is compared, with its bar.
//!
//! A full comparison of five rounds takes about half an hour on two processors; the seconds here are what keeps it there.

use crate::compare::work::Bar;
use crate::compare::work::Measure;
use crate::compare::work::Unit;
use crate::compare::work::Work;
use crate::scenario::Scenario;
use crate::target::TargetKind;

const ALL: &[TargetKind] =
    &[TargetKind::Relay, TargetKind::Syncline, TargetKind::Hocuspocus, TargetKind::YWebsocketServer];

/// A relay has no state, acknowledges nothing, and cannot make good what it drops.
const STATEFUL: &[TargetKind] = &[TargetKind::Syncline, TargetKind::Hocuspocus, TargetKind::YWebsocketServer];

const fn cpu_per_delivery(bar: Bar) -> Measure {
    Measure { what: "processor per delivery", field: "server_cpu_us_per_delivered", unit: Unit::Us, bar }
}

const fn deliveries(bar: Bar) -> Measure {
    Measure { what: "delivered", field: "delivered_per_s", unit: Unit::PerSecond, bar }
}

const fn p50(bar: Bar) -> Measure {
    Measure { what: "p50", field: "p50_us", unit: Unit::UsAsMs, bar }
}

const P99: Measure = Measure { what: "p99", field: "p99_us", unit: Unit::UsAsMs, bar: Bar::None };
const ACK_P50: Measure = Measure { what: "acknowledged, p50", field: "ack_p50_us", unit: Unit::UsAsMs, bar: Bar::None };
const PER_FRAME: Measure =
    Measure { what: "updates per frame", field: "updates_per_frame", unit: Unit::Count, bar: Bar::None };

/// Everything that is compared.
pub(crate) const WORKS: &[Work] = &[
    Work {
        name: "fanout-10",
        title: "1 writer → 10 readers, full speed",
        short: "1 → 10, full speed",
        story: "One document. The writer types as fast as the slowest reader follows, at most 1000 characters ahead of it.",
        scenario: Scenario::Fanout,
        args: &["--readers", "10"],
        targets: ALL,
        seconds: 3.0,
        warmup: 1.0,
        measures: &[cpu_per_delivery(Bar::AtMostTimes(TargetKind::Relay, 1.0)), deliveries(Bar::None), PER_FRAME],
    },
    Work {
        name: "fanout-100",
        title: "1 writer → 100 readers, full speed",
        short: "1 → 100, full speed",
        story: "As above, with a hundred readers.",
        scenario: Scenario::Fanout,
        args: &["--readers", "100"],
        targets: ALL,
        seconds: 3.0,
        warmup: 1.0,
        measures: &[
            cpu_per_delivery(Bar::AtMostTimes(TargetKind::Relay, 0.5)),
            deliveries(Bar::AtLeastTimes(TargetKind::Relay, 1.5)),
            PER_FRAME,
        ],
    },
    Work {
        name: "fanout-500",
        title: "1 writer → 500 readers, full speed",
        short: "1 → 500, full speed",
        story: "As above, with five hundred readers.",
        scenario: Scenario::Fanout,
        args: &["--readers", "500"],
        targets: &[TargetKind::Relay, TargetKind::Syncline, TargetKind::Hocuspocus],
        seconds: 4.0,
        warmup: 2.0,
        measures: &[cpu_per_delivery(Bar::AtMostTimes(TargetKind::Relay, 0.4)), deliveries(Bar::None), PER_FRAME],
    },
    Work {
        name: "paced-100",
        title: "1 writer → 100 readers, 50 updates a second",
        short: "1 → 100, 50 updates/s",
        story: "One document; one person types, a hundred watch. Nothing can be gained by merging here.",
        scenario: Scenario::Paced,
        args: &["--readers", "100", "--rate", "50"],
        targets: ALL,
        seconds: 4.0,
        warmup: 1.0,
        measures: &[
            cpu_per_delivery(Bar::AtMostTimes(TargetKind::Relay, 1.1)),
            p50(Bar::AtMostTimes(TargetKind::Relay, 1.3)),
            P99,
            ACK_P50,
        ],
    },
    Work {
        name: "awareness",
        title: "Presence: 100 clients, 10 states a second each",
        short: "presence of 100",
        story: "One document in which everybody moves a cursor and sees all others. A delivery is one state that one other \
                client knows, or a later one in its place.",
        scenario: Scenario::Awareness,
        args: &["--clients", "100", "--rate", "10"],
        targets: ALL,
        seconds: 3.0,
        warmup: 1.0,
        measures: &[cpu_per_delivery(Bar::AtMostTimes(TargetKind::Relay, 0.6)), p50(Bar::AtMost(10_000.0)), P99],
    },
    Work {
        name: "pairs-8k",
        title: "200 documents × 2 clients, 8000 updates a second",
        short: "200 × 2, 8000 updates/s",
        story: "Four hundred people type in pairs, all at the same steady rate.",
        scenario: Scenario::Pairs,
        args: &["--documents", "200", "--rate", "8000"],
        targets: ALL,
        seconds: 3.0,
        warmup: 1.0,
        measures: &[cpu_per_delivery(Bar::AtMostTimes(TargetKind::Relay, 1.5)), p50(Bar::None), P99, ACK_P50],
    },
    Work {
        name: "pairs-max",
        title: "200 documents × 2 clients, as many updates as arrive in time",
        short: "200 × 2, highest rate",
        story: "The same pairs, for the highest rate at which 99 of 100 updates arrive within 100 ms. Syncline's are on disk \
                when they are acknowledged.",
        scenario: Scenario::PairsMax,
        args: &["--documents", "200", "--rate", "16000"],
        targets: ALL,
        seconds: 1.2,
        warmup: 0.4,
        measures: &[
            Measure { what: "highest rate", field: "rate", unit: Unit::PerSecond, bar: Bar::AtLeast(60_000.0) },
            cpu_per_delivery(Bar::None),
            P99,
        ],
    },
    Work {
        name: "typing",
        title: "Typing into a document of 500 KB, 10 readers",
        short: "typing into 500 KB",
        story: "A paper of many short passages from a thousand sessions; one person types a few words here, a few there, 200 \
                characters a second.",
        scenario: Scenario::Typing,
        args: &["--readers", "10", "--rate", "200", "--bytes", "500000"],
        targets: ALL,
        seconds: 3.0,
        warmup: 1.0,
        measures: &[
            Measure {
                what: "processor per update",
                field: "server_cpu_us_per_update",
                unit: Unit::Us,
                bar: Bar::AtMostTimes(TargetKind::YWebsocketServer, 0.12),
            },
            p50(Bar::None),
            P99,
        ],
    },
    Work {
        name: "idle",
        title: "10 000 connections at rest, one document each",
        short: "10 000 at rest",
        story: "They are opened as fast as the server takes them, 128 at a time; Syncline also checks a token for each. Then \
                nothing happens, and at the end fifty of them are tried out.",
        scenario: Scenario::Idle,
        args: &["--clients", "10000"],
        targets: ALL,
        seconds: 1.5,
        warmup: 0.0,
        measures: &[
            Measure {
                what: "memory per connection",
                field: "kib_per_connection",
                unit: Unit::KiB,
                bar: Bar::AtMost(10.0),
            },
            Measure { what: "connected", field: "connects_per_s", unit: Unit::PerSecond, bar: Bar::AtLeast(12_000.0) },
            Measure {
                what: "processor per connection",
                field: "server_cpu_us_per_delivered",
                unit: Unit::Us,
                bar: Bar::None,
            },
        ],
    },
    Work {
        name: "joins",
        title: "50 clients open a document of 500 KB at once",
        short: "50 joins, 500 KB",
        story: "Its author has it open and types a character before each group of fifty; four groups count.",
        scenario: Scenario::Joins,
        args: &["--clients", "50", "--bytes", "500000"],
        targets: STATEFUL,
        seconds: 1.0,
        warmup: 0.0,
        measures: &[
            Measure {
                what: "processor per join",
                field: "server_cpu_us_per_delivered",
                unit: Unit::UsAsMs,
                bar: Bar::AtMostTimes(TargetKind::YWebsocketServer, 0.1),
            },
            p50(Bar::None),
            P99,
        ],
    },
    Work {
        name: "restart",
        title: "The first whole state after a restart, 500 KB",
        short: "first state after a restart",
        story: "The document is saved, the server is killed and started again; then one client connects. Counted until it \
                has everything, whatever the server sends first. Three restarts a round.",
        scenario: Scenario::Restart,
        args: &["--bytes", "500000"],
        targets: STATEFUL,
        seconds: 1.0,
        warmup: 0.0,
        measures: &[
            Measure {
                what: "from connecting to the last byte",
                field: "p50_us",
                unit: Unit::UsAsMs,
                bar: Bar::AtMostTimes(TargetKind::Hocuspocus, 0.08),
            },
            Measure { what: "processor", field: "server_cpu_us_per_delivered", unit: Unit::UsAsMs, bar: Bar::None },
        ],
    },
    Work {
        name: "table",
        title: "A table of 10 000 × 10, 4 writers, 10 readers, 200 changes a second",
        short: "table of 10 000 × 10",
        story: "Each change is one cell somewhere in the table.",
        scenario: Scenario::Table,
        args: &["--readers", "10", "--rate", "200"],
        targets: STATEFUL,
        seconds: 3.0,
        warmup: 1.0,
        measures: &[
            Measure {
                what: "processor per change",
                field: "server_cpu_us_per_change",
                unit: Unit::Us,
                bar: Bar::AtMostTimes(TargetKind::YWebsocketServer, 0.2),
            },
            p50(Bar::None),
            P99,
        ],
    },
    Work {
        name: "crash",
        title: "SIGKILL right after the last acknowledgement",
        short: "SIGKILL",
        story: "Eight authors write a hundred updates each; with the last echo or SyncStatus the server is killed and \
                started again. Three crashes a round, 2400 acknowledged updates.",
        scenario: Scenario::Crash,
        args: &[],
        targets: STATEFUL,
        seconds: 1.0,
        warmup: 0.0,
        measures: &[Measure { what: "acknowledged and lost", field: "lost", unit: Unit::Count, bar: Bar::AtMost(0.0) }],
    },
    Work {
        name: "slow-reader",
        title: "A reader stops reading while 100 MB go by, and reads again",
        short: "a reader that stops",
        story: "One writer, ten readers and the one that stops; 1250 values of 16 KB a second. Its price is what memory grows \
                by beyond the same without it.",
        scenario: Scenario::SlowReader,
        args: &["--readers", "10"],
        targets: STATEFUL,
        seconds: 5.0,
        warmup: 0.5,
        measures: &[
            Measure {
                what: "memory for the stopped reader",
                field: "stopped_reader_mb",
                unit: Unit::Megabytes,
                bar: Bar::AtMost(16.0),
            },
            Measure {
                what: "p99 of the others, with it to without it",
                field: "p99_ratio",
                unit: Unit::Times,
                bar: Bar::AtMost(1.25),
            },
            Measure {
                what: "p99 of the others without it",
                field: "p99_without_us",
                unit: Unit::UsAsMs,
                bar: Bar::None,
            },
            Measure {
                what: "sent to it when it reads again",
                field: "catch_up_mb",
                unit: Unit::Megabytes,
                bar: Bar::None,
            },
            Measure { what: "in frames", field: "catch_up_frames", unit: Unit::Count, bar: Bar::None },
            Measure {
                what: "memory while it catches up",
                field: "catch_up_memory_mb",
                unit: Unit::Megabytes,
                bar: Bar::None,
            },
        ],
    },
];
