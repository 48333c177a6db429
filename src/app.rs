//! To be written.

use std::future::Future;

use crate::config::Config;

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
#[error("this build cannot serve yet")]
pub struct ServeError;

/// Runs the server until it is told to stop.
pub fn serve(_config: Config) -> impl Future<Output = Result<(), ServeError>> {
    std::future::ready(Err(ServeError))
}
