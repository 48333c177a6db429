//! Black box and suite tests, one binary, a file a story.

mod conformance;
mod store_damage;
