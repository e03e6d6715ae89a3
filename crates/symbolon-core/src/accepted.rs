//! A JWT that may be forwarded, and what a cache keeps of it: enough to accept it again without reading or verifying
//! it again, sealed under a key that only its opaque token yields.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::crypto::{self, Key, NONCE_OCTETS, TAG_OCTETS};
use crate::jwk::KeyId;
use crate::record::{BegunAt, Name};
use crate::secret::Secrets;
use crate::time::UnixTime;
use crate::token::{OpaqueToken, TokenKind};
use crate::verify::{Policy, Rejection, VerifiedJwt};

/// A JWT that was verified in full, now or when a cache took it in, and may be forwarded. Nothing else makes one, and
/// no `Debug` prints it.
pub struct AcceptedJwt {
    text: Zeroizing<String>,
    permissions: Arc<Permissions>,
    expires_at: UnixTime,
}

/// What a token is good for. Many tokens have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Permissions {
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) scopes: BTreeSet<String>,
    pub(crate) confirmation: bool,
}

/// Makes what a cache may keep. It has a key of its own, which does not leave the process: neither its memory nor a
/// copy of it holds claims or credentials of tokens that are not in flight.
pub struct Keeper {
    salt: Zeroizing<[u8; 32]>,
    nonces: AtomicU64,
    shared: Mutex<Shared>,
}

/// Sets of permissions that tokens share.
#[derive(Default)]
struct Shared {
    known: HashSet<Arc<Permissions>>,
    /// How many found no room since it was last looked which of them nobody has any more.
    refused: usize,
}

/// What a cache keeps of one token.
pub struct KeptJwt {
    permissions: Arc<Permissions>,
    key: KeyId,
    expires_at: UnixTime,
    begun: BegunAt,
    nonce: u64,
    /// Each name of the token in the log, then the signing input, sealed; the whole JWT, if its signature is not in the
    /// token.
    octets: Box<[u8]>,
    names: u16,
    /// Whether it came of a phantom token.
    is_phantom: bool,
    /// What its permissions take, if no other token shares them.
    own_octets: u32,
}

/// Most sets of permissions that tokens share. What is beyond is kept with each token.
const MAX_SHARED: usize = 4096;
const MAX_SHARED_OCTETS: usize = 1024;
/// Type and start of a name.
const NAME_OCTETS: usize = 9;

impl AcceptedJwt {
    /// The compact serialization, for the resource server and for nobody else.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The `iss` value.
    pub fn issuer(&self) -> &str {
        &self.permissions.issuer
    }

    /// Whether `audience` is among its audiences.
    pub fn is_for(&self, audience: &str) -> bool {
        self.permissions.audiences.iter().any(|named| named == audience)
    }

    /// Whether it has the scope (RFC 6749 §3.3).
    pub fn has_scope(&self, scope: &str) -> bool {
        self.permissions.scopes.contains(scope)
    }

    /// Its scopes, in the form of RFC 6749 §3.3.
    pub fn scope(&self) -> String {
        let scopes: Vec<_> = self.permissions.scopes.iter().map(String::as_str).collect();
        scopes.join(" ")
    }

    /// Whether it is bound to a key (`cnf`, RFC 7800), so that presenting it is not enough.
    pub fn is_sender_constrained(&self) -> bool {
        self.permissions.confirmation
    }

    /// From when on it is not accepted, or to be asked for again.
    pub fn expires_at(&self) -> UnixTime {
        self.expires_at
    }
}

impl From<VerifiedJwt> for AcceptedJwt {
    fn from(jwt: VerifiedJwt) -> Self {
        Self {
            permissions: Arc::clone(jwt.permissions()),
            expires_at: jwt.expires_at(),
            text: jwt.into_text(),
        }
    }
}

impl Keeper {
    /// One with a fresh key.
    pub fn new() -> Self {
        Self {
            salt: Zeroizing::new(crypto::random()),
            nonces: AtomicU64::new(0),
            shared: Mutex::default(),
        }
    }

