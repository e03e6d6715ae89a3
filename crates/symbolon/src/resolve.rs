//! T → a JWT that may be forwarded: L1, store or introspection, open, glue, verify, records. Used by both roles, so that
//! both decide alike.

use std::fmt;
use std::sync::Arc;

use symbolon_core::{
    AcceptedJwt, EntryError, EntryKey, KeptJwt, OpaqueToken, RecordId, RecordType, Rejection, Secrets,
    Stored, TokenError, TokenKind, Tombstone, UnverifiedJwt,
};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::flights::{Flights, Landed};
use crate::introspect::{self, AskError, Asked, Introspection, Lender, Phantom};
use crate::keys::Issuers;
use crate::l1::{self, Cached, L1};
use crate::metrics::{Found, Kind, Metrics, Snapshot};
use crate::revocations::{Revocations, View};
use crate::shared::Shared;
use crate::store::{EntryStore, StoreError};

mod fallback;
mod look;
mod own;

pub use look::{Seen, State};

/// Turns opaque tokens into verified JWTs.
pub struct Resolver {
    issuers: Arc<Issuers>,
    l1: L1,
    fills: Flights<Fill, Result<Arc<Cached>, Unresolved>>,
    introspection: Introspection,
    fallback: Option<Lender>,
    store: Arc<dyn EntryStore>,
    revocations: Arc<Revocations>,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// Whose tokens are taken in one place, as a route says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Empty: every issuer's.
    issuers: Vec<String>,
    has_split: bool,
    phantom: Option<Asked>,
    may_fall_back: bool,
}

/// What a look-up is for: the same token can be looked up in one place, and another server's to know in another.
type Fill = (EntryKey, Option<Asked>, bool);

/// Why a token was not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// It is not, or no longer, a token: the client's to hear (`invalid_token`).
    Invalid(Invalid),
    /// Nobody can say now: an outage, never told as a bad token (GW-12).
    Unavailable(Outage),
}

/// Why it is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The store does not know it: expired and forgotten, or made up.
    Unknown,
    /// The authorization server, or the token service in the store's place, says that it stands for nothing.
    Inactive,
    /// It was revoked: its tombstone says so, or a record of that type.
    Revoked(RecordType),
    /// What the store has cannot be its other half (ST-09). An alarm.
    Poisoned(StoreError),
    /// The whole does not verify.
    Rejected(Rejection),
}

/// What is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The store.
    Store(StoreError),
    /// The log of revocations was not read recently enough.
    OldView,
    /// The keys of the token's issuer.
    Keys,
    /// Whoever has to be asked about the token.
    Introspection(AskError),
}

impl Resolver {
    /// Looks entries up in the store that is shared, opens them, verifies them and keeps what it found in a cache of
    /// that size.
    pub fn new(cache: l1::Config, shared: &Shared) -> Self {
        Self {
            issuers: shared.issuers.clone(),
            l1: L1::new(cache),
            fills: Flights::default(),
            introspection: Introspection::default(),
            fallback: None,
            store: shared.store.clone(),
            revocations: shared.revocations.clone(),
            secrets: shared.secrets.clone(),
            clock: shared.clock.clone(),
            metrics: shared.metrics.clone(),
        }
    }

    /// Asks the authorization servers of phantom tokens about them, and that token service while the store cannot be.
    /// Fails if one could never be asked.
    pub fn asking(
        mut self,
        fallback: Option<&introspect::Fallback>,
        shared: &Shared,
    ) -> Result<Self, String> {
        self.introspection = Introspection::of(self.issuers.configs(), shared)?;
        self.fallback = fallback
            .map(|settings| Lender::new(settings, shared))
            .transpose()?;
        Ok(self)
    }

    /// The tokens of these issuers; of every one if there are none.
    pub fn scope(&self, issuers: &[String]) -> Scope {
        let is_split = |config: &crate::keys::Config| {
            let is_named = issuers.is_empty() || issuers.contains(&config.issuer);
            is_named && config.tokens != TokenKind::Phantom
        };
        Scope {
            issuers: issuers.to_vec(),
            has_split: self.issuers.configs().any(is_split),
            phantom: self.introspection.of_issuers(issuers),
            may_fall_back: true,
        }
    }

