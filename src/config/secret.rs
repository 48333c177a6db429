//! Text that must not be seen.

use std::fmt;

/// A key, a password, an address with a password: usable, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: only for the one who needs it to sign, verify or connect.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// An address with its user, password and query taken out: for people and logs.
#[must_use]
pub fn without_password(url: &str) -> String {
    let shown = url.split_once('?').map_or_else(|| url.to_owned(), |(before, _)| format!("{before}?[hidden]"));
    let Some((scheme, rest)) = shown.split_once("//") else {
        return shown;
    };
    let host_ends = rest.find('/').unwrap_or(rest.len());
    // The last `@` before the path: a password may contain one itself. One with a `/` hides more than it must.
    match rest[..host_ends].rfind('@').or_else(|| rest.rfind('@')) {
        Some(at) => format!("{scheme}//[hidden]@{}", &rest[at + 1..]),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[hidden]");
    }

    #[test]
    fn an_address_is_shown_without_what_opens_it() {
        for (url, shown) in [
            ("sled:", "sled:"),
            ("https://idp.example/keys", "https://idp.example/keys"),
            ("redis://user:p@ss@host:6379/0", "redis://[hidden]@host:6379/0"),
            ("postgres://u:p/w@host/db", "postgres://[hidden]@host/db"),
            ("https://host/x?key=abc", "https://host/x?[hidden]"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
