//! The rows of the fault list, a file each. A row starts what it needs, lets clients work, does what its fault is, and
//! gives what was measured; it says in words what it does, beside the code that does it.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use crate::judge::Measured;
use crate::redis_server::Kind;

mod corrupted_entries;
mod failover;
mod hostile_store;
mod introspected;
mod issuers_down;
mod killed;
mod late_publish;
mod lost_records;
mod miss_flood;
mod partition;
mod replica_lag;
mod store_down_at_issue;
mod store_down_at_use;
mod store_killed;
mod store_slow;
mod thundering_herd;
mod wrong_clocks;

/// One row.
pub(crate) struct Row {
    /// In the list of faults; several rows can have the same.
    pub(crate) number: &'static str,
    /// In one word, to ask for it.
    pub(crate) name: &'static str,
    /// What the fault is.
    pub(crate) fault: &'static str,
    /// What is done, and what is right then.
    pub(crate) done: &'static str,
    pub(crate) run: fn(Scene) -> Pin<Box<dyn Future<Output = Measured>>>,
}

/// Where a row is run.
pub(crate) struct Scene {
    /// On which servers.
    pub(crate) kind: Kind,
    /// Whether it is to be short.
    pub(crate) quick: bool,
    /// The program.
    pub(crate) symbolon: PathBuf,
}

/// All of them, in the order of the list.
pub(crate) const ROWS: &[Row] = &[
    store_down_at_issue::ROW,
    store_killed::ROW,
    store_down_at_use::ROW,
    store_slow::ROW,
    partition::ROW,
    introspected::ROW,
    failover::DEATH_ONE,
    failover::DEATH_NONE,
    failover::WAKES,
    failover::ISOLATED_READ,
    failover::ISOLATED,
    failover::SPLIT_ALL,
    failover::SPLIT_NONE,
    lost_records::ROW,
    replica_lag::ROW,
    late_publish::ROW,
    issuers_down::ROW,
    wrong_clocks::ROW,
    killed::ROW,
    miss_flood::ROW,
    corrupted_entries::ROW,
    hostile_store::ROW,
    thundering_herd::ROW,
];

impl Row {
    /// Whether somebody who says that word means it.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        self.number == word || self.name == word
    }
}

impl Scene {
    /// So many seconds; or so many, where it is to be short.
    pub(crate) fn span(&self, seconds: u64, quick: u64) -> Duration {
        Duration::from_secs(if self.quick { quick } else { seconds })
    }
}

/// Lets so much time pass.
pub(crate) async fn pass(span: Duration) {
    tokio::time::sleep(span).await;
}
