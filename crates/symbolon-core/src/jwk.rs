//! JWK Sets as issuers publish them (RFC 7517): what can be used is kept, what cannot is skipped with its reason.

use std::fmt;

use zeroize::Zeroizing;

use crate::algorithm::{Algorithm, KeyType, RSA_OCTETS};
use crate::base64url;
use crate::crypto::{self, VerificationKey};
use crate::json::{self, Object};

/// The keys of one issuer, each bound to one algorithm (GW-22).
#[derive(Debug)]
pub struct JwkSet {
    keys: Vec<Jwk>,
    skipped: Vec<Skipped>,
}

#[derive(Debug)]
pub(crate) struct Jwk {
    kid: Option<String>,
    algorithm: Algorithm,
    key: VerificationKey,
    id: KeyId,
}

/// A key, told from others by its material and its algorithm: the start of a hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyId([u8; 8]);

/// Where a set comes from, and so whether symmetric keys may be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// From the operator's own file.
    Configured,
    /// From a URL: a symmetric key there would be everybody's (MD-07).
    Fetched,
}

/// A key of the set that is not used, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its place in the `keys` array, from 0.
    pub index: usize,
    /// Why it is not used.
    pub reason: SkipReason,
}

/// Why a key of a set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Not an object, or a member that is missing or has the wrong form.
    Malformed,
    /// A `kty` or `crv` that no allowed algorithm uses.
    KeyType,
    /// `use` or `key_ops` say that it is not for verifying.
    Use,
    /// Its `alg` is not allowed, or does not fit its type.
    Algorithm,
    /// It has no `alg`, and several of the allowed ones would fit.
    AmbiguousAlgorithm,
    /// Another key has the same `kid` and algorithm.
    AmbiguousKid,
    /// It has private members: whoever can read the set can sign. An alarm.
    Private,
    /// A symmetric key in a set from a URL.
    Symmetric,
    /// Too small, or of a size that is not supported.
    Size,
}

/// Why a text is no JWK Set. Nothing of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwkSetError {
    /// Not strict JSON, or no array `keys`.
    Form,
    /// Over 256 KiB or over 100 keys.
    Size,
    /// Symmetric and asymmetric keys in one configured set. In one from a URL, symmetric keys are skipped.
    Mixed,
}

const MAX_OCTETS: usize = 256 * 1024;
const MAX_KEYS: usize = 100;
const MAX_KID: usize = 256;
/// Octets of an RSA exponent. Longer ones make verifying slow, and libraries refuse them.
const MAX_EXPONENT: usize = 4;

impl JwkSet {
    /// Reads a JWK Set for an issuer that may sign with the `allowed` algorithms.
    pub fn parse(text: &[u8], allowed: &[Algorithm], provenance: Provenance) -> Result<Self, JwkSetError> {
        if text.len() > MAX_OCTETS {
            return Err(JwkSetError::Size);
        }
        let set = json::parse_object(text).map_err(|_| JwkSetError::Form)?;
        let jwks = set
            .get("keys")
            .and_then(json::Value::as_array)
            .ok_or(JwkSetError::Form)?;
        if jwks.len() > MAX_KEYS {
            return Err(JwkSetError::Size);
        }
        if provenance == Provenance::Configured {
            refuse_mixed(jwks.iter().filter_map(as_object))?;
        }
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, jwk) in jwks.iter().enumerate() {
            let jwk = as_object(jwk).ok_or(SkipReason::Malformed);
            match jwk.and_then(|jwk| Jwk::read(jwk, allowed, provenance)) {
                Ok(key) => keys.push((index, key)),
                Err(reason) => skipped.push(Skipped { index, reason }),
            }
        }
        skipped.extend(take_ambiguous(&mut keys));
        Ok(Self {
            keys: keys.into_iter().map(|(_, key)| key).collect(),
            skipped,
        })
    }

    /// The keys that are not used.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The algorithm of each key that can be used.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.keys.iter().map(|key| key.algorithm)
    }

    /// Whether no key can be used.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether that key is in it, under whatever name.
    pub(crate) fn holds(&self, key: KeyId) -> bool {
        self.keys.iter().any(|known| known.id == key)
    }

    /// The one key of that name and algorithm. Without a `kid`, the one key of that algorithm. `kid` is a name and
    /// nothing else: it is neither a path nor a URL (GW-23).
    pub(crate) fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Jwk> {
        let fits = |key: &&Jwk| key.algorithm == algorithm && (kid.is_none() || key.kid.as_deref() == kid);
        let mut candidates = self.keys.iter().filter(fits);
        let key = candidates.next()?;
        candidates.next().is_none().then_some(key)
    }
}

