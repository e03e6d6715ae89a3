//! Log set-up.
//!
//! What a log line may hold: what happened, which route, which issuer, the keyed correlation id of a token. Never a
//! token, a claim, an address, a path or a query of a request (OP-01, OP-02).

use std::io;

use tracing_subscriber::EnvFilter;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Writes the process's log to standard error, as `RUST_LOG` filters it; from `info` up without it. To be called
/// once; a second call changes nothing.
pub fn start(format: Format) {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    let started = match format {
        Format::Text => log.with_ansi(false).try_init(),
        Format::Json => log.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("a log was set up before");
    }
}
