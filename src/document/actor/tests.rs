//! What a document weighs at rest.

use super::*;

fn future_size<A, F: Future>(_: impl Fn(A) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_document_at_rest_is_small() {
    // The actor, which is in a box, and the future that runs it.
    let bytes = size_of::<Actor>() + future_size(Actor::run);
    assert!(bytes <= 2048, "{bytes}");
}
