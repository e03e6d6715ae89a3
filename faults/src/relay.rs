//! A fault proxy: what passes between a process and its store can be late, held up, cut off or refused.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use symbolon_core::random;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::history::{Instant, now};

/// A running relay before one server.
pub(crate) struct Relay {
    /// Where it listens, at 127.0.0.1.
    pub(crate) port: u16,
    rules: Arc<watch::Sender<Rules>>,
    counts: Arc<Counts>,
    listening: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    /// Parts that were held up.
    held: AtomicUsize,
    /// Connections that were cut within an answer.
    cut: AtomicUsize,
}

/// How it treats what passes. By default it does nothing to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// What goes to the server is held up.
    pub(crate) holds_requests: bool,
    /// What comes from the server is held up.
    pub(crate) holds_answers: bool,
    /// So late comes what the server sends.
    pub(crate) delay: Duration,
    /// Requests in which that stands are held up, and what comes after them on their connection.
    pub(crate) holds_requests_with: Option<&'static [u8]>,
    /// Who connects is sent away.
    pub(crate) refuses: bool,
    /// What these send and what is sent to them is held up, whatever the rest of the rules.
    pub(crate) isolated: HashSet<IpAddr>,
    /// Each connection is cut after some number of octets of answers, below that one: in the midst of an answer.
    pub(crate) cuts_within: Option<usize>,
    /// Connections that were made under another number are cut.
    generation: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

impl Relay {
    /// Begins to relay to that port at 127.0.0.1.
    pub(crate) async fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let rules = Arc::new(watch::Sender::new(Rules::default()));
        let counts = Arc::<Counts>::default();
        let listening = tokio::spawn(listen(listener, to, rules.clone(), counts.clone()));
        Self {
            port,
            rules,
            counts,
            listening,
        }
    }

    /// Changes its rules, for what passes from now on and for what it holds.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Rules)) {
        self.rules.send_modify(change);
    }

    /// Nothing comes through, in either direction, and nobody is told: a partition.
    pub(crate) fn part(&self, parted: bool) {
        self.change(|rules| (rules.holds_requests, rules.holds_answers) = (parted, parted));
    }

    /// Cuts every connection that there is.
    pub(crate) fn cut(&self) {
        self.change(|rules| rules.generation += 1);
    }

    /// How many connections were cut within an answer.
    pub(crate) fn cut_within(&self) -> usize {
        self.counts.cut.load(Ordering::SeqCst)
    }

    /// How often something was held up.
    pub(crate) fn held(&self) -> usize {
        self.counts.held.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

async fn listen(listener: TcpListener, to: u16, rules: Arc<watch::Sender<Rules>>, counts: Arc<Counts>) {
    while let Ok((client, peer)) = listener.accept().await {
        if rules.borrow().refuses {
            continue;
        }
        tokio::spawn(relay(client, peer.ip(), to, rules.subscribe(), counts.clone()));
    }
}

async fn relay(
    client: TcpStream,
    peer: IpAddr,
    to: u16,
    mut rules: watch::Receiver<Rules>,
    counts: Arc<Counts>,
) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else {
        return;
    };
    // Small messages one after the other: none waits for the next.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (generation, budget) = {
        let rules = rules.borrow();
        (rules.generation, rules.cuts_within.map(dice))
    };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let held = &counts.held;
    let there = pump(
        from_client,
        to_server,
        Way::ToServer,
        peer,
        rules.clone(),
        None,
        held,
    );
    let back = pump(
        from_server,
        to_client,
        Way::ToClient,
        peer,
        rules.clone(),
        budget,
        held,
    );
    tokio::select! {
        _ = there => {}
        is_spent = back => {
            counts.cut.fetch_add(usize::from(is_spent), Ordering::SeqCst);
        }
        _ = rules.wait_for(|rules| rules.generation != generation) => {}
    }
}

/// Passes on what comes, as the rules are when it is due; whether the budget is spent.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    peer: IpAddr,
    mut rules: watch::Receiver<Rules>,
    mut budget: Option<usize>,
    held: &AtomicUsize,
) -> bool {
    let (sender, mut parts) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let delays = rules.clone();
    let read = async move {
        let mut part = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut part).await {
            let delay = delays.borrow().delay(way);
            if sender.send((now() + delay, part[..length].to_vec())).is_err() {
                break;
            }
        }
        // What was read is written first.
        drop(sender);
        std::future::pending::<()>().await;
    };
    let write = async move {
        while let Some((due, part)) = parts.recv().await {
            tokio::time::sleep_until(due.into()).await;
            let is_held = rules.borrow().hold(way, peer, &part);
            held.fetch_add(usize::from(is_held), Ordering::SeqCst);
            if rules
                .wait_for(|rules| !rules.hold(way, peer, &part))
                .await
                .is_err()
            {
                return false;
            }
            let passes = budget.map_or(part.len(), |budget| budget.min(part.len()));
            if to.write_all(&part[..passes]).await.is_err() {
                return false;
            }
            if let Some(left) = &mut budget {
                *left -= passes;
                if *left == 0 {
                    return true;
                }
            }
        }
        false
    };
    tokio::select! {
        is_spent = write => is_spent,
        () = read => false,
    }
}

impl Rules {
    fn delay(&self, way: Way) -> Duration {
        match way {
            Way::ToServer => Duration::ZERO,
            Way::ToClient => self.delay,
        }
    }

    fn hold(&self, way: Way, peer: IpAddr, part: &[u8]) -> bool {
        let has = |wanted: &[u8]| part.windows(wanted.len()).any(|octets| octets == wanted);
        let holds = match way {
            Way::ToServer => self.holds_requests || self.holds_requests_with.is_some_and(has),
            Way::ToClient => self.holds_answers,
        };
        holds || self.isolated.contains(&peer)
    }
}

fn dice(below: usize) -> usize {
    let thrown = u32::from_be_bytes(random::<4>());
    1 + usize::try_from(thrown).unwrap_or_default() % below
}
