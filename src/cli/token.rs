//! `syncline token`: a token to try things out with, from the configured secret.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::auth::Level;
use crate::auth::jwt;
use crate::auth::jwt::NewToken;
use crate::cli::Failure;
use crate::cli::Settings;
use crate::cli::print;
use crate::clock::Clock;
use crate::config::KeySource;
use crate::config::Secret;

/// A development token needs no longer life than a year.
const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Arguments of `syncline token`.
#[derive(Args)]
pub(crate) struct TokenArgs {
    /// The user
    #[arg(long)]
    sub: String,
    /// What the user may do: PATTERN=none|read|write|admin, several times or separated by commas
    #[arg(long, value_name = "PATTERN=LEVEL", value_delimiter = ',', value_parser = access)]
    access: Vec<(String, Level)>,
    /// How long the token is good: 90s, 15m, 1h, 7d
    #[arg(long, default_value = "1h", value_parser = ttl)]
    ttl: Duration,
    /// The user's name, for others to see
    #[arg(long)]
    name: Option<String>,
    /// The user's mail address
    #[arg(long)]
    email: Option<String>,
    /// The token's own id, to revoke it alone
    #[arg(long)]
    jti: Option<String>,
    /// A TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: &TokenArgs) -> Result<(), Failure> {
    let secret = secret(args.config.clone())?;
    let iat = Clock::start().now().wall_ms / 1000;
    let token = NewToken {
        sub: &args.sub,
        iat,
        exp: iat + args.ttl.as_secs(),
        name: args.name.as_deref(),
        email: args.email.as_deref(),
        jti: args.jti.as_deref(),
        access: args.access.iter().cloned().collect::<BTreeMap<_, _>>(),
    };
    let text = jwt::mint(&secret, &token).map_err(|error| Failure::Configuration(error.to_string()))?;
    print(&format!("{text}\n"))
}

fn secret(config: Option<PathBuf>) -> Result<Secret, Failure> {
    let settings = Settings { config, ..Settings::default() };
    let why = match settings.load_without_key()?.config.auth.key {
        Some(KeySource::Secret(secret)) => return Ok(secret),
        Some(_) => "tokens are checked with a public key here: only the owner of the private key can make them",
        None => "no secret is configured: set auth.secret (SYNCLINE_AUTH__SECRET); with --dev no token is needed",
    };
    Err(Failure::Configuration(why.into()))
}

fn access(text: &str) -> Result<(String, Level), String> {
    let wrong = || format!("{text:?} is not PATTERN=LEVEL with a level of none, read, write or admin");
    let (pattern, level) = text.rsplit_once('=').filter(|(pattern, _)| !pattern.is_empty()).ok_or_else(wrong)?;
    let level = match level {
        "none" => Level::None,
        "read" => Level::Read,
        "write" => Level::Write,
        "admin" => Level::Admin,
        _ => return Err(wrong()),
    };
    Ok((pattern.to_owned(), level))
}

fn ttl(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time from 1s to 366d, for example 90s, 15m, 1h or 7d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[digits..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    let seconds = text[..digits].parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
    Some(Duration::from_secs(seconds)).filter(|ttl| !ttl.is_zero() && *ttl <= TTL_MAX).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("1h", 3600), ("366d", 366 * 86_400)] {
            assert_eq!(ttl(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0", "h", "-1h", "1.5h", "367d", "1 h", "99999999999999999999d", "1ü"] {
            assert!(ttl(text).is_err(), "{text}");
        }
    }

    #[test]
    fn grants() {
        assert_eq!(access("table:*=write"), Ok(("table:*".into(), Level::Write)));
        assert_eq!(access("a=b=read"), Ok(("a=b".into(), Level::Read)));
        for text in ["", "*", "=read", "*=owner", "*=Read", "*="] {
            assert!(access(text).is_err(), "{text}");
        }
    }
}
