//! Whether a text is JSON, to a bounded depth, without building anything.
//!
//! Embeds and formats carry JSON text. The engine parses it while it decodes, recursively, so a malformed or a deep one
//! must be known before. A lone surrogate (`"\ud800"`) is refused although `JSON.stringify` can write one: the engine's
//! parser refuses it too.

use crate::limits::ANY_DEPTH_MAX;

/// What is wrong with a text that should be JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Syntax,
    Depth,
}

/// Checks one JSON text.
pub(super) fn check(text: &str) -> Result<(), Fault> {
    if matches!(text, "null" | "true" | "false" | "\"\"" | "{}") {
        return Ok(());
    }
    let mut parser = Parser { bytes: text.as_bytes(), at: 0 };
    parser.value(0)?;
    parser.space();
    if parser.at == parser.bytes.len() { Ok(()) } else { Err(Fault::Syntax) }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        self.space();
        self.literal(&[byte])
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Fault> {
        if !self.bytes[self.at..].starts_with(literal) {
            return Err(Fault::Syntax);
        }
        self.at += literal.len();
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > ANY_DEPTH_MAX {
            return Err(Fault::Depth);
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.list(b'}', |parser| {
                parser.space();
                parser.string()?;
                parser.expect(b':')?;
                parser.value(depth + 1)
            }),
            Some(b'[') => self.list(b']', |parser| parser.value(depth + 1)),
            Some(b'"') => self.string(),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => self.number(),
        }
    }

    fn list(&mut self, close: u8, mut entry: impl FnMut(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.at += 1;
        self.space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            entry(self)?;
            self.space();
            if self.peek() == Some(close) {
                self.at += 1;
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn string(&mut self) -> Result<(), Fault> {
        self.literal(b"\"")?;
        loop {
            let byte = self.peek().ok_or(Fault::Syntax)?;
            self.at += 1;
            match byte {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                0..=0x1f => return Err(Fault::Syntax),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        let byte = self.peek().ok_or(Fault::Syntax)?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.hex4()? {
                0xd800..0xdc00 => {
                    self.literal(b"\\u")?;
                    if (0xdc00..0xe000).contains(&self.hex4()?) { Ok(()) } else { Err(Fault::Syntax) }
                }
                0xdc00..0xe000 => Err(Fault::Syntax),
                _ => Ok(()),
            },
            _ => Err(Fault::Syntax),
        }
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(Fault::Syntax)?;
        self.at += 4;
        digits.iter().try_fold(0, |value, &digit| {
            let digit = char::from(digit).to_digit(16).ok_or(Fault::Syntax)?;
            Ok(value << 4 | digit)
        })
    }

    fn number(&mut self) -> Result<(), Fault> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1
        } else {
            self.digits()?
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        // The engine refuses numbers that do not fit a double; the JSON grammar does not.
        let number = std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| Fault::Syntax)?;
        match number.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(()),
            _ => Err(Fault::Syntax),
        }
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(Fault::Syntax) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_the_parser_that_the_engine_uses(text in r#"[\[\]{}",:0-9eE.+\-a-f \\untrl/]{0,24}"#) {
            let expected = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            prop_assert_eq!(check(&text).is_ok(), expected, "{}", text);
        }
    }

    #[test]
    fn agrees_on_the_odd_ones() {
        let odd = [
            "",
            " ",
            "1",
            "-0",
            "01",
            "1.",
            ".5",
            "1e5",
            "1e",
            "1e999",
            "-1e999",
            "nul",
            "nullx",
            "\"\\ud83d\\ude00\"",
            "\"\\ud800\"",
            "\"\\ude00\"",
            "\"\\u12\"",
            "\"\n\"",
            "[1,]",
            "[,]",
            "{\"a\":1,}",
            "{\"a\"}",
            "{a:1}",
            " { \"a\" : [ 1 , 2 ] } ",
            "\"é\"",
            "[",
            "{",
            "\"",
            "\\",
            "[1 2]",
            "1 2",
            "\u{feff}1",
            "NaN",
            "-",
            "1e-400",
        ];
        for text in odd {
            assert_eq!(check(text).is_ok(), serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(check(&deep(ANY_DEPTH_MAX + 1)), Ok(()));
        assert_eq!(check(&deep(ANY_DEPTH_MAX + 2)), Err(Fault::Depth));
        assert_eq!(check(&deep(100_000)), Err(Fault::Depth));
    }
}
