//! The names of the keys.

use symbolon_core::{EntryKey, base64url};

use crate::store::LedgerKey;

/// Names under one prefix.
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn under(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// An entry or tombstone.
    pub(super) fn entry(&self, key: EntryKey) -> String {
        format!("{}:e:{}", self.prefix, base64url::encode(key.as_bytes()))
    }

    /// A line of the ledger.
    pub(super) fn grant(&self, key: LedgerKey) -> String {
        format!("{}:g:{}", self.prefix, base64url::encode(&key))
    }

    /// The log. What belongs to it is in the same slot of a Cluster, by the braces.
    pub(super) fn log(&self) -> String {
        format!("{}:{{log}}", self.prefix)
    }

    /// 16 random octets that were made with it.
    pub(super) fn log_identity(&self) -> String {
        format!("{}:{{log}}:id", self.prefix)
    }

    /// The replication id that it was last appended under.
    pub(super) fn log_under(&self) -> String {
        format!("{}:{{log}}:under", self.prefix)
    }
}
