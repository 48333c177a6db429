//! What arrives in a document's inbox.

use syncline::document::core::Core;
use syncline::document::core::ReaderId;
use syncline::document::core::Ticket;
use syncline::document::port::Port;
use syncline::document::request::Member;
use syncline::document::request::Request;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;

/// What may be in a document's inbox.
#[derive(Debug)]
pub(crate) enum Mail {
    Join { reader: ReaderId, access: Access, member: Option<Member>, port: Port },
    Rights { reader: ReaderId, access: Access },
    Leave { reader: ReaderId },
    Message { reader: ReaderId, message: DocumentMessage },
    Drained { reader: ReaderId },
    Ask { ticket: Ticket, request: Request },
}

/// Whether a mail, and everything behind it, waits for the engine.
pub(crate) fn must_wait(core: &Core<Port>, mail: &Mail) -> bool {
    match mail {
        Mail::Message { message, .. } => core.must_wait(Some(message)),
        Mail::Ask { .. } => core.must_wait(None),
        Mail::Join { .. } | Mail::Rights { .. } | Mail::Leave { .. } | Mail::Drained { .. } => false,
    }
}
