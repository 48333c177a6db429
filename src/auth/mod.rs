//! Stand-in: a token is `sub;pattern=level;…`.
use std::sync::Arc;

use syncline_protocol::ErrorCode;

/// x
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// x
    None,
    /// x
    Read,
    /// x
    Write,
    /// x
    Admin,
}
/// x
pub struct AuthError {
    /// x
    pub code: ErrorCode,
    /// x
    pub message: String,
}
/// x
#[derive(Clone)]
pub struct Identity {
    /// x
    pub sub: Arc<str>,
    /// x
    pub name: Option<Arc<str>>,
    access: Vec<(String, Level)>,
}
impl Identity {
    /// x
    pub fn level(&self, name: &str) -> Level {
        self.access
            .iter()
            .filter(|(p, _)| p == name || p.strip_suffix('*').is_some_and(|p| name.starts_with(p)))
            .max_by_key(|(p, _)| p.len())
            .map_or(Level::None, |(_, l)| *l)
    }
}
/// x
pub struct Auth {
    /// x
    pub dev: bool,
}
impl Auth {
    /// x
    pub async fn authenticate(&self, token: Option<&str>) -> Result<Identity, AuthError> {
        if self.dev {
            return Ok(Identity { sub: "".into(), name: None, access: vec![("*".into(), Level::Admin)] });
        }
        let no = || AuthError { code: ErrorCode::AuthFailed, message: "no or bad token".into() };
        let mut parts = token.ok_or_else(no)?.split(';');
        let sub = parts.next().ok_or_else(no)?;
        let mut access = vec![];
        for part in parts {
            let (p, l) = part.split_once('=').ok_or_else(no)?;
            let l = match l {
                "admin" => Level::Admin,
                "write" => Level::Write,
                "read" => Level::Read,
                "none" => Level::None,
                _ => return Err(no()),
            };
            access.push((p.to_owned(), l));
        }
        Ok(Identity { sub: sub.into(), name: None, access })
    }
}
