//! Asking other servers over HTTP, as far as keys and rights need it: no redirects, bounded time, bounded bytes, and no
//! address in a message, because it may hold a password.

use std::time::Duration;

use reqwest::Client;
use reqwest::Response;
use reqwest::StatusCode;

use crate::auth::keys::KeyError;
use crate::config::Secret;

/// Why there is no answer. Names no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct FetchError(pub(super) String);

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        Self(error.without_url().to_string())
    }
}

impl From<FetchError> for KeyError {
    fn from(FetchError(why): FetchError) -> Self {
        Self(why)
    }
}

/// A client for one address. `time_max` is for a whole exchange.
pub(super) fn client(url: &Secret, time_max: Duration) -> Result<Client, KeyError> {
    // Redirects are not followed: whom to believe is the operator's decision.
    let builder = Client::builder()
        .timeout(time_max)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("syncline/", env!("CARGO_PKG_VERSION")));
    // Plain http stays on this machine or its network, which no proxy can reach.
    let builder = if url.reveal().starts_with("http:") { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| KeyError(format!("cannot make requests: {error}")))
}

/// The body of a good answer.
pub(super) async fn body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
    if response.status() != StatusCode::OK {
        return Err(FetchError(format!("the answer was {}", response.status())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > bytes_max {
            return Err(FetchError(format!("the answer has more than {bytes_max} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