    /// Reads a split token; nothing is looked up for what does not follow the grammar (GW-02).
    pub fn parse(&self, text: &str) -> Result<OpaqueToken, TokenError> {
        OpaqueToken::parse(text, &self.issuers.policy().lengths)
    }

    /// Reads what a client presented where these tokens are taken.
    pub fn parse_in(&self, text: &str, scope: &Scope) -> Result<OpaqueToken, TokenError> {
        match scope.phantom {
            None => self.parse(text),
            Some(_) if !scope.has_split => OpaqueToken::parse_phantom(text),
            Some(_) => self.parse(text).or_else(|_| OpaqueToken::parse_phantom(text)),
        }
    }

    /// Resolves a split token of any issuer; nobody but the store is asked.
    pub async fn resolve(&self, token: &OpaqueToken) -> Result<AcceptedJwt, Unresolved> {
        self.resolve_in(token, &Scope::SPLIT).await
    }

    /// The one way from an opaque token to a JWT that may be forwarded. A token that was seen before is answered for
    /// from memory; so it is while the log cannot be read, for as long as is tolerated (PROTOCOL rule 10).
    pub async fn resolve_in(&self, token: &OpaqueToken, scope: &Scope) -> Result<AcceptedJwt, Unresolved> {
        let answer = self.decide(token, scope).await;
        if let Err(Unresolved::Invalid(Invalid::Revoked(_))) = &answer {
            self.note_refusal(token.entry_key());
        }
        answer
    }

    async fn decide(&self, token: &OpaqueToken, scope: &Scope) -> Result<AcceptedJwt, Unresolved> {
        let view = self.revocations.view().await;
        if view == View::Old {
            return self.fall_back(token, scope, Outage::OldView).await;
        }
        let key = token.entry_key();
        let cached = self.l1.get(key).filter(|_| !self.was_refused(key));
        // What another server said under the same text is no word on this token.
        if let Some(cached) = cached.filter(|cached| scope.takes(&cached.jwt)) {
            match self.accept(token, key, &cached) {
                Err(why) if is_asked_again(&cached, &why) => {}
                answer => {
                    self.metrics.found(kind(&cached), Found::Hit);
                    return answer;
                }
            }
        }
        if view != View::Fresh {
            return self.fall_back(token, scope, Outage::OldView).await;
        }
        let kept = match self.fill(token, key, scope).await {
            Err(Unresolved::Unavailable(outage @ Outage::Store(_))) => {
                return self.fall_back(token, scope, outage).await;
            }
            outcome => outcome?,
        };
        // The look-up may have taken longer than the view is good for.
        if self.revocations.view().await != View::Fresh {
            return self.fall_back(token, scope, Outage::OldView).await;
        }
        if !scope.takes(&kept.jwt) {
            return Err(Rejection::Issuer.into());
        }
        if self.was_refused(key) {
            self.l1.remove(key);
            return Err(Outage::OldView.into());
        }
        match self.accept(token, key, &kept) {
            // It took longer to ask than the answer is good for.
            Err(why) if kept.jwt.is_phantom() && is_expired(&why) => Err(AskError::Timeout.into()),
            answer => answer,
        }
    }

    /// Fills the cache, or waits for another who does so for the same token.
    async fn fill(
        &self,
        token: &OpaqueToken,
        key: EntryKey,
        scope: &Scope,
    ) -> Result<Arc<Cached>, Unresolved> {
        let fill = (key, scope.phantom, token.kind() == TokenKind::Phantom);
        let landed = self.fills.join(fill, || self.find(token, key, scope)).await;
        let Landed { mut outcome, joined } = landed;
        let found = if joined { Found::Joined } else { Found::Filled };
        let kind = match &outcome {
            Ok(cached) => kind(cached),
            Err(
                Unresolved::Invalid(Invalid::Inactive) | Unresolved::Unavailable(Outage::Introspection(_)),
            ) => Kind::Phantom,
            Err(_) => Kind::Split,
        };
        self.metrics.found(kind, found);
        if joined && matches!(outcome, Err(Unresolved::Invalid(Invalid::Unknown))) {
            // It may have been published since the look-up began that another one had asked for.
            outcome = self.find(token, key, scope).await;
        }
        outcome
    }

