//! A token service, asked about split tokens while the store cannot be (PROTOCOL, "Introspection in the store's place").
//! What it says is good for as long as a view of the log is, and kept apart from what the store says.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use symbolon_core::{EntryKey, OpaqueToken, UnverifiedJwt};

use super::refusals::Refusals;
use super::server::{Around, Server, Told};
use super::{AskError, Caller, Fallback};
use crate::clock::Clock;
use crate::flights::Flights;
use crate::l1::Cached;
use crate::metrics::Kind;
use crate::resolve::{Invalid, Unresolved};
use crate::shared::Shared;

/// Lends what the store would give.
pub(crate) struct Lender {
    server: Server,
    lent: Cache<EntryKey, Arc<Lent>, BySize>,
    flights: Flights<EntryKey, Result<Arc<Lent>, Unresolved>>,
    refusals: Refusals,
    /// How old a view may be (S).
    detect: Duration,
    clock: Arc<dyn Clock>,
}

/// A JWT that was verified, and until when the view is fresh that says that it is not revoked.
pub(crate) struct Lent {
    pub(crate) cached: Cached,
    good_until: Duration,
}

#[derive(Clone)]
struct BySize;

/// Room for some ten thousand tokens.
const MAX_BYTES: u64 = 16 << 20;

impl Lender {
    /// Asks that token service. Fails if it could never be asked.
    pub(crate) fn new(settings: &Fallback, shared: &Shared) -> Result<Self, String> {
        let (endpoint, around) = (Ok(&settings.endpoint), Around::of(shared));
        Ok(Self {
            server: Server::new(
                Kind::Fallback,
                endpoint,
                &Caller::Gateway,
                settings.budget,
                around,
            )?,
            lent: Cache::with_weighter(10_000, MAX_BYTES, BySize),
            flights: Flights::default(),
            refusals: Refusals::default(),
            detect: shared.revocations.detect(),
            clock: shared.clock.clone(),
        })
    }

    /// What is lent of a token and still good.
    pub(crate) fn lent(&self, key: EntryKey) -> Option<Arc<Lent>> {
        self.lent.get(&key).filter(|lent| self.is_good(lent))
    }

    /// Whether the view is fresh now that it rests on.
    pub(crate) fn is_good(&self, lent: &Lent) -> bool {
        self.clock.elapsed() <= lent.good_until
    }

    /// Asks about a token, or shares what another asks. What is given is verified and sealed by `seal`.
    pub(crate) async fn ask(
        &self,
        token: &OpaqueToken,
        seal: impl AsyncFnOnce(UnverifiedJwt) -> Result<Cached, Unresolved>,
    ) -> Result<Arc<Lent>, Unresolved> {
        let key = token.entry_key();
        let landed = self.flights.join(key, async || {
            let asked_at = self.clock.elapsed();
            let Told { jwt, view_age } = self.server.ask(token).await?;
            // Before it was asked, less the age that the view had then.
            let good_for = view_age.and_then(|age| self.detect.checked_sub(age));
            let good_until = asked_at + good_for.ok_or(AskError::OldView)?;
            if self.clock.elapsed() > good_until {
                return Err(AskError::OldView.into());
            }
            let cached = seal(jwt.ok_or(Invalid::Inactive)?).await?;
            let lent = Arc::new(Lent { cached, good_until });
            self.lent.insert(key, lent.clone());
            Ok(lent)
        });
        landed.await.outcome
    }

    /// Notes that a token is refused, by whatever view.
    pub(crate) fn note_refusal(&self, key: EntryKey) {
        self.refusals.note(key, self.clock.elapsed());
        self.forget(key);
    }

    /// Whether a token was refused, and a view from then need not know why.
    pub(crate) fn was_refused_at(&self, key: EntryKey, seen_at: Duration) -> bool {
        self.refusals.outweigh(key, seen_at)
    }

    /// The same, of the view that what is lent rests on.
    pub(crate) fn was_refused_since(&self, key: EntryKey, lent: &Lent) -> bool {
        self.was_refused_at(key, lent.good_until.saturating_sub(self.detect))
    }

    /// Drops what is lent of a token.
    pub(crate) fn forget(&self, key: EntryKey) {
        self.lent.remove(&key);
    }
}

impl Weighter<EntryKey, Arc<Lent>> for BySize {
    fn weight(&self, _: &EntryKey, lent: &Arc<Lent>) -> u64 {
        lent.cached.size()
    }
}
