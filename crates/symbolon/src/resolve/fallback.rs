//! A split token while the store cannot be asked: what a token service says of it (PROTOCOL, "Introspection in the
//! store's place").

use std::sync::Arc;

use symbolon_core::{AcceptedJwt, EntryKey, OpaqueToken, RecordType, Rejection, TokenKind};

use super::{Invalid, Outage, Resolver, Scope, Unresolved};
use crate::introspect::{Lender, Lent};
use crate::metrics::{Found, Kind};

impl Resolver {
    /// Asks a token service, if one is named, since the store cannot be asked or the log was not read recently enough.
    pub(super) async fn fall_back(
        &self,
        token: &OpaqueToken,
        scope: &Scope,
        outage: Outage,
    ) -> Result<AcceptedJwt, Unresolved> {
        let Some(fallback) = self.fallback_for(token, scope) else {
            return Err(outage.into());
        };
        let lent = match self.borrow(token, fallback).await {
            // It may be another server's, which has its own word on it.
            Err(Unresolved::Invalid(Invalid::Inactive)) if scope.phantom.is_some() => {
                return Err(outage.into());
            }
            Err(why @ Unresolved::Invalid(Invalid::Inactive)) => {
                self.note_refusal(token.entry_key());
                return Err(why);
            }
            lent => lent?,
        };
        if !scope.takes(&lent.cached.jwt) {
            return Err(Rejection::Issuer.into());
        }
        match self.accept_cached(token, &lent.cached) {
            // Its mark is not known here, so that it may have been begun after what would kill it by its time alone.
            Err(Unresolved::Invalid(Invalid::Revoked(
                RecordType::Subject | RecordType::Client | RecordType::Issuer,
            ))) => Err(outage.into()),
            Ok(_) if !fallback.is_good(&lent) => Err(outage.into()),
            Ok(_) if fallback.was_refused_since(token.entry_key(), &lent) => {
                fallback.forget(token.entry_key());
                Err(outage.into())
            }
            answer => answer.inspect_err(|_| fallback.forget(token.entry_key())),
        }
    }

    /// Notes that a token is refused, for as long as another view of the log may not know why.
    pub(super) fn note_refusal(&self, key: EntryKey) {
        if let Some(fallback) = &self.fallback {
            fallback.note_refusal(key);
            self.l1.remove(key);
        }
    }

    /// Whether a token was refused by another view, and the one that this process has now need not know why. It is asked
    /// before the records are looked at, so that they are of this view or a later one.
    pub(super) fn was_refused(&self, key: EntryKey) -> bool {
        let Some(fallback) = &self.fallback else {
            return false;
        };
        let fresh_at = self.revocations.fresh_at();
        fresh_at.is_none_or(|fresh_at| fallback.was_refused_at(key, fresh_at))
    }

    /// Who is asked. Nobody is before the log was read once (PROTOCOL rule 8), nor while it is not known what time it is.
    fn fallback_for(&self, token: &OpaqueToken, scope: &Scope) -> Option<&Lender> {
        let may_ask = scope.may_fall_back && token.kind() != TokenKind::Phantom;
        let can_decide = || self.revocations.is_ready() && !self.revocations.clock_is_wrong();
        self.fallback.as_ref().filter(|_| may_ask && can_decide())
    }

    /// What was lent of the token and is still good, or is lent now.
    async fn borrow(&self, token: &OpaqueToken, fallback: &Lender) -> Result<Arc<Lent>, Unresolved> {
        if let Some(lent) = fallback.lent(token.entry_key()) {
            self.metrics.found(Kind::Fallback, Found::Hit);
            return Ok(lent);
        }
        self.metrics.found(Kind::Fallback, Found::Filled);
        let seal = async |unverified| {
            let jwt = self.issuers.verify(unverified, self.clock.now()).await?;
            Ok(self.l1.seal(jwt.expires_at(), token, &jwt, &self.secrets))
        };
        fallback.ask(token, seal).await
    }
}
