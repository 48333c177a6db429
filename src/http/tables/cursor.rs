//! Where a page ended, as text that a caller hands back.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::errand::Mark;
use crate::http::problem::Problem;
use crate::name::DocName;
use crate::table::command::Position;

/// The one form there is so far.
const FORM: u8 = 1;
/// Bytes of the table's mark.
const MARK_BYTES: usize = 8;

/// A cursor holds a mark of its table: in another one the same place means nothing.
pub(super) fn encode(doc: &DocName, position: &Position) -> String {
    let mut bytes = vec![FORM];
    bytes.extend(mark(doc));
    // Record ids have no NUL.
    bytes.extend(position.id.as_bytes());
    bytes.push(0);
    bytes.extend(position.order.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// # Errors
/// `INVALID_PAYLOAD` when this is no cursor of this table.
pub(super) fn decode(doc: &DocName, cursor: &str) -> Result<Position, Problem> {
    position(doc, cursor).ok_or_else(|| Problem::wrong("cursor", "this is no cursor of this table; begin without one"))
}

fn position(doc: &DocName, cursor: &str) -> Option<Position> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (form, rest) = bytes.split_first()?;
    let (own, place) = rest.split_at_checked(MARK_BYTES)?;
    let (id, order) = std::str::from_utf8(place).ok()?.split_once('\0')?;
    let is_ours = *form == FORM && own == mark(doc) && !id.is_empty();
    is_ours.then(|| Position { order: order.to_owned(), id: id.to_owned() })
}

fn mark(doc: &DocName) -> [u8; MARK_BYTES] {
    let mut mark = Mark::default();
    mark.add(doc.as_str().as_bytes());
    mark.value().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(name: &str) -> DocName {
        DocName::parse(name).unwrap()
    }

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        for (order, id) in [("a0V", "r1"), ("", "r1"), ("ü\0", "🙂")] {
            let position = Position { order: order.to_owned(), id: id.to_owned() };
            assert_eq!(decode(&doc("table:T"), &encode(&doc("table:T"), &position)).unwrap(), position);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let position = Position { order: "a0".to_owned(), id: "r1".to_owned() };
        let foreign = encode(&doc("table:other"), &position);
        let nameless = encode(&doc("table:T"), &Position { id: String::new(), ..position });
        let own = encode(&doc("table:T"), &Position { order: "a0".to_owned(), id: "r1".to_owned() });
        for cursor in ["", "%", "AQ", "x".repeat(4_000).as_str(), &foreign, &nameless, &own[..own.len() - 6]] {
            assert!(decode(&doc("table:T"), cursor).is_err(), "{cursor}");
        }
    }
}