    /// What may be kept of a JWT that `token` was resolved to, until that ends.
    pub fn keep(&self, token: &OpaqueToken, jwt: &VerifiedJwt, secrets: &Secrets) -> KeptJwt {
        self.keep_until(jwt.expires_at(), token, jwt, secrets)
    }

    /// The same, no longer than to that time.
    #[allow(clippy::expect_used, reason = "a secret's number has eight bits")]
    pub fn keep_until(
        &self,
        until: UnixTime,
        token: &OpaqueToken,
        jwt: &VerifiedJwt,
        secrets: &Secrets,
    ) -> KeptJwt {
        let nonce = self.nonces.fetch_add(1, Ordering::Relaxed);
        let is_phantom = token.kind() == TokenKind::Phantom;
        let text = if is_phantom {
            jwt.expose()
        } else {
            jwt.signing_input()
        }
        .as_bytes();
        // With room for the tag: a copy that grows leaves another one behind, which nobody clears.
        let mut sealed = Zeroizing::new(Vec::with_capacity(text.len() + TAG_OCTETS));
        sealed.extend_from_slice(text);
        crypto::aes_256_gcm_seal(&self.key(token), nonce_octets(nonce), &[], &mut sealed);
        let mut names = Vec::with_capacity(8);
        for name in jwt.names(secrets, token.entry_key()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let count =
            u16::try_from(names.len()).expect("a name is of one of 255 secrets, and of one of eight kinds");
        let (permissions, own_octets) = self.share(jwt.permissions());
        let mut octets = Vec::with_capacity(names.len() * NAME_OCTETS + sealed.len());
        for name in names {
            octets.extend_from_slice(&name.to_bytes());
        }
        octets.extend_from_slice(&sealed);
        KeptJwt {
            permissions,
            own_octets,
            key: jwt.key(),
            expires_at: jwt.expires_at().min(until),
            begun: BegunAt::of(jwt.lineage(), jwt.issued_at()),
            nonce,
            octets: octets.into(),
            names: count,
            is_phantom,
        }
    }

    /// The same permissions, of another token if one has them, and what they take if none can share them.
    fn share(&self, permissions: &Arc<Permissions>) -> (Arc<Permissions>, u32) {
        let size = permissions.size();
        if size <= MAX_SHARED_OCTETS {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = shared.find(permissions) {
                return (known, 0);
            }
        }
        (Arc::clone(permissions), u32::try_from(size).unwrap_or(u32::MAX))
    }

    /// Opens what was kept of the JWT that belongs to `token`: nothing, if it is another one's.
    pub fn open(&self, token: &OpaqueToken, kept: &KeptJwt) -> Option<AcceptedJwt> {
        let (_, sealed) = kept.parts();
        // A text that could be a split token can be a phantom token, but none of these has a signature to add.
        if !kept.is_phantom && token.kind() == TokenKind::Phantom {
            return None;
        }
        let signature = token.signature();
        let mut text = Zeroizing::new(Vec::with_capacity(sealed.len() + 1 + signature.len()));
        text.extend_from_slice(sealed);
        crypto::aes_256_gcm_open(&self.key(token), nonce_octets(kept.nonce), &[], &mut text).ok()?;
        if !kept.is_phantom {
            text.push(b'.');
            text.extend_from_slice(signature.as_bytes());
        }
        Some(AcceptedJwt {
            text: Zeroizing::new(String::from_utf8(std::mem::take(&mut *text)).ok()?),
            permissions: Arc::clone(&kept.permissions),
            expires_at: kept.expires_at,
        })
    }

    fn key(&self, token: &OpaqueToken) -> Key {
        Zeroizing::new(crypto::sha256_of_parts(&[
            b"symbolon l1",
            &*self.salt,
            token.expose().as_bytes(),
        ]))
    }
}

impl Shared {
    /// The same permissions, known from now on at the latest, if there is room.
    fn find(&mut self, permissions: &Arc<Permissions>) -> Option<Arc<Permissions>> {
        if let Some(known) = self.known.get(permissions) {
            return Some(Arc::clone(known));
        }
        if self.known.len() >= MAX_SHARED {
            // Looking at all of them for each token would cost as much as verifying it.
            let looks = self.refused.is_multiple_of(MAX_SHARED);
            if looks {
                self.known.retain(|known| Arc::strong_count(known) > 1);
            }
            if self.known.len() >= MAX_SHARED {
                self.refused += 1;
                return None;
            }
            self.refused = 0;
        }
        self.known.insert(Arc::clone(permissions));
        Some(Arc::clone(permissions))
    }
}

impl Default for Keeper {
    fn default() -> Self {
        Self::new()
    }
}

impl KeptJwt {
    /// Whether it would still be accepted: it has not ended, its issuer is still one, with the key that it was
    /// signed with (GW-31). What else was checked cannot have changed.
    pub fn is_accepted(&self, policy: &Policy, now: UnixTime) -> Result<(), Rejection> {
        if self.expires_at <= now {
            return Err(Rejection::Expired);
        }
        let issuer = policy.issuer(&self.permissions.issuer).ok_or(Rejection::Issuer)?;
        let keys = issuer.keys.as_deref().ok_or(Rejection::KeysUnavailable)?;
        if keys.holds(self.key) {
            Ok(())
        } else {
            Err(Rejection::UnknownKey)
        }
    }