    /// Finds what belongs to the token, in the store first, verifies the whole, and keeps it. What was revoked is asked
    /// about nowhere else (IN-10).
    async fn find(
        &self,
        token: &OpaqueToken,
        key: EntryKey,
        scope: &Scope,
    ) -> Result<Arc<Cached>, Unresolved> {
        if token.kind() != TokenKind::Phantom {
            match look_up(&*self.store, token, &self.secrets).await? {
                LookedUp::Glued(glued) => {
                    let jwt = self.issuers.verify(glued, self.clock.now()).await?;
                    return Ok(self.l1.keep(jwt.expires_at(), token, &jwt, &self.secrets));
                }
                LookedUp::Revoked(_) => return Err(Invalid::Revoked(RecordType::Token).into()),
                // What stands whole in the store is told by introspection, to those who may hear it.
                LookedUp::Absent | LookedUp::Whole(_) => {}
            }
        }
        match scope.phantom {
            None => Err(Invalid::Unknown.into()),
            Some(_) if self.revocations.holds(RecordType::Token, RecordId::of_token(key)) => {
                Err(Invalid::Revoked(RecordType::Token).into())
            }
            Some(asked) => {
                self.introspect(&token.to_phantom(), self.introspection.at(asked))
                    .await
            }
        }
    }

    /// Asks the authorization server, and keeps what it gives for a while.
    async fn introspect(&self, token: &OpaqueToken, phantom: &Phantom) -> Result<Arc<Cached>, Unresolved> {
        let good_until = phantom.good_until(self.clock.now());
        let unverified = phantom.ask(token).await?.ok_or(Invalid::Inactive)?;
        let jwt = self.issuers.verify(unverified, self.clock.now()).await?;
        // Of another one's tokens this server has nothing to say.
        if jwt.issuer() != phantom.issuer {
            return Err(Rejection::Issuer.into());
        }
        if self.is_whole(token) {
            return Err(Rejection::Kind.into());
        }
        Ok(self.l1.keep(good_until, token, &jwt, &self.secrets))
    }

    /// Whether the token is itself what an API is given. A server that signs such a JWT anew takes it for a token as
    /// well, and whoever sees one at an API, or in its log, would hold a client's credential (GW-07).
    fn is_whole(&self, token: &OpaqueToken) -> bool {
        let jwt = UnverifiedJwt::parse(Zeroizing::new(token.expose().to_owned()));
        let rules = &self.issuers.policy().rules;
        jwt.is_ok_and(|jwt| rules.verify(jwt, self.clock.now()).is_ok())
    }

    /// Whether what is kept of the token is accepted now. The records are looked at last, when it is in the cache
    /// already, and again when there are new ones.
    fn accept(&self, token: &OpaqueToken, key: EntryKey, cached: &Cached) -> Result<AcceptedJwt, Unresolved> {
        self.accept_cached(token, cached)
            .inspect_err(|_| self.l1.remove(key))
    }

    fn accept_cached(&self, token: &OpaqueToken, cached: &Cached) -> Result<AcceptedJwt, Unresolved> {
        cached
            .jwt
            .is_accepted(&self.issuers.policy().rules, self.clock.now())?;
        match self.revocations.kills_kept(&cached.jwt, &cached.checked) {
            Some(kind) => Err(Invalid::Revoked(kind).into()),
            None => Ok(self.l1.open(token, cached).ok_or(Invalid::Unknown)?),
        }
    }

    /// How it stands now, for the metrics.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            cached: self.l1.len(),
            cache_bytes: self.l1.size(),
            records: self.revocations.len(),
            ready: self.revocations.is_ready(),
            view_age: self.revocations.view_age(),
        }
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What logs say in place of the token.
    pub fn correlation_id(&self, token: &OpaqueToken) -> String {
        self.secrets.newest().correlation_id(token)
    }
}

