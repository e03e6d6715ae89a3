//! What servers answer, taken apart.

use redis::{ServerError, ServerErrorKind, Value};
use symbolon_core::Mark;

use super::Address;
use crate::store::StoreError;

/// Where a key is, if not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// For good.
    Moved(Address),
    /// For this once, while its slot is under way.
    Ask(Address),
}

/// The octets of an answer, if it has some.
pub(super) fn octets(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(octets) => Some(octets),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.into_bytes()),
        _ => None,
    }
}

pub(super) fn text(value: Value) -> Option<String> {
    String::from_utf8(octets(value)?).ok()
}

pub(super) fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        // RESP3
        Value::Map(pairs) => Some(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
        _ => None,
    }
}

/// `<milliseconds>-<counter>`.
pub(super) fn id(value: Value) -> Option<Mark> {
    let text = text(value)?;
    let (milliseconds, counter) = text.split_once('-')?;
    Some(Mark {
        milliseconds: milliseconds.parse().ok()?,
        counter: counter.parse().ok()?,
    })
}

/// The same, as servers read it.
pub(super) fn write_id(id: Mark) -> String {
    format!("{}-{}", id.milliseconds, id.counter)
}

/// The answer, unless it is a refusal.
pub(super) fn granted(value: Value) -> Result<Value, StoreError> {
    match value {
        Value::ServerError(error) => Err(refused(&error)),
        value => Ok(value),
    }
}

/// Where it is to be asked instead, if it says so. `tls` is how that server is reached.
pub(super) fn elsewhere(value: &Value, asked: &Address) -> Option<Elsewhere> {
    let Value::ServerError(error) = value else {
        return None;
    };
    let kind = error.kind()?;
    if !matches!(kind, ServerErrorKind::Moved | ServerErrorKind::Ask) {
        return None;
    }
    let (host, port) = error
        .details()?
        .split_ascii_whitespace()
        .nth(1)?
        .rsplit_once(':')?;
    let address = Address {
        // A node that does not know its own name is where it was asked.
        host: if host.is_empty() {
            asked.host.clone()
        } else {
            host.to_owned()
        },
        port: port.parse().ok()?,
        tls: asked.tls,
    };
    Some(match kind {
        ServerErrorKind::Moved => Elsewhere::Moved(address),
        _ => Elsewhere::Ask(address),
    })
}

/// Whether there is nothing under the key that was asked about.
pub(super) fn says_no_such_key(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.details() == Some("no such key"))
}

/// Whether only a server answers so that is not the primary, or not any more.
pub(super) fn is_of_no_primary(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if matches!(error.code(), "READONLY" | "UNBLOCKED" | "MASTERDOWN"))
}

/// What a refusal means. What the server says besides may repeat what it was sent, and goes nowhere.
fn refused(error: &ServerError) -> StoreError {
    let why = match error.code() {
        "OOM" => return StoreError::Full,
        "NOPERM" => "its user may not do that: docs/stores.md has the permissions that are needed",
        "NOAUTH" => "it wants a password",
        "READONLY" | "UNBLOCKED" | "MASTERDOWN" => "it is not the primary any more",
        "MISCONF" => "it cannot write to its disk",
        "NOREPLICAS" => "it has fewer replicas than its own settings want",
        "LOADING" => "it is loading its data",
        "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" => "the Cluster is changing",
        "WRONGTYPE" => "something else stands where its keys are",
        _ => "it refused",
    };
    StoreError::Unavailable(why)
}

/// An answer that no server of this kind gives.
pub(super) const STRANGE: StoreError = StoreError::Unavailable("it answers something else");

/// A write that is there, and not where it has to be as well.
pub(super) const TOO_FEW: StoreError = StoreError::Unavailable("too few of its replicas acknowledged");
