//! JWK Sets as issuers publish them (RFC 7517): what can be used is kept, what cannot is skipped with its reason.

use std::fmt;

use zeroize::Zeroizing;

use crate::algorithm::{Algorithm, KeyType, RSA_OCTETS};
use crate::base64url;
use crate::crypto::VerificationKey;
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
}

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
    /// Symmetric and asymmetric keys in one set.
    Mixed,
}

const MAX_OCTETS: usize = 256 * 1024;
const MAX_KEYS: usize = 100;
const MAX_KID: usize = 256;

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
        let members: Vec<_> = jwks
            .iter()
            .map(|jwk| {
                if let json::Value::Object(jwk) = jwk {
                    Some(jwk)
                } else {
                    None
                }
            })
            .collect();
        refuse_mixed(members.iter().flatten().copied())?;

        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, jwk) in members.into_iter().enumerate() {
            match jwk
                .ok_or(SkipReason::Malformed)
                .and_then(|jwk| Jwk::read(jwk, allowed, provenance))
            {
                Ok(key) => keys.push((index, key)),
                Err(reason) => skipped.push(Skipped { index, reason }),
            }
        }
        let ambiguous: Vec<usize> = (0..keys.len())
            .filter(|&at| is_ambiguous(&keys, at))
            .map(|at| keys[at].0)
            .collect();
        skipped.extend(ambiguous.iter().map(|&index| Skipped {
            index,
            reason: SkipReason::AmbiguousKid,
        }));
        keys.retain(|(index, _)| !ambiguous.contains(index));
        Ok(Self {
            keys: keys.into_iter().map(|(_, key)| key).collect(),
            skipped,
        })
    }

    /// The keys that are not used.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Whether no key can be used.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
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

    fn read(jwk: &Object, allowed: &[Algorithm], provenance: Provenance) -> Result<Self, SkipReason> {
        let kid = optional_text(jwk, "kid")?
            .filter(|kid| kid.len() <= MAX_KID)
            .map(str::to_owned);
        if jwk.contains_key("kid") && kid.is_none() {
            return Err(SkipReason::Malformed);
        }
        if !is_for_verifying(jwk)? {
            return Err(SkipReason::Use);
        }
        let symmetric = is_symmetric(jwk);
        if symmetric && provenance == Provenance::Fetched {
            return Err(SkipReason::Symmetric);
        }
        if !symmetric && PRIVATE_MEMBERS.iter().any(|member| jwk.contains_key(*member)) {
            return Err(SkipReason::Private);
        }
        let algorithm = algorithm_of(jwk, allowed)?;
        let key = verification_key(jwk, algorithm)?;
        Ok(Self { kid, algorithm, key })
    }
}

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

fn is_ambiguous(keys: &[(usize, Jwk)], at: usize) -> bool {
    let (_, key) = &keys[at];
    let same = |(_, other): &&(usize, Jwk)| other.kid == key.kid && other.algorithm == key.algorithm;
    key.kid.is_some() && keys.iter().filter(same).count() > 1
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
    if candidates.next().is_some() {
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
            if !RSA_OCTETS.contains(&n.len()) || !whole_bits {
                return Err(SkipReason::Size);
            }
            if *e == [1] || e.last().is_none_or(|last| last & 1 == 0) {
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
