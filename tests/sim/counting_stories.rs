//! Stories of clients that count what is unsaved: what went wrong once in a random history.

use bytes::Bytes;
use syncline::document::core::Effect;
use syncline::document::core::Input;
use syncline::document::core::ReaderId;
use syncline::document::request::Receipt;
use syncline::store::Seq;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;

use crate::stories::Desk;
use crate::stories::Writer;

const CAROL: ReaderId = ReaderId(3);

fn says(desk: &mut Desk, message: DocumentMessage) {
    desk.put(Input::Message { reader: CAROL, message });
}

/// Carol comes, with so many structs of client 7 in her document.
fn with_carol(access: Access, clock: u8) -> Desk {
    let mut desk = Desk::shared();
    desk.put(Input::Join { reader: CAROL, access, receipt: Receipt::Status, member: None, port: () });
    says(&mut desk, DocumentMessage::SyncStep1(vec![1, 7, clock].into()));
    desk
}

/// What Carol is told when everything is saved: so many saved, so many refused.
fn told(mut desk: Desk) -> (u32, u32) {
    let mut told = (0, 0);
    loop {
        let effects = desk.take();
        let mut appended = Vec::new();
        for effect in effects {
            match effect {
                Effect::Status { reader: CAROL, saved: true, count } => told.0 += count,
                Effect::Status { reader: CAROL, saved: false, count } => told.1 += count,
                Effect::Append { batch, .. } => appended.push(batch),
                _ => {}
            }
        }
        if appended.is_empty() {
            return told;
        }
        for batch in appended {
            desk.put(Input::Appended { batch, result: Ok(Seq(batch)) });
        }
    }
}

/// The socket is up, and she types before the first frame from the server has arrived; only then comes what had waited.
#[test]
fn what_is_said_before_the_waiting_changes_does_not_make_them_count() {
    let writer = Writer::new(7);
    let (first, deletion) = (writer.types("ab"), writer.clears());
    let (waited, live) = (writer.types("c"), writer.types("d"));
    let mut desk = with_carol(Access::Write, 3);
    for update in [live, deletion, waited] {
        says(&mut desk, DocumentMessage::Update(update));
    }
    says(&mut desk, DocumentMessage::SyncStep2(first));
    assert_eq!(told(desk), (2, 0), "the letter that was typed, and the answer");
}

/// A page leaves its channel and takes it again at once: it hears the question that was put to it before as well.
#[test]
fn an_answer_that_was_not_asked_for_is_not_counted() {
    let update = Writer::new(7).types("a");
    let mut desk = with_carol(Access::Write, 1);
    for _ in 0..2 {
        says(&mut desk, DocumentMessage::SyncStep2(update.clone()));
    }
    assert_eq!(told(desk), (1, 0));
}

#[test]
fn refused_changes_that_had_waited_are_answered_once_with_the_rest() {
    let writer = Writer::new(7);
    let (waited, live) = (writer.types("a"), writer.types("b"));
    let whole = Bytes::from(yrs::merge_updates_v1([waited.as_ref(), live.as_ref()]).unwrap());
    let mut desk = with_carol(Access::Read, 1);
    for update in [waited, live] {
        says(&mut desk, DocumentMessage::Update(update));
    }
    says(&mut desk, DocumentMessage::SyncStep2(whole));
    assert_eq!(told(desk), (0, 2), "the letter that was typed, and the answer");
}