impl Jwk {
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verifies(message, signature)
    }

    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    fn read(jwk: &Object, allowed: &[Algorithm], provenance: Provenance) -> Result<Self, SkipReason> {
        // First what is an alarm: a private key says of itself that it is for signing, which would hide it.
        let symmetric = is_symmetric(jwk);
        if symmetric && provenance == Provenance::Fetched {
            return Err(SkipReason::Symmetric);
        }
        if !symmetric && PRIVATE_MEMBERS.iter().any(|member| jwk.contains_key(*member)) {
            return Err(SkipReason::Private);
        }
        let kid = optional_text(jwk, "kid")?
            .filter(|kid| kid.len() <= MAX_KID)
            .map(str::to_owned);
        if jwk.contains_key("kid") && kid.is_none() {
            return Err(SkipReason::Malformed);
        }
        if !is_for_verifying(jwk)? {
            return Err(SkipReason::Use);
        }
        let algorithm = algorithm_of(jwk, allowed)?;
        let key = verification_key(jwk, algorithm)?;
        Ok(Self {
            kid,
            algorithm,
            key,
            id: KeyId::of(jwk, algorithm),
        })
    }
}

impl KeyId {
    fn of(jwk: &Object, algorithm: Algorithm) -> Self {
        let material =
            KEY_MEMBERS.map(|member| jwk.get(member).and_then(json::Value::as_str).unwrap_or_default());
        let mut parts = vec![algorithm.name().as_bytes()];
        // Base64url has no octet 0: what stands between two of them is one member.
        for member in &material {
            parts.extend([&[0][..], member.as_bytes()]);
        }
        let hash = crypto::sha256_of_parts(&parts);
        Self(std::array::from_fn(|at| hash[at]))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyId(..)")
    }
}

/// What a key consists of (RFC 7518 §6.2.1, §6.3.1, §6.4.1, RFC 8037 §2).
const KEY_MEMBERS: [&str; 6] = ["crv", "x", "y", "n", "e", "k"];

/// RFC 7518 §6.2.2 and §6.3.2.
const PRIVATE_MEMBERS: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

fn refuse_mixed<'a>(jwks: impl Iterator<Item = &'a Object>) -> Result<(), JwkSetError> {
    let (mut symmetric, mut asymmetric) = (false, false);
    for jwk in jwks {
        if is_symmetric(jwk) {
            symmetric = true;
        } else {
            asymmetric = true;
        }
    }
    if symmetric && asymmetric {
        Err(JwkSetError::Mixed)
    } else {
        Ok(())
    }
}

/// Takes out every key that shares its `kid` and algorithm with another one.
fn take_ambiguous(keys: &mut Vec<(usize, Jwk)>) -> Vec<Skipped> {
    let ambiguous: Vec<_> = (0..keys.len())
        .filter(|&at| is_ambiguous(keys, at))
        .map(|at| Skipped {
            index: keys[at].0,
            reason: SkipReason::AmbiguousKid,
        })
        .collect();
    keys.retain(|(index, _)| ambiguous.iter().all(|skipped| skipped.index != *index));
    ambiguous
}

fn is_ambiguous(keys: &[(usize, Jwk)], at: usize) -> bool {
    let (_, key) = &keys[at];
    let same = |(_, other): &&(usize, Jwk)| other.kid == key.kid && other.algorithm == key.algorithm;
    key.kid.is_some() && keys.iter().filter(same).count() > 1
}

fn as_object(jwk: &json::Value) -> Option<&Object> {
    match jwk {
        json::Value::Object(members) => Some(members),
        _ => None,
    }
}

fn is_symmetric(jwk: &Object) -> bool {
    jwk.get("kty").and_then(json::Value::as_str) == Some("oct")
}

fn is_for_verifying(jwk: &Object) -> Result<bool, SkipReason> {
    if optional_text(jwk, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Ok(false);
    }
    match jwk.get("key_ops") {
        None => Ok(true),
        Some(operations) => {
            let operations = operations.as_array().ok_or(SkipReason::Malformed)?;
            Ok(operations
                .iter()
                .any(|operation| operation.as_str() == Some("verify")))
        }
    }
}

