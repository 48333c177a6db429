//! The configuration, in the words of each part.

use std::num::NonZeroU64;
use std::num::NonZeroUsize;
use std::time::Duration;

use syncline_protocol::update::UpdateLimits;

use crate::config::Config;
use crate::config::Limit;
use crate::document::core::Cluster;
use crate::document::core::CoreSettings;
use crate::document::job::HEAVY_BYTES;
use crate::http;
use crate::http::socketio;
use crate::http::socketio::Rates;
use crate::http::ws::SocketLimits;
use crate::hub::InboxLimits;
use crate::limit::KeyedLimiter;
use crate::limit::TokenBucket;
use crate::outbox::OutboxLimits;
use crate::room::CourierLimits;
use crate::room::FeedLimits;

/// Updates of one document that wait to be handled. Never less than one message.
const INBOX_DOC_BYTES: usize = 32 << 20;
/// Log bytes worth a snapshot where nothing is configured.
const COMPACT_BYTES: usize = 1 << 20;
/// Bytes that clients may have sent, all together, before any of them has proved who they are.
const UNPROVED_BYTES_MAX: usize = 128 << 20;
/// Addresses and users remembered for failed connects.
const FAILED_CONNECT_KEYS_MAX: usize = 100_000;
/// Events of one user that wait to be acknowledged, and bytes of those of all users.
const PARCELS_MAX: usize = 100;
const PARCEL_BYTES_MAX: usize = 64 << 20;

pub(super) fn core_settings(config: &Config, cluster: Cluster) -> CoreSettings {
    let message_bytes = unlimited(config.limits.message_bytes);
    let compact = config.store.compact_bytes.map(NonZeroU64::get).map_or(COMPACT_BYTES, saturated);
    CoreSettings {
        doc_bytes_max: unlimited(config.limits.doc_bytes),
        compact_bytes: compact,
        // Without a limit on idleness, documents stay for a century.
        idle: config.docs.idle.unwrap_or(Duration::from_secs(3_000_000_000)),
        heavy_bytes: HEAVY_BYTES,
        update: UpdateLimits { bytes_max: message_bytes, ..UpdateLimits::default() },
        cluster,
    }
}

pub(super) fn inbox_limits(config: &Config) -> InboxLimits {
    let message_bytes = unlimited(config.limits.message_bytes);
    InboxLimits {
        doc_bytes_max: INBOX_DOC_BYTES.max(message_bytes),
        total_bytes_max: unlimited(config.limits.inbox_total_bytes).max(message_bytes),
    }
}

pub(super) fn socket_limits(config: &Config) -> SocketLimits {
    let limits = &config.limits;
    let rate = |limit: Limit| limit.map(|limit| u32::try_from(limit.get()).unwrap_or(u32::MAX));
    let updates = rate(limits.updates_per_second)
        .map(|per_second| (per_second, rate(limits.updates_burst).unwrap_or(per_second).max(per_second)));
    SocketLimits {
        message_bytes_max: unlimited(limits.message_bytes),
        outbox: OutboxLimits { bytes_max: limits.outbox_bytes.get(), frames_max: limits.outbox_frames.get() },
        write_timeout: limits.write_timeout.unwrap_or(Duration::from_secs(86_400)),
        updates,
        grace: config.auth.grace,
        auth_within: config.auth.within,
        hold_refused: config.auth.hold_refused,
        unproved_bytes_max: UNPROVED_BYTES_MAX,
        held_max: limits.held_refusals,
        drain_stagger: config.drain.stagger,
    }
}

pub(super) fn failed_connects(config: &Config) -> Option<KeyedLimiter> {
    let per_minute = u32::try_from(config.limits.failed_connects_per_minute?.get()).unwrap_or(u32::MAX);
    Some(KeyedLimiter::new(TokenBucket::per_minute(per_minute), FAILED_CONNECT_KEYS_MAX))
}

pub(super) fn feed_limits(config: &Config) -> FeedLimits {
    let (events_max, keep) = (config.history.events, config.history.keep);
    FeedLimits { events_max, keep, rules: config.rooms.clone(), ..FeedLimits::default() }
}

pub(super) fn socketio_settings(config: &Config) -> socketio::Settings {
    socketio::Settings {
        connections: config.limits.connections.map(NonZeroUsize::get),
        queue_waiting: config.limits.queue_waiting,
        message_bytes: unlimited(config.limits.message_bytes),
    }
}

pub(super) fn socketio_rates(config: &Config) -> Rates {
    let rate = |limit: Limit| limit.map(|limit| u32::try_from(limit.get()).unwrap_or(u32::MAX));
    let limits = &config.limits;
    Rates::per_minute(
        rate(limits.messages_per_minute),
        rate(limits.typing_per_minute),
        rate(limits.presence_per_minute),
    )
}

pub(super) fn courier_limits(config: &Config) -> CourierLimits {
    CourierLimits { parcels_max: PARCELS_MAX, bytes_max: PARCEL_BYTES_MAX, keep: config.history.keep }
}

pub(super) fn http_settings(config: &Config) -> http::Settings {
    http::Settings {
        message_bytes: config.limits.message_bytes.map_or(0, NonZeroUsize::get),
        doc_bytes: config.limits.doc_bytes.map_or(0, NonZeroUsize::get),
    }
}

/// A limit that is switched off still has to fit the arithmetic around it.
pub(super) fn unlimited(limit: Limit) -> usize {
    limit.map_or(usize::MAX / 4, NonZeroUsize::get)
}

pub(super) fn saturated(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
