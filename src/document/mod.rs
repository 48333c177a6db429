//! Stand-in.
pub mod json;
pub mod request;