    /// Whether it came of a phantom token: then it is kept for a while, and its end there is not the JWT's.
    pub fn is_phantom(&self) -> bool {
        self.is_phantom
    }

    /// The `iss` value.
    pub fn issuer(&self) -> &str {
        &self.permissions.issuer
    }

    /// What the token is called in the log.
    pub fn names(&self) -> impl Iterator<Item = Name> + '_ {
        let (names, _) = self.parts();
        names.chunks_exact(NAME_OCTETS).filter_map(Name::from_bytes)
    }

    /// When the token was begun.
    pub fn begun(&self) -> BegunAt {
        self.begun
    }

    /// Octets that it takes, each of its two parts allocated on its own.
    pub fn size(&self) -> usize {
        size_of::<Self>() + 2 * ALLOCATION + self.octets.len() + self.own_octets as usize
    }
}

/// What an allocator takes for each allocation besides, at most.
const ALLOCATION: usize = 16;
/// What a node of the tree of scopes takes besides, at most, and how many it has at least, the first one aside.
const NODE: usize = 11 * size_of::<String>() + 128;
const SCOPES_IN_A_NODE: usize = 5;

impl KeptJwt {
    fn parts(&self) -> (&[u8], &[u8]) {
        self.octets.split_at(usize::from(self.names) * NAME_OCTETS)
    }
}

impl Permissions {
    /// Octets that they take.
    fn size(&self) -> usize {
        let texts = self.audiences.iter().chain(&self.scopes);
        let of_text = |text: &String| text.len() + size_of::<String>() + ALLOCATION;
        let nodes = self.scopes.len().div_ceil(SCOPES_IN_A_NODE) * NODE;
        size_of::<Self>() + self.issuer.len() + nodes + texts.map(of_text).sum::<usize>()
    }
}

fn nonce_octets(number: u64) -> [u8; NONCE_OCTETS] {
    let mut octets = [0; NONCE_OCTETS];
    octets[NONCE_OCTETS - 8..].copy_from_slice(&number.to_be_bytes());
    octets
}

impl fmt::Debug for AcceptedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AcceptedJwt(..)")
    }
}