/// The one algorithm of the key: its own `alg`, or the one allowed algorithm that fits it.
fn algorithm_of(jwk: &Object, allowed: &[Algorithm]) -> Result<Algorithm, SkipReason> {
    let kty = optional_text(jwk, "kty")?.ok_or(SkipReason::Malformed)?;
    let crv = optional_text(jwk, "crv")?;
    let fits = |algorithm: &&Algorithm| match algorithm.key_type() {
        KeyType::Rsa => kty == "RSA",
        KeyType::P256 => kty == "EC" && crv == Some("P-256"),
        KeyType::P384 => kty == "EC" && crv == Some("P-384"),
        KeyType::Ed25519 => kty == "OKP" && crv == Some("Ed25519"),
        KeyType::Octets(_) => kty == "oct",
    };
    let mut candidates = allowed.iter().filter(fits);
    if let Some(alg) = optional_text(jwk, "alg")? {
        return candidates
            .find(|algorithm| algorithm.name() == alg)
            .copied()
            .ok_or(SkipReason::Algorithm);
    }
    let algorithm = *candidates.next().ok_or(SkipReason::KeyType)?;
    if candidates.any(|other| *other != algorithm) {
        Err(SkipReason::AmbiguousAlgorithm)
    } else {
        Ok(algorithm)
    }
}

fn verification_key(jwk: &Object, algorithm: Algorithm) -> Result<VerificationKey, SkipReason> {
    let key = match algorithm.key_type() {
        KeyType::Rsa => {
            let (n, e) = (octets(jwk, "n")?, octets(jwk, "e")?);
            let whole_bits = n.first().is_some_and(|first| first & 0x80 != 0);
            if !RSA_OCTETS.contains(&n.len()) || !whole_bits || e.len() > MAX_EXPONENT {
                return Err(SkipReason::Size);
            }
            let is_odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
            // RFC 7518 §2: as few octets as possible.
            let is_shortest = e.first().is_some_and(|first| *first != 0);
            if !is_odd(&n) || !is_odd(&e) || !is_shortest || *e == [1] {
                return Err(SkipReason::Malformed);
            }
            VerificationKey::rsa(algorithm, &n, &e)
        }
        KeyType::P256 => {
            VerificationKey::curve(algorithm, &[&octets_of(jwk, "x", 32)?, &octets_of(jwk, "y", 32)?])
        }
        KeyType::P384 => {
            VerificationKey::curve(algorithm, &[&octets_of(jwk, "x", 48)?, &octets_of(jwk, "y", 48)?])
        }
        KeyType::Ed25519 => VerificationKey::curve(algorithm, &[&octets_of(jwk, "x", 32)?]),
        KeyType::Octets(least) => {
            let key = octets(jwk, "k")?;
            if key.len() < least {
                return Err(SkipReason::Size);
            }
            VerificationKey::mac(algorithm, &key)
        }
    };
    key.map_err(|_| SkipReason::Malformed)
}

fn optional_text<'a>(jwk: &'a Object, member: &str) -> Result<Option<&'a str>, SkipReason> {
    jwk.get(member)
        .map(|value| value.as_str().ok_or(SkipReason::Malformed))
        .transpose()
}

fn octets(jwk: &Object, member: &str) -> Result<Zeroizing<Vec<u8>>, SkipReason> {
    let text = optional_text(jwk, member)?.ok_or(SkipReason::Malformed)?;
    base64url::decode(text)
        .map(Zeroizing::new)
        .ok_or(SkipReason::Malformed)
}

fn octets_of(jwk: &Object, member: &str, length: usize) -> Result<Zeroizing<Vec<u8>>, SkipReason> {
    octets(jwk, member).and_then(|value| {
        if value.len() == length {
            Ok(value)
        } else {
            Err(SkipReason::Malformed)
        }
    })
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::KeyType => "no allowed algorithm uses its type",
            Self::Use => "not for verifying signatures",
            Self::Algorithm => "its algorithm is not allowed",
            Self::AmbiguousAlgorithm => "it has no alg, and several allowed algorithms fit it",
            Self::AmbiguousKid => "another key has its kid and algorithm",
            Self::Private => "its private part stands beside it",
            Self::Symmetric => "a symmetric key from a URL",
            Self::Size => "unsupported key size",
        })
    }
}

impl fmt::Display for JwkSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "not a JWK Set in strict JSON",
            Self::Size => "a JWK Set of more than 256 KiB or 100 keys",
            Self::Mixed => "a JWK Set with symmetric and asymmetric keys",
        })
    }
}

