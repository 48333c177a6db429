//! Packets of Socket.IO, protocol revision 5, as they stand in one text message of Engine.IO. Only what is said around the
//! JSON is read here; the JSON itself is for whoever knows what it means.
//!
//! ```text
//!  type [attachments-] [/namespace,] [id] [JSON]        0 connect  1 disconnect  2 event  3 ack  4 error  5, 6 binary
//! ```
//! Source: <https://github.com/socketio/socket.io-protocol>, revision 5.

/// The namespace that every client has without asking.
pub const ROOT: &str = "/";
/// Longest namespace: none but the root exists, so this only bounds what is repeated back.
const NAMESPACE_BYTES_MAX: usize = 128;

/// One packet of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is.
    pub kind: Kind,
    /// [`ROOT`] where none is named.
    pub namespace: &'a str,
    /// Asks for an acknowledgement, or is one.
    pub id: Option<u64>,
    /// JSON, or nothing.
    pub payload: &'a str,
}

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It wants into the namespace; the payload is what it brings to prove who it is.
    Connect,
    /// It leaves.
    Disconnect,
    /// The payload is an array: a name, then arguments.
    Event,
    /// The payload is an array of arguments.
    Ack,
    /// An event or an acknowledgement with so many binary attachments, which follow as messages of their own.
    Binary {
        /// How many.
        attachments: usize,
    },
}

/// It is no packet of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no packet of Socket.IO")]
pub struct Malformed;

/// Reads one text message.
///
/// # Errors
/// [`Malformed`], also for packets that only a server sends.
pub fn parse(text: &str) -> Result<Packet<'_>, Malformed> {
    let mut rest = text.get(1..).ok_or(Malformed)?;
    let kind = match text.as_bytes()[0] {
        b'0' => Kind::Connect,
        b'1' => Kind::Disconnect,
        b'2' => Kind::Event,
        b'3' => Kind::Ack,
        b'5' | b'6' => {
            let (attachments, behind) = number(rest);
            rest = behind.strip_prefix('-').ok_or(Malformed)?;
            Kind::Binary { attachments: usize::try_from(attachments.ok_or(Malformed)?).map_err(|_| Malformed)? }
        }
        _ => return Err(Malformed),
    };
    let mut namespace = ROOT;
    if rest.starts_with('/') {
        let end = rest.find(',').unwrap_or(rest.len());
        // What stands behind a question mark was a query once, and names nothing.
        namespace = rest[..end].split('?').next().unwrap_or(ROOT);
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    if namespace.len() > NAMESPACE_BYTES_MAX {
        return Err(Malformed);
    }
    let (id, payload) = number(rest);
    if id.is_none() && payload.len() != rest.len() {
        return Err(Malformed); // Digits that are no number.
    }
    Ok(Packet { kind, namespace, id, payload })
}

/// The digits at the beginning, and what follows them. `None` for a number beyond 2^53, or for no digit at all.
fn number(text: &str) -> (Option<u64>, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (digits.parse().ok().filter(|number| *number < 1 << 53), rest)
}

/// Lets a client into the root namespace, as `sid`.
#[must_use]
pub fn connect(sid: &str) -> String {
    format!("0{{\"sid\":{}}}", quoted(sid))
}

/// Keeps a client out of a namespace. `error` is a JSON object with `message`, and `data` where there is more to say.
#[must_use]
pub fn connect_error(namespace: &str, error: &str) -> String {
    if namespace == ROOT { format!("4{error}") } else { format!("4{namespace},{error}") }
}

/// Ends a client's stay. It does not come back by itself.
pub const DISCONNECT: &str = "1";

/// Tells an event: a name, and its payload as JSON. With an `id` the client is to acknowledge it.
#[must_use]
pub fn event(id: Option<u64>, name: &str, payload: &str) -> String {
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    let name = quoted(name);
    let mut packet = String::with_capacity(id.len() + name.len() + payload.len() + 4);
    for part in ["2", &id, "[", &name, ",", payload, "]"] {
        packet.push_str(part);
    }
    packet
}

/// Acknowledges an event of the client, with one argument as JSON.
#[must_use]
pub fn ack(id: u64, payload: &str) -> String {
    format!("3{id}[{payload}]")
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            control if control.is_control() && u32::from(control) < 0x20 => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(kind: Kind, namespace: &'static str, id: Option<u64>, payload: &'static str) -> Packet<'static> {
        Packet { kind, namespace, id, payload }
    }

    /// As socket.io-parser 4.2 writes them.
    #[test]
    fn packets_of_clients() {
        for (text, want) in [
            ("0", packet(Kind::Connect, "/", None, "")),
            ("0{\"token\":\"t\"}", packet(Kind::Connect, "/", None, "{\"token\":\"t\"}")),
            ("0/admin,{\"a\":1}", packet(Kind::Connect, "/admin", None, "{\"a\":1}")),
            ("0/admin?x=1,", packet(Kind::Connect, "/admin", None, "")),
            ("1", packet(Kind::Disconnect, "/", None, "")),
            ("1/admin,", packet(Kind::Disconnect, "/admin", None, "")),
            ("2[\"a\",1]", packet(Kind::Event, "/", None, "[\"a\",1]")),
            ("212[\"a\"]", packet(Kind::Event, "/", Some(12), "[\"a\"]")),
            ("2/admin,7[\"a\"]", packet(Kind::Event, "/admin", Some(7), "[\"a\"]")),
            ("30[]", packet(Kind::Ack, "/", Some(0), "[]")),
            (
                "51-[\"a\",{\"_placeholder\":true,\"num\":0}]",
                packet(Kind::Binary { attachments: 1 }, "/", None, "[\"a\",{\"_placeholder\":true,\"num\":0}]"),
            ),
            ("61-/x,3[]", packet(Kind::Binary { attachments: 1 }, "/x", Some(3), "[]")),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_packet_is_malformed() {
        let long = format!("2/{},[\"a\"]", "n".repeat(200));
        for text in ["", "4{}", "7", "x", "é", "5[\"a\"]", "5-[]", "299999999999999999999[\"a\"]", &long] {
            assert_eq!(parse(text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn packets_of_the_server() {
        assert_eq!(connect("a\"b"), "0{\"sid\":\"a\\\"b\"}");
        assert_eq!(connect_error("/", "{}"), "4{}");
        assert_eq!(connect_error("/x", "{}"), "4/x,{}");
        assert_eq!(event(None, "grid:x\n", "{}"), "2[\"grid:x\\u000a\",{}]");
        assert_eq!(event(Some(3), "a", "1"), "23[\"a\",1]");
        assert_eq!(ack(5, "{\"a\":1}"), "35[{\"a\":1}]");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*", head in "[0-9]{0,3}[-/]?") {
            let _ = parse(&text);
            let _ = parse(&format!("{head}{text}"));
        }

        #[test]
        fn what_is_written_can_be_read(id in proptest::option::of(0u64..1 << 53), name in "\\PC{0,20}") {
            let text = event(id, &name, "{}");
            let packet = parse(&text).unwrap();
            prop_assert_eq!((packet.kind, packet.id), (Kind::Event, id));
            let is_whole = packet.payload.starts_with("[\"") && packet.payload.ends_with("\",{}]");
            prop_assert!(is_whole);
        }
    }
}
