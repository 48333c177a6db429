//! Rooms: what happened in them, and who listens.
//!
//! ```text
//!  document actor ─changed─┐                         ┌─▶ cursor ─▶ server-sent events
//!                          ├─▶ Feed: history, wake ──┤
//!  application ──publish───┘    (one for each room)  └─▶ cursor …
//! ```
//!
//! Nobody who listens has a queue: each has a place in the room's history, and reads on when it is woken. Telling
//! something costs the same for one listener and for thousands, and a listener that sleeps costs nothing.

pub mod courier;
pub mod feed;
pub mod feeds;
mod history;

pub use courier::Courier;
pub use courier::CourierLimits;
pub use courier::Parcel;
pub use feed::Cursor;
pub use feed::Heard;
pub use feeds::FeedLimits;
pub use feeds::Feeds;
pub use feeds::Listening;

#[cfg(test)]
mod tests;
