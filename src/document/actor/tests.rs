//! What a document weighs at rest.

use super::*;

fn future_size<A, F: Future>(_: impl Fn(A) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_document_at_rest_is_small() {
    assert!(size_of::<Actor>() <= 1536, "{}", size_of::<Actor>());
    // Apart from the actor itself, which is in a box.
    let running = future_size(Actor::run);
    assert!(running <= 512, "{running}");
}
