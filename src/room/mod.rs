//! Rooms: what happened in them, and who listens.
//!
//! ```text
//!  document actor ─changed───┐                              ┌─▶ cursor ─▶ server-sent events
//!  application ────publish───┼─▶ Feed: history, wake ───────┤
//!  connections ────pass──────┤   (one    ▲ passing ─────────┼─▶ cursor …
//!  who is there ───presence──┘   a room) └─ members, seats  └─▶ cursor …
//! ```
//!
//! Nobody who listens has a queue: each has a place in the room's history, and reads on when it is woken. Telling
//! something costs the same for one listener and for thousands, and a listener that sleeps costs nothing.

pub mod announce;
pub mod coalesce;
mod company;
pub mod courier;
pub mod cursor;
mod feed;
pub mod feeds;
mod history;
pub mod house;
pub mod linked;
mod mark;
pub mod members;
mod opened;
mod passing;
pub mod seats;
pub mod settings;
pub mod stats;
mod wire;

pub use coalesce::Word;
pub use courier::Courier;
pub use courier::CourierLimits;
pub use courier::Parcel;
pub use cursor::Cursor;
pub use cursor::Heard;
pub use feeds::Feeds;
pub use feeds::Listening;
pub use feeds::RoomsFull;
pub use house::FeedLimits;
pub use linked::Logs;
pub use linked::Waits;
pub use members::MemberView;
pub use seats::RoomFull;
pub use seats::Seat;
pub use settings::RoomSettings;
pub use settings::SettingsPatch;
pub use stats::RoomStats;

#[cfg(test)]
mod tests;
