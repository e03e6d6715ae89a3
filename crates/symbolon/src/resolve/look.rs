//! What is known of a token, for an operator who brings it. Nothing is decided by it.

use symbolon_core::{
    EntryError, Lineage, OpaqueToken, RecordId, RecordType, Rejection, UnixTime, UnverifiedJwt,
};

use super::{LookedUp, Outage, Resolver, look_up};
use crate::revocations::View;
use crate::store::{RECORD_MARGIN, StoreError};

/// What was found.
pub struct Seen {
    /// How it stands with the token.
    pub state: State,
    /// When it ends, or has ended.
    pub expires_at: Option<UnixTime>,
    /// What its entry says besides.
    pub lineage: Lineage,
    /// The whole, if its other half could be opened. It may not verify.
    pub jwt: Option<UnverifiedJwt>,
}

/// How it stands with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The store does not know it.
    Absent,
    /// It is accepted, where audience and scopes fit.
    Live,
    /// It was revoked, by a record of that type or by its tombstone.
    Revoked(RecordType),
    /// Its entry opens, and the whole does not verify.
    Rejected(Rejection),
    /// The store has octets that are not its other half. An alarm.
    Unreadable(EntryError),
}

impl Resolver {
    /// Looks at all there is of a token.
    pub async fn look(&self, token: &OpaqueToken) -> Result<Seen, Outage> {
        if self.revocations.view().await != View::Fresh {
            return Err(Outage::OldView);
        }
        let key = token.entry_key();
        let only = |state, expires_at| Seen {
            state,
            expires_at,
            lineage: Lineage::default(),
            jwt: None,
        };
        let glued = match look_up(&*self.store, token, &self.secrets).await {
            Ok(LookedUp::Glued(jwt) | LookedUp::Whole(jwt)) => jwt,
            Ok(LookedUp::Revoked(tombstone)) => {
                let ends = tombstone
                    .expires_at
                    .as_secs()
                    .saturating_sub(RECORD_MARGIN.as_secs());
                return Ok(only(
                    State::Revoked(RecordType::Token),
                    Some(UnixTime::from_secs(ends)),
                ));
            }
            Ok(LookedUp::Absent) if self.revocations.holds(RecordType::Token, RecordId::of_token(key)) => {
                return Ok(only(State::Revoked(RecordType::Token), None));
            }
            Ok(LookedUp::Absent) => return Ok(only(State::Absent, None)),
            Err(StoreError::Corrupt(error)) => return Ok(only(State::Unreadable(error), None)),
            Err(error) => return Err(Outage::Store(error)),
        };
        let lineage = glued.lineage();
        let (state, expires_at) = match self.issuers.verify(glued.clone(), self.clock.now()).await {
            Ok(jwt) => {
                let state = self
                    .revocations
                    .kills(&jwt, key)
                    .map_or(State::Live, State::Revoked);
                (state, Some(jwt.expires_at()))
            }
            Err(Rejection::KeysUnavailable) => return Err(Outage::Keys),
            Err(rejection) => (State::Rejected(rejection), None),
        };
        Ok(Seen {
            state,
            expires_at,
            lineage,
            jwt: Some(glued),
        })
    }
}
