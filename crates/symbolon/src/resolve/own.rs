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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::json;
    use symbolon_core::{Algorithm, Profile, Secret, SigningKey, UnixTime};

    use super::*;
    use crate::clock::{Clock as _, ManualClock};
    use crate::keys::{self, Fixed, Issuers};
    use crate::publish::Publisher;
    use crate::shared::Shared;
    use crate::store::MemoryStore;
    use crate::{l1, revocations};

    const ISSUER: &str = "https://id.example";

    // A gateway beside the same store: there a phantom token is nobody's, even one that looks like a signature.
    #[tokio::test]
    async fn a_phantom_token_is_resolved_for_introspection_alone() {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let config = keys::Config {
            issuer: ISSUER.into(),
            profile: Profile::RFC9068,
            algorithms: vec![Algorithm::Es256],
            tokens: TokenKind::Phantom,
            introspection: None,
            max_lifetime: Duration::from_secs(600),
            keys: keys::Source::Mint,
        };
        let set = json!({ "keys": [key.public_jwk()] }).to_string();
        let fixed = Fixed::read(set.as_bytes(), &config).unwrap();
        let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1_800_000_000)));
        let shared = Shared::new(
            Arc::new(Issuers::new(vec![(config, Arc::new(fixed))])),
            Arc::new(MemoryStore::new(clock.clone(), usize::MAX)),
            revocations::Config {
                max_bytes: 1000,
                detect: Duration::from_secs(2),
                tolerate: Duration::ZERO,
            },
            Secret::generate(std::num::NonZeroU8::MIN).into(),
            clock.clone(),
        );
        let resolver = Resolver::new(l1::Config::DEFAULT, &shared);
        assert_eq!(shared.revocations.view().await, View::Fresh);

        let now = clock.now();
        let claims = json!({
            "iss": ISSUER, "aud": "a", "sub": "s", "client_id": "c", "jti": "1", "iat": now.as_secs(), "exp": now.as_secs() + 60,
        });
        let jwt = key.sign("at+jwt", &claims).unwrap();
        let jwt = shared.issuers.policy().rules.verify_issued(jwt, now).unwrap();
        let publisher = Publisher::new(&shared);
        let begun = publisher.begin().await.unwrap();
        let phantom = publisher.publish(&jwt, begun).await.unwrap();
        // As a gateway reads it that allows HS256.
        let split: OpaqueToken = phantom.expose().parse().unwrap();
        assert_eq!(
            (phantom.kind(), split.kind()),
            (TokenKind::Phantom, TokenKind::Signature)
        );
        for token in [&phantom, &split] {
            let whole = resolver.resolve_own(token).await.unwrap();
            assert_eq!(whole.expose(), jwt.expose());
        }
        let unknown = resolver.resolve(&split).await.map(|_| ()).unwrap_err();
        assert_eq!(unknown, Unresolved::Invalid(Invalid::Unknown));
    }
}
