//! The split token approach without I/O: no socket, no clock, no task.
//!
//! A JWT access token is split in two. The client holds the JWS Signature and presents it as an opaque token. The
//! store keeps the rest, sealed under a key that only the opaque token yields. Whoever is given the token looks the
//! entry up by the token's hash, opens it, glues the halves and verifies the whole:
//!
//! ```
//! use std::num::NonZeroU8;
//! use std::sync::Arc;
//! use std::time::Duration;
//! use symbolon_core::*;
//!
//! // An authorization server signs a JWT; its keys are published as a JWK Set.
//! let signer = SigningKey::generate(Algorithm::Es256)?;
//! let jwks = serde_json::json!({ "keys": [signer.public_jwk()] }).to_string();
//! let keys = JwkSet::parse(jwks.as_bytes(), &[Algorithm::Es256], Provenance::Configured)?;
//! let claims = serde_json::json!({
//!     "iss": "https://id.example.com", "aud": "https://api.example.com", "sub": "alice", "client_id": "app",
//!     "iat": 1_800_000_000, "exp": 1_800_000_600, "jti": "1", "scope": "orders:read",
//! });
//! let jwt = signer.sign("at+jwt", &claims)?;
//!
//! // The token service verifies it, splits it, and publishes the sealed half under the entry key.
//! let policy = Policy::new([IssuerPolicy {
//!     issuer: "https://id.example.com".into(),
//!     profile: Profile::RFC9068,
//!     algorithms: vec![Algorithm::Es256],
//!     tokens: TokenKind::Salted,
//!     max_lifetime: Duration::from_secs(3600),
//!     keys: Some(Arc::new(keys)),
//! }]);
//! let now = UnixTime::from_secs(1_800_000_001);
//! let secrets = Secrets::from(Secret::generate(NonZeroU8::MIN));
//! let (opaque, half) = policy.verify_issued(jwt.clone(), now)?.split(Lineage::default())?;
//! let (key, stored) = (opaque.entry_key(), half.seal(&opaque, &secrets).as_bytes().to_vec());
//!
//! // A gateway is given the opaque token, looks `key` up, opens, glues, verifies.
//! let presented = OpaqueToken::parse(opaque.expose(), &policy.signature_lengths())?;
//! assert_eq!(presented.entry_key(), key);
//! let Stored::Live(entry) = Stored::from_bytes(&stored)? else { panic!("it was just stored") };
//! let glued = entry.open(&presented, &secrets)?.glue(&presented)?;
//! let verified = policy.verify(glued, now)?;
//! assert!(verified.is_for("https://api.example.com") && verified.has_scope("orders:read"));
//! assert_eq!(verified.expose(), jwt.expose());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(not(test), warn(clippy::expect_used, clippy::unwrap_used))]

mod accepted;
mod algorithm;
pub mod base64url;
mod crypto;
mod entry;
pub mod json;
mod jwk;
mod jwt;
mod profile;
mod record;
mod secret;
mod signing;
mod time;
mod token;
#[cfg(test)]
mod vectors;
mod verify;

pub use accepted::{AcceptedJwt, Keeper, KeptJwt};
pub use algorithm::Algorithm;
pub use crypto::equal_in_constant_time;
pub use entry::{Entry, EntryError, OpenEntry, SplitError, Stored, Tombstone};
pub use jwk::{JwkSet, JwkSetError, Provenance, SkipReason, Skipped};
pub use jwt::{JwtError, MAX_SIGNING_INPUT, UnverifiedJwt};
pub use profile::{Names, Profile, Required, Typ};
pub use record::{
    BegunAt, GrantId, Lineage, Mark, Name, NotARecord, Record, RecordId, RecordType, SessionId,
};
pub use secret::{Secret, SecretError, Secrets};
pub use signing::{SigningError, SigningKey};
pub use time::UnixTime;
pub use token::{EntryKey, MAX_PHANTOM, OpaqueToken, SignatureLengths, TokenError, TokenKind};
pub use verify::{IssuerPolicy, Policy, Rejected, Rejection, VerifiedJwt};

/// SHA-256 of `octets`, for what is compared by hash.
pub fn sha256(octets: &[u8]) -> [u8; 32] {
    crypto::sha256(octets)
}

/// `N` octets from the system's source of randomness.
pub fn random<const N: usize>() -> [u8; N] {
    crypto::random()
}