impl Scope {
    /// Split tokens of every issuer, from the store alone.
    pub(crate) const SPLIT: Self = Self {
        issuers: Vec::new(),
        has_split: true,
        phantom: None,
        may_fall_back: false,
    };

    /// Whether what is kept is of one of these issuers, and of a kind that is taken.
    fn takes(&self, jwt: &KeptJwt) -> bool {
        let is_named = || self.issuers.iter().any(|issuer| issuer == jwt.issuer());
        (self.issuers.is_empty() || is_named()) && (self.phantom.is_some() || !jwt.is_phantom())
    }
}

/// Whether a look-up may find what the cache does not have: another key of its issuer's, where its own has gone from the
/// set, or what the authorization server says now.
fn is_asked_again(cached: &Cached, why: &Unresolved) -> bool {
    matches!(why, Unresolved::Invalid(Invalid::Rejected(Rejection::UnknownKey)))
        || cached.jwt.is_phantom() && is_expired(why)
}

fn is_expired(why: &Unresolved) -> bool {
    matches!(why, Unresolved::Invalid(Invalid::Rejected(Rejection::Expired)))
}

fn kind(cached: &Cached) -> Kind {
    if cached.jwt.is_phantom() {
        Kind::Phantom
    } else {
        Kind::Split
    }
}

/// What a store has of a token.
pub(crate) enum LookedUp {
    /// Nothing.
    Absent,
    /// Its tombstone.
    Revoked(Tombstone),
    /// Its other half: the whole, which nobody has verified.
    Glued(UnverifiedJwt),
    /// The whole of a phantom token, which nobody has verified either.
    Whole(UnverifiedJwt),
}

/// Looks a token up, opens what is there and puts the halves together.
pub(crate) async fn look_up(
    store: &dyn EntryStore,
    token: &OpaqueToken,
    secrets: &Secrets,
) -> Result<LookedUp, StoreError> {
    let entry = match store.get(token.entry_key()).await? {
        Stored::Live(entry) => entry,
        Stored::Revoked(tombstone) => return Ok(LookedUp::Revoked(tombstone)),
        Stored::Absent => return Ok(LookedUp::Absent),
    };
    let half = entry.open(token, secrets).map_err(StoreError::Corrupt)?;
    if token.kind() == TokenKind::Phantom && !half.is_whole() {
        return Ok(LookedUp::Absent);
    }
    let glued = half.glue(token);
    let glued = glued.map_err(|_| StoreError::Corrupt(EntryError::SigningInput))?;
    Ok(if half.is_whole() {
        LookedUp::Whole(glued)
    } else {
        LookedUp::Glued(glued)
    })
}

impl From<Invalid> for Unresolved {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<AskError> for Unresolved {
    fn from(error: AskError) -> Self {
        Self::Unavailable(Outage::Introspection(error))
    }
}

impl From<StoreError> for Unresolved {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(_) => Self::Invalid(Invalid::Poisoned(error)),
            StoreError::Unavailable(_) | StoreError::Full => Self::Unavailable(Outage::Store(error)),
        }
    }
}

impl From<Rejection> for Unresolved {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::KeysUnavailable => Self::Unavailable(Outage::Keys),
            _ => Self::Invalid(Invalid::Rejected(rejection)),
        }
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(Invalid::Unknown) => f.write_str("no such token in the store"),
            Self::Invalid(Invalid::Inactive) => {
                f.write_str("the server says that the token stands for nothing")
            }
            Self::Invalid(Invalid::Revoked(kind)) => {
                write!(f, "token was revoked by a record of type {kind:?}")
            }
            Self::Invalid(Invalid::Poisoned(error)) | Self::Unavailable(Outage::Store(error)) => error.fmt(f),
            Self::Invalid(Invalid::Rejected(rejection)) => rejection.fmt(f),
            Self::Unavailable(Outage::OldView) => {
                f.write_str("the revocation log was not read recently enough")
            }
            Self::Unavailable(Outage::Introspection(error)) => error.fmt(f),
            Self::Unavailable(Outage::Keys) => f.write_str("keys of the issuer are not to be had"),
        }
    }
}

impl std::error::Error for Unresolved {}
