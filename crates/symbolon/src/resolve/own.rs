//! Every token that this deployment has issued, phantom tokens among them: for who may hear what they say.

use symbolon_core::{AcceptedJwt, OpaqueToken, RecordType, TokenError, TokenKind};

use super::{Invalid, LookedUp, Outage, Resolver, Unresolved, look_up};
use crate::revocations::View;

impl Resolver {
    /// Reads what somebody presents for a token of this deployment's.
    pub fn parse_own(&self, text: &str) -> Result<OpaqueToken, TokenError> {
        self.issuers.parse_own(text)
    }

    /// [`resolve`](Self::resolve), also of a phantom token. What it stands for is in the store as a whole and kept
    /// nowhere else: it is verified each time.
    pub async fn resolve_own(&self, token: &OpaqueToken) -> Result<AcceptedJwt, Unresolved> {
        if token.kind() == TokenKind::Phantom {
            return self.resolve_phantom(token).await;
        }
        match self.resolve(token).await {
            // A phantom token may look like a signature.
            Err(Unresolved::Invalid(Invalid::Unknown)) if self.issuers.mint_phantoms() => {
                self.resolve_phantom(token).await
            }
            answer => answer,
        }
    }

    async fn resolve_phantom(&self, token: &OpaqueToken) -> Result<AcceptedJwt, Unresolved> {
        let whole = match look_up(&*self.store, token, &self.secrets).await? {
            LookedUp::Whole(jwt) => jwt,
            LookedUp::Revoked(_) => return Err(Invalid::Revoked(RecordType::Token).into()),
            LookedUp::Absent | LookedUp::Glued(_) => return Err(Invalid::Unknown.into()),
        };
        let jwt = self.issuers.verify(whole, self.clock.now()).await?;
        // The look-up may have taken longer than the view is good for. The records are looked at last.
        if self.revocations.view().await != View::Fresh {
            return Err(Unresolved::Unavailable(Outage::OldView));
        }
        match self.revocations.kills(&jwt, token.entry_key()) {
            Some(kind) => Err(Invalid::Revoked(kind).into()),
            None => Ok(jwt.into()),
        }
    }
}
