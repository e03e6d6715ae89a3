//! The records, where many threads look at them while some are added.

use std::sync::PoisonError;

use symbolon_core::{BegunAt, KeptJwt, Name, RecordType};

use super::records::Records;
use crate::sync::{AtomicU64, Ordering, RwLock, RwLockReadGuard};

/// Records, and a count by which a token that was checked need not be checked again before there are new ones.
#[derive(Default)]
pub(crate) struct Held {
    records: RwLock<Records>,
    additions: AtomicU64,
}

/// Against how many additions to the records a token was checked, one more; zero if it never was.
#[derive(Default)]
pub struct Checked(AtomicU64);

impl Held {
    /// Changes the records. When it returns, nobody is told of a token that it lives who asks from then on and whom
    /// they kill. `change` says whether there may be new ones.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Records) -> bool) -> bool {
        let added = change(&mut self.records.write().unwrap_or_else(PoisonError::into_inner));
        if added {
            // After they are there: whoever sees the count sees them.
            self.additions.fetch_add(1, Ordering::AcqRel);
        }
        added
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Records> {
        self.records.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether none was ever added.
    pub(super) fn had_none(&self) -> bool {
        self.additions.load(Ordering::Acquire) == 0
    }

    /// Which of the names a record kills, of a token begun then.
    pub(super) fn kill(&self, names: impl IntoIterator<Item = Name>, begun: BegunAt) -> Option<RecordType> {
        let records = self.read();
        let mut names = names.into_iter();
        let killed = names.find(|name| records.kill(*name, begun));
        killed.map(Name::kind)
    }

    /// Whether a record kills what is kept of a token, and of which type. It is looked at only if there were additions
    /// since it was the last time.
    pub(crate) fn kill_kept(&self, kept: &KeptJwt, checked: &Checked) -> Option<RecordType> {
        // Counted before it is looked: what is added in between is looked at the next time.
        let additions = self.additions.load(Ordering::Acquire) + 1;
        if checked.0.load(Ordering::Acquire) == additions {
            return None;
        }
        let killed = self.kill(kept.names(), kept.begun());
        if killed.is_none() {
            checked.0.store(additions, Ordering::Release);
        }
        killed
    }
}