impl fmt::Debug for KeptJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptJwt(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{
        Algorithm, IssuerPolicy, JwkSet, Lineage, Mark, Profile, Provenance, Secret, SigningKey, TokenKind,
        UnverifiedJwt,
    };

    const ISSUER: &str = "https://id.example.com";
    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    struct Issuer(SigningKey);

    impl Issuer {
        fn new() -> Self {
            Self(SigningKey::generate(Algorithm::Es256).unwrap())
        }

        fn keys(keys: &[&SigningKey]) -> Arc<JwkSet> {
            let keys: Vec<_> = keys.iter().map(|key| key.public_jwk()).collect();
            let text = json!({ "keys": keys }).to_string();
            Arc::new(JwkSet::parse(text.as_bytes(), &[Algorithm::Es256], Provenance::Fetched).unwrap())
        }

        fn accepted_with(keys: Option<Arc<JwkSet>>) -> Policy {
            Policy::new([IssuerPolicy {
                issuer: ISSUER.into(),
                profile: Profile::RFC9068,
                algorithms: vec![Algorithm::Es256],
                tokens: TokenKind::Salted,
                max_lifetime: Duration::from_secs(3600),
                keys,
            }])
        }

        fn policy(&self) -> Policy {
            Self::accepted_with(Some(Self::keys(&[&self.0])))
        }

        /// A token and the JWT that it is resolved to.
        fn issue(&self, scope: &str) -> (OpaqueToken, VerifiedJwt) {
            let claims = json!({
                "iss": ISSUER, "aud": "orders", "sub": "alice", "client_id": "app", "sid": "session",
                "jti": crate::base64url::encode(&crypto::random::<16>()), "scope": scope,
                "iat": NOW.as_secs(), "exp": NOW.as_secs() + 60,
            });
            let claims = serde_json::from_value(claims).unwrap();
            let jwt: UnverifiedJwt = self.0.sign("at+jwt", &claims).unwrap();
            let lineage = Lineage {
                mark: Mark::EMPTY_LOG,
                ..Lineage::default()
            };
            let policy = self.policy();
            let (token, half) = policy.verify_issued(jwt, NOW).unwrap().split(lineage).unwrap();
            let jwt = policy.verify(half.glue(&token).unwrap(), NOW).unwrap();
            (token, jwt)
        }
    }

    fn secrets(numbers: &[u8]) -> Secrets {
        let secret = |number: &u8| Secret::generate(NonZeroU8::new(*number).unwrap());
        Secrets::new(numbers.iter().map(secret).collect()).unwrap()
    }

    #[test]
    fn what_was_kept_opens_to_the_same() {
        let (keeper, issuer) = (Keeper::new(), Issuer::new());
        let (token, jwt) = issuer.issue("orders:read orders:write");
        let accepted = keeper
            .open(&token, &keeper.keep(&token, &jwt, &secrets(&[1])))
            .unwrap();
        assert_eq!(accepted.expose(), jwt.expose());
        assert_eq!(
            (accepted.issuer(), accepted.expires_at()),
            (ISSUER, jwt.expires_at())
        );
        assert!(accepted.is_for("orders") && !accepted.is_for("bills"));
        assert!(accepted.has_scope("orders:write") && !accepted.has_scope("orders"));
        assert!(!accepted.is_sender_constrained());
    }

    #[test]
    fn it_opens_with_no_other_token_and_in_no_other_process() {
        let (keeper, issuer) = (Keeper::new(), Issuer::new());
        let ((token, jwt), (other, _)) = (issuer.issue("a"), issuer.issue("a"));
        let kept = keeper.keep(&token, &jwt, &secrets(&[1]));
        assert!(keeper.open(&other, &kept).is_none());
        assert!(Keeper::new().open(&token, &kept).is_none());
        // Another salt makes another token of one signature.
        let (again, _) = jwt.split(Lineage::default()).unwrap();
        assert!(keeper.open(&again, &kept).is_none());
    }

    // GW-31
    #[test]
    fn it_is_accepted_while_its_end_its_issuer_and_its_key_allow() {
        let (keeper, issuer) = (Keeper::new(), Issuer::new());
        let (token, jwt) = issuer.issue("a");
        let kept = keeper.keep(&token, &jwt, &secrets(&[1]));
        let until = |seconds: u64| UnixTime::from_secs(NOW.as_secs() + seconds);
        assert_eq!(kept.is_accepted(&issuer.policy(), until(59)), Ok(()));
        assert_eq!(
            kept.is_accepted(&issuer.policy(), until(60)),
            Err(Rejection::Expired)
        );
        assert_eq!(kept.is_accepted(&Policy::default(), NOW), Err(Rejection::Issuer));

        let other = Issuer::new();
        let with = |keys: Option<&[&SigningKey]>| Issuer::accepted_with(keys.map(Issuer::keys));
        assert_eq!(kept.is_accepted(&with(Some(&[&other.0, &issuer.0])), NOW), Ok(()));
        assert_eq!(
            kept.is_accepted(&with(Some(&[&other.0])), NOW),
            Err(Rejection::UnknownKey)
        );
        assert_eq!(
            kept.is_accepted(&with(None), NOW),
            Err(Rejection::KeysUnavailable)
        );
    }

    #[test]
    fn it_has_every_name_of_the_token_under_every_secret() {
        let (keeper, issuer) = (Keeper::new(), Issuer::new());
        let (token, jwt) = issuer.issue("a");
        for held in [&[1][..], &[2, 1], &(1..=255).collect::<Vec<_>>()] {
            let secrets = secrets(held);
            let kept = keeper.keep(&token, &jwt, &secrets);
            let mut names: Vec<_> = kept.names().collect();
            assert_eq!(names.len(), 1 + held.len() * 5);
            for name in jwt.names(&secrets, token.entry_key()) {
                assert!(names.contains(&name));
                names.retain(|other| *other != name);
            }
            assert_eq!(names, []);
            assert_eq!(kept.begun(), BegunAt::of(jwt.lineage(), jwt.issued_at()));
            assert!(keeper.open(&token, &kept).is_some());
        }
    }

    #[test]
    fn permissions_are_shared_and_counted_where_they_are_not() {
        let (keeper, issuer) = (Keeper::new(), Issuer::new());
        let keep = |scope: &str| {
            let (token, jwt) = issuer.issue(scope);
            keeper.keep(&token, &jwt, &secrets(&[1]))
        };
        let (first, second) = (keep("a"), keep("a"));
        assert!(Arc::ptr_eq(&first.permissions, &second.permissions));
        assert_eq!(first.size(), second.size());
        let long = "x".repeat(2 * MAX_SHARED_OCTETS);
        let (own, other) = (keep(&long), keep(&long));
        assert!(!Arc::ptr_eq(&own.permissions, &other.permissions));
        assert!(own.size() > own.octets.len() + long.len());
        assert_eq!(keeper.shared.lock().unwrap().known.len(), 1);
        drop((first, second));
        for number in 0..MAX_SHARED {
            drop(keep(&number.to_string()));
        }
        assert!(keeper.shared.lock().unwrap().known.len() <= MAX_SHARED);
    }

    #[test]
    fn where_none_can_be_shared_any_more_that_is_looked_at_now_and_then() {
        let (mut shared, set) = (Shared::default(), |number: usize| {
            Arc::new(Permissions {
                issuer: number.to_string(),
                ..Permissions::default()
            })
        });
        let held: Vec<_> = (0..MAX_SHARED)
            .map(|number| shared.find(&set(number)).unwrap())
            .collect();
        assert!(shared.find(&set(MAX_SHARED)).is_none(), "all are in use");
        drop(held);
        let refused = (0..MAX_SHARED)
            .take_while(|_| shared.find(&set(MAX_SHARED)).is_none())
            .count();
        assert_eq!(refused, MAX_SHARED - 1);
        assert_eq!(shared.known.len(), 1);
    }

    #[test]
    fn one_scope_takes_a_node() {
        let with = |scopes: &[&str]| Permissions {
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            ..Permissions::default()
        };
        // The standard library's leaf has room for eleven texts.
        assert!(with(&["a"]).size() >= with(&[]).size() + 11 * size_of::<String>());
    }

    #[test]
    fn neither_memory_nor_debug_shows_a_claim() {
        let (keeper, issuer) = (Keeper::new(), Issuer::new());
        let (token, jwt) = issuer.issue("a");
        let kept = keeper.keep(&token, &jwt, &secrets(&[1]));
        let payload = jwt.signing_input().split('.').nth(1).unwrap().as_bytes();
        assert!(
            kept.octets
                .windows(16)
                .all(|window| !payload.windows(16).any(|part| part == window))
        );
        assert_eq!(format!("{kept:?}"), "KeptJwt(..)");
        assert_eq!(
            format!("{:?}", keeper.open(&token, &kept).unwrap()),
            "AcceptedJwt(..)"
        );
    }
}
