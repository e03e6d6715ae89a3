//! What the roles of one process share, so that they decide alike.

use std::sync::Arc;

use symbolon_core::Secrets;

use crate::clock::Clock;
use crate::keys::Issuers;
use crate::metrics::Metrics;
use crate::revocations::{self, Revocations};
use crate::store::{EntryStore, Measured};

/// The parts that more than one role needs.
#[derive(Clone)]
pub struct Shared {
    /// Whose tokens there are.
    pub issuers: Arc<Issuers>,
    /// Where entries are, and the log.
    pub store: Arc<dyn EntryStore>,
    /// What is known of the log.
    pub revocations: Arc<Revocations>,
    /// The deployment secrets.
    pub secrets: Secrets,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Shared {
    /// The parts around a store. The log has not been read yet.
    pub fn new(
        issuers: Arc<Issuers>,
        store: Arc<dyn EntryStore>,
        revocations: revocations::Config,
        secrets: Secrets,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        let store: Arc<dyn EntryStore> = Arc::new(Measured::new(store, metrics.clone(), clock.clone()));
        Self {
            issuers,
            revocations: Arc::new(Revocations::new(
                revocations,
                store.clone(),
                clock.clone(),
                secrets.clone(),
            )),
            store,
            secrets,
            clock,
            metrics,
        }
    }
}