impl std::error::Error for JwkSetError {}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::SigningKey;

    // MD-08
    #[test]
    fn keys_of_one_kid_are_told_apart_by_alg_or_not_used() {
        let (es256, eddsa) = (key(Algorithm::Es256), key(Algorithm::EdDsa));
        let named = |kid: &str, jwk: &Value| with(jwk, "kid", json!(kid));
        let set = set(&[named("1", &es256), named("1", &eddsa)], &Algorithm::ALL);
        assert_eq!(set.skipped(), []);
        assert!(set.select(Some("1"), Algorithm::Es256).is_some());
        assert!(set.select(Some("1"), Algorithm::EdDsa).is_some());
        assert!(set.select(Some("1"), Algorithm::Rs256).is_none());

        let other = key(Algorithm::Es256);
        let set = self::set(
            &[named("1", &es256), named("2", &eddsa), named("1", &other)],
            &Algorithm::ALL,
        );
        let ambiguous = |index| Skipped {
            index,
            reason: SkipReason::AmbiguousKid,
        };
        assert_eq!(set.skipped(), [ambiguous(0), ambiguous(2)]);
        assert!(set.select(Some("1"), Algorithm::Es256).is_none());
        assert!(set.select(None, Algorithm::Es256).is_none());
        assert!(set.select(Some("2"), Algorithm::EdDsa).is_some());
    }

    // GW-23
    #[test]
    fn a_key_is_selected_by_its_exact_kid_or_as_the_only_one() {
        let jwk = with(&key(Algorithm::Es256), "kid", json!("a"));
        let one = set(std::slice::from_ref(&jwk), &Algorithm::ALL);
        let selects = |set: &JwkSet, kid| set.select(kid, Algorithm::Es256).is_some();
        assert!(selects(&one, Some("a")) && selects(&one, None));
        for other in ["", "A", "a ", "a\0", "../a"] {
            assert!(!selects(&one, Some(other)), "{other:?}");
        }
        let unnamed = set(&[without(&jwk, "kid")], &Algorithm::ALL);
        assert!(selects(&unnamed, None) && !selects(&unnamed, Some("a")));
        let two = set(&[without(&jwk, "kid"), jwk], &Algorithm::ALL);
        assert!(!selects(&two, None) && selects(&two, Some("a")));
        let unnamed = without(&key(Algorithm::Es256), "kid");
        let two = set(&[unnamed.clone(), unnamed], &Algorithm::ALL);
        assert!(two.skipped().is_empty() && !selects(&two, None));
    }

    // GW-22
    #[test]
    fn a_key_without_alg_gets_the_one_allowed_that_fits() {
        use Algorithm::{EdDsa, Es256, Ps256, Rs256};
        let rsa = without(&key(Rs256), "alg");
        let bound = |allowed: &[Algorithm]| set(std::slice::from_ref(&rsa), allowed).keys[0].algorithm;
        assert_eq!(bound(&[Es256, Ps256, EdDsa]), Ps256);
        assert_eq!(bound(&[Rs256, Rs256]), Rs256);
        assert_eq!(
            reason(&rsa, &[Rs256, Ps256]),
            Some(SkipReason::AmbiguousAlgorithm)
        );
        assert_eq!(reason(&rsa, &[Es256]), Some(SkipReason::KeyType));

        let rsa = key(Rs256);
        assert_eq!(reason(&rsa, &[Rs256, Ps256]), None);
        assert_eq!(reason(&rsa, &[Ps256]), Some(SkipReason::Algorithm));
        for alg in ["ES256", "rs256", "none", ""] {
            let jwk = with(&rsa, "alg", json!(alg));
            assert_eq!(
                reason(&jwk, &Algorithm::ALL),
                Some(SkipReason::Algorithm),
                "{alg}"
            );
        }
    }

    // MD-08
    #[test]
    fn what_a_key_says_that_it_is_for_is_obeyed() {
        let jwk = without(&key(Algorithm::Es256), "use");
        for (member, value, expected) in [
            ("use", json!("sig"), None),
            ("use", json!("enc"), Some(SkipReason::Use)),
            ("use", json!(["sig"]), Some(SkipReason::Malformed)),
            ("key_ops", json!(["verify"]), None),
            ("key_ops", json!(["sign", "verify"]), None),
            ("key_ops", json!(["sign"]), Some(SkipReason::Use)),
            ("key_ops", json!([]), Some(SkipReason::Use)),
            ("key_ops", json!("verify"), Some(SkipReason::Malformed)),
            ("an unknown member", json!({}), None),
        ] {
            let jwk = with(&jwk, member, value.clone());
            assert_eq!(reason(&jwk, &Algorithm::ALL), expected, "{member} {value}");
        }
        let both = with(&with(&jwk, "use", json!("sig")), "key_ops", json!(["encrypt"]));
        assert_eq!(reason(&both, &Algorithm::ALL), Some(SkipReason::Use));
    }

    // MD-07, MD-08: the alarm is not hidden by what else is wrong with the key.
    #[test]
    fn private_and_symmetric_keys_are_named_as_such_whatever_else_they_say() {
        let private = with(&key(Algorithm::Es256), "d", json!("AAAA"));
        let symmetric = json!({ "kty": "oct", "k": "A".repeat(43), "alg": "HS256" });
        for (jwk, expected) in [
            (private, SkipReason::Private),
            (symmetric.clone(), SkipReason::Symmetric),
        ] {
            for (member, value) in [
                ("key_ops", json!(["sign"])),
                ("use", json!("enc")),
                ("alg", json!("ES999")),
                ("kid", json!(1)),
            ] {
                let jwk = with(&jwk, member, value);
                assert_eq!(reason(&jwk, &Algorithm::ALL), Some(expected), "{member}");
            }
        }
        let jwks = json!({ "keys": [symmetric] }).to_string();
        let configured = JwkSet::parse(jwks.as_bytes(), &Algorithm::ALL, Provenance::Configured);
        assert_eq!(configured.unwrap().skipped(), []);
    }

    // TS-03, GW-02
    #[test]
    fn rsa_keys_of_other_sizes_and_exponents_are_not_used() {
        let jwk = key(Algorithm::Rs256);
        for (n, expected) in [
            (vec![0x80; 128], SkipReason::Size),
            ([&[0x01][..], &[0x81; 256]].concat(), SkipReason::Size),
            ([&[0x00][..], &[0x81; 256]].concat(), SkipReason::Size),
            (vec![0x7f; 256], SkipReason::Size),
            (vec![0x81; 2048], SkipReason::Size),
            (vec![0x82; 256], SkipReason::Malformed),
            (vec![], SkipReason::Size),
        ] {
            let jwk = with(&jwk, "n", json!(base64url::encode(&n)));
            assert_eq!(reason(&jwk, &Algorithm::ALL), Some(expected), "{n:?}");
        }
        for e in [&[][..], &[0], &[1], &[2], &[0, 1], &[0, 1, 1], &[1, 0, 0]] {
            let jwk = with(&jwk, "e", json!(base64url::encode(e)));
            assert_eq!(
                reason(&jwk, &Algorithm::ALL),
                Some(SkipReason::Malformed),
                "{e:?}"
            );
        }
        let long = with(&jwk, "e", json!(base64url::encode(&[1; 5])));
        assert_eq!(reason(&long, &Algorithm::ALL), Some(SkipReason::Size));
        assert_eq!(reason(&with(&jwk, "e", json!("Aw")), &Algorithm::ALL), None);
    }

    // TS-03: RFC 7518 §3.2 asks for as many octets as the hash has.
    #[test]
    fn a_symmetric_key_is_as_long_as_the_hash_or_not_used() {
        for (algorithm, least) in [
            (Algorithm::Hs256, 32),
            (Algorithm::Hs384, 48),
            (Algorithm::Hs512, 64),
        ] {
            let skipped = |octets: usize| {
                let k = base64url::encode(&vec![7; octets]);
                let jwk = json!({ "kty": "oct", "k": k, "alg": algorithm.name() });
                let jwks = json!({ "keys": [jwk] }).to_string();
                let set = JwkSet::parse(jwks.as_bytes(), &[algorithm], Provenance::Configured).unwrap();
                set.skipped().first().map(|skipped| skipped.reason)
            };
            assert_eq!(skipped(least), None, "{algorithm}");
            assert_eq!(skipped(least - 1), Some(SkipReason::Size), "{algorithm}");
            assert_eq!(skipped(0), Some(SkipReason::Size), "{algorithm}");
        }
    }

    #[test]
    fn malformed_keys_are_skipped_and_the_others_used() {
        let jwk = key(Algorithm::Es256);
        let malformed = [
            with(&jwk, "kid", json!(1)),
            with(&jwk, "kid", json!("k".repeat(257))),
            with(&jwk, "x", json!(base64url::encode(&[0; 31]))),
            with(&jwk, "x", json!(base64url::encode(&[0; 33]))),
            with(&jwk, "x", json!(base64url::encode(&[0; 32]))),
            with(&jwk, "x", json!("=")),
            without(&jwk, "y"),
            without(&jwk, "kty"),
            json!({}),
            json!("a key"),
            json!(null),
        ];
        for malformed in &malformed {
            assert_eq!(reason(malformed, &Algorithm::ALL), Some(SkipReason::Malformed));
        }
        let unknown = json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" });
        let longest = with(&jwk, "kid", json!("k".repeat(256)));
        let keys = [&malformed[..], &[unknown, longest]].concat();
        let set = set(&keys, &Algorithm::ALL);
        assert_eq!(set.skipped().len(), keys.len() - 1);
        assert!(set.select(Some(&"k".repeat(256)), Algorithm::Es256).is_some());
    }

    // MD-05, MD-08
    #[test]
    fn sets_that_are_none_are_refused_whole() {
        let parse =
            |text: &str| JwkSet::parse(text.as_bytes(), &Algorithm::ALL, Provenance::Configured).map(|_| ());
        for text in [
            "",
            "[]",
            "{}",
            r#"{"keys":{}}"#,
            r#"{"keys":[],"keys":[]}"#,
            r#"{"keys":[{"kty":"EC","kty":"EC"}]}"#,
            r#"{"keys":["#,
        ] {
            assert_eq!(parse(text), Err(JwkSetError::Form), "{text}");
        }
        let of = |keys: usize| json!({ "keys": vec![json!({}); keys] }).to_string();
        assert_eq!(parse(&of(100)), Ok(()));
        assert_eq!(parse(&of(101)), Err(JwkSetError::Size));
        let padded = |octets: usize| r#"{"keys":[]}"#.to_owned() + &" ".repeat(octets - 11);
        assert_eq!(parse(&padded(256 * 1024)), Ok(()));
        assert_eq!(parse(&padded(256 * 1024 + 1)), Err(JwkSetError::Size));
        let mixed = json!({ "keys": [{ "kty": "oct" }, key(Algorithm::Es256)] }).to_string();
        assert_eq!(parse(&mixed), Err(JwkSetError::Mixed));
    }

    // MD-07, MD-08: an issuer that leaks a key of another kind does not take its own tokens down with it.
    #[test]
    fn a_symmetric_key_from_a_url_is_skipped_and_the_others_are_used() {
        let set = set(
            &[json!({ "kty": "oct", "k": "AAAA" }), key(Algorithm::Es256)],
            &Algorithm::ALL,
        );
        let skipped = Skipped {
            index: 0,
            reason: SkipReason::Symmetric,
        };
        assert_eq!(set.skipped(), [skipped]);
        assert!(set.select(None, Algorithm::Es256).is_some());
    }

    #[test]
    fn debug_prints_no_key() {
        let k = "A".repeat(43);
        let jwks = json!({ "keys": [{ "kty": "oct", "k": k, "alg": "HS256" }] }).to_string();
        let set = JwkSet::parse(jwks.as_bytes(), &[Algorithm::Hs256], Provenance::Configured);
        let debug = format!("{:?}", set.unwrap());
        assert!(
            debug.contains("VerificationKey(..)") && !debug.contains("AAAA"),
            "{debug}"
        );
    }

    fn key(algorithm: Algorithm) -> Value {
        SigningKey::generate(algorithm).unwrap().public_jwk().clone()
    }

    fn with(jwk: &Value, member: &str, value: Value) -> Value {
        let mut jwk = jwk.clone();
        jwk[member] = value;
        jwk
    }

    fn without(jwk: &Value, member: &str) -> Value {
        let mut jwk = jwk.clone();
        jwk.as_object_mut().unwrap().remove(member);
        jwk
    }

    fn set(keys: &[Value], allowed: &[Algorithm]) -> JwkSet {
        let jwks = json!({ "keys": keys }).to_string();
        JwkSet::parse(jwks.as_bytes(), allowed, Provenance::Fetched).unwrap()
    }

    fn reason(jwk: &Value, allowed: &[Algorithm]) -> Option<SkipReason> {
        let set = set(std::slice::from_ref(jwk), allowed);
        set.skipped().first().map(|skipped| skipped.reason)
    }
}
