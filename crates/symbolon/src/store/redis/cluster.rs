//! Which node of a Cluster has which keys.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::connection::{CONNECT, Connector, Trouble, ask};
use super::{Address, reply};

/// A Cluster, as one of its nodes describes it.
pub(super) struct Cluster {
    map: Arc<Map>,
    watcher: JoinHandle<()>,
}

struct Map {
    connector: Arc<Connector>,
    /// Asked where nobody else is known.
    seeds: Vec<Address>,
    ranges: RwLock<Vec<Range>>,
    look: Notify,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    primary: Address,
}

/// Looked at again so often, though nothing seems to have changed.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// And not more often than this.
const PAUSE: Duration = Duration::from_millis(100);

impl Cluster {
    /// Begins to watch it; with what came of the first look.
    pub(super) async fn watch(connector: Arc<Connector>, seeds: Vec<Address>) -> (Self, Result<(), Trouble>) {
        let map = Arc::new(Map {
            connector,
            seeds,
            ranges: RwLock::default(),
            look: Notify::new(),
        });
        let (tell, told) = oneshot::channel();
        let watcher = tokio::spawn(watch(map.clone(), tell));
        let first = told
            .await
            .unwrap_or_else(|_| Err(Trouble::Away("nobody looks".into())));
        (Self { map, watcher }, first)
    }

    /// Who has the primary copy of that slot.
    pub(super) fn primary_of(&self, slot: u16) -> Option<Address> {
        let ranges = self.map.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let range = ranges
            .iter()
            .find(|range| (range.first..=range.last).contains(&slot))?;
        Some(range.primary.clone())
    }

    /// Whether that node has the primary copy of anything.
    pub(super) fn has_primary(&self, address: &Address) -> bool {
        let ranges = self.map.ranges.read().unwrap_or_else(PoisonError::into_inner);
        ranges.iter().any(|range| range.primary == *address)
    }

    /// Something has changed: it is looked at again.
    pub(super) fn look(&self) {
        self.map.look.notify_one();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

async fn watch(map: Arc<Map>, first: oneshot::Sender<Result<(), Trouble>>) {
    // Whoever asked may have gone.
    let _ = first.send(map.look(0).await);
    for turn in 1.. {
        let _ = tokio::time::timeout(LOOK_EVERY, map.look.notified()).await;
        // That nobody is reached is said by whoever wants something of a node.
        let _ = map.look(turn).await;
        tokio::time::sleep(PAUSE).await;
    }
}

impl Map {
    /// Asks one node after the other, another one first each time.
    async fn look(&self, turn: usize) -> Result<(), Trouble> {
        let mut nodes: Vec<_> = {
            let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
            ranges.iter().map(|range| range.primary.clone()).collect()
        };
        nodes.extend(self.seeds.iter().cloned());
        nodes.sort();
        nodes.dedup();
        let count = nodes.len().max(1);
        nodes.rotate_left(turn % count);
        let mut trouble = Trouble::Away("no node of the Cluster is reached".into());
        for node in nodes {
            match tokio::time::timeout(CONNECT, self.ask(&node)).await {
                Ok(Ok(ranges)) => {
                    *self.ranges.write().unwrap_or_else(PoisonError::into_inner) = ranges;
                    return Ok(());
                }
                Ok(Err(Trouble::Unfit(why))) => trouble = Trouble::Unfit(format!("{node}: {why}")),
                Ok(Err(Trouble::Away(why))) => {
                    tracing::debug!("store: {node} does not describe its Cluster: {why}");
                }
                Err(_) => tracing::debug!("store: {node} does not describe its Cluster in time"),
            }
        }
        Err(trouble)
    }

    async fn ask(&self, node: &Address) -> Result<Vec<Range>, Trouble> {
        let connection = self.connector.connect(node).await?;
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let answer = ask(&connection, command).await.map_err(|trouble| match trouble {
            // The one refusal of a server that is none.
            Trouble::Away(why) if why.ends_with(" ERR") => {
                Trouble::Unfit("it is not part of a Cluster: write `url` in the place of `cluster`".into())
            }
            trouble => trouble,
        })?;
        let ranges: Option<Vec<_>> = reply::list(answer)
            .unwrap_or_default()
            .into_iter()
            .map(|range| read(range, node))
            .collect();
        match ranges {
            Some(ranges) if !ranges.is_empty() => Ok(ranges),
            _ => Err(Trouble::Away("it knows of no slots".into())),
        }
    }
}

/// `[first, last, [host, port, …], replicas…]`
fn read(range: Value, asked: &Address) -> Option<Range> {
    let mut parts = reply::list(range)?.into_iter();
    let mut slot = || match parts.next()? {
        Value::Int(slot) => u16::try_from(slot).ok(),
        _ => None,
    };
    let (first, last) = (slot()?, slot()?);
    let mut primary = reply::list(parts.next()?)?.into_iter();
    // A node that does not know its own name is where it was asked.
    let host = reply::text(primary.next()?).filter(|host| !host.is_empty());
    let port = match primary.next()? {
        Value::Int(port) => u16::try_from(port).ok()?,
        _ => return None,
    };
    Some(Range {
        first,
        last,
        primary: Address {
            host: host.unwrap_or_else(|| asked.host.clone()),
            port,
            tls: asked.tls,
        },
    })
}

/// The slot of a key, or of what stands between the first braces of it: CRC-16/XMODEM modulo 16,384.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key
        .iter()
        .position(|octet| *octet == b'{')
        .map(|open| &key[open + 1..])
        .and_then(|rest| Some(&rest[..rest.iter().position(|octet| *octet == b'}')?]))
        .filter(|tag| !tag.is_empty());
    let crc = tag.unwrap_or(key).iter().fold(0_u16, |crc, octet| {
        (0..8).fold(crc ^ (u16::from(*octet) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    });
    crc % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    // From the Cluster specification, and `CLUSTER KEYSLOT` of a Redis 7.0.
    #[test]
    fn slots_are_those_of_the_specification() {
        for (key, of) in [
            ("123456789", 0x31C3),
            ("foo", 12_182),
            ("{user1000}.following", 3_443),
            ("{user1000}.followers", 3_443),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("foo{bar}{zap}", 5_061),
        ] {
            assert_eq!(slot(key.as_bytes()), of, "{key}");
        }
        assert_eq!(slot(b"symbolon:{log}"), slot(b"another:{log}:under"));
    }
}
