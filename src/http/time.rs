//! Times as people and programs read them over REST.

pub use crate::clock::rfc3339;
