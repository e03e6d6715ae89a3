//! Every cryptographic operation. The only module that names a crypto crate, so that one file answers what is used.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, ParsedPublicKey, RsaKeyPair, RsaPublicKeyComponents,
};
use aws_lc_rs::{constant_time, digest, hkdf, hmac, rand, rsa};
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;

/// Octets of an AES-GCM nonce.
pub(crate) const NONCE_OCTETS: usize = 12;
/// Octets of an AES-GCM tag.
pub(crate) const TAG_OCTETS: usize = 16;

/// A 256-bit key, cleared on drop.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// The operation failed. Which step failed is nobody's business but the debugger's.
#[derive(Debug)]
pub(crate) struct Failed;

pub(crate) fn sha256(message: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, message).as_ref());
    out
}

/// SHA-256 of the parts, end to end.
pub(crate) fn sha256_of_parts(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// HMAC-SHA-256 over the parts, end to end.
pub(crate) fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// HMAC-SHA-256 with a key of any length: for showing what [`hkdf_sha256`] warns of.
#[cfg(test)]
pub(crate) fn hmac_sha256_of_any_key(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("32 octets")
}

/// HKDF-SHA-256, Extract and then Expand (RFC 5869 §2.2, §2.3).
///
/// A secret belongs into `ikm`, never into `salt` and never straight into Expand: HMAC replaces a key of more than
/// 64 octets by its hash, so with a long opaque token in either place the result could be computed from the entry
/// key alone, which is public.
#[allow(clippy::expect_used, reason = "32 octets are below the limit of 255 blocks")]
pub(crate) fn hkdf_sha256(salt: &[u8], ikm: &[u8], info: &[u8]) -> Key {
    let mut out = Zeroizing::new([0; 32]);
    hkdf_sha256_into(salt, ikm, info, &mut *out).expect("32 octets are few enough");
    out
}

pub(crate) fn hkdf_sha256_into(salt: &[u8], ikm: &[u8], info: &[u8], out: &mut [u8]) -> Result<(), Failed> {
    struct Octets(usize);
    impl hkdf::KeyType for Octets {
        fn len(&self) -> usize {
            self.0
        }
    }
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(ikm);
    let info = [info];
    let okm = prk.expand(&info, Octets(out.len())).map_err(|_| Failed)?;
    okm.fill(out).map_err(|_| Failed)
}

/// `N` random octets.
#[allow(
    clippy::expect_used,
    reason = "aws-lc ends the process when the system has no randomness"
)]
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    rand::fill(&mut out).expect("the system has randomness");
    out
}

/// Whether two octet strings are equal, in a time that depends on their lengths alone.
pub fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// Appends the tag to `text` after encrypting it in place. A (key, nonce) pair must never be used for two texts.
#[allow(
    clippy::expect_used,
    reason = "the texts sealed here are far below the limit of 64 GiB"
)]
pub(crate) fn aes_256_gcm_seal(key: &[u8; 32], nonce: [u8; NONCE_OCTETS], aad: &[u8], text: &mut Vec<u8>) {
    aes_256_gcm(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text)
        .expect("the text is short enough");
}

/// Decrypts `text` (ciphertext and tag) in place and cuts the tag off, or fails and promises nothing about `text`.
pub(crate) fn aes_256_gcm_open(
    key: &[u8; 32],
    nonce: [u8; NONCE_OCTETS],
    aad: &[u8],
    text: &mut Vec<u8>,
) -> Result<(), Failed> {
    let opened = aes_256_gcm(key)
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text)
        .map_err(|_| Failed)?
        .len();
    text.truncate(opened);
    Ok(())
}

#[allow(clippy::expect_used, reason = "the type of the key says its length")]
fn aes_256_gcm(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has 32 octets"))
}

/// A key that checks signatures of one algorithm.
pub(crate) enum VerificationKey {
    Public(Box<ParsedPublicKey>),
    Mac(Box<hmac::Key>),
}

impl VerificationKey {
    /// An RSA key from the octets of its modulus and exponent, without leading zeros.
    pub(crate) fn rsa(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Result<Self, Failed> {
        let parameters = match algorithm {
            Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return Err(Failed),
        };
        let key = RsaPublicKeyComponents { n, e }
            .to_parsed_public_key(parameters)
            .map_err(|_| Failed)?;
        Ok(Self::Public(Box::new(key)))
    }

    /// A key on P-256 or P-384 from its affine coordinates, or an Ed25519 key from its 32 octets.
    pub(crate) fn curve(algorithm: Algorithm, point: &[&[u8]]) -> Result<Self, Failed> {
        let (parameters, form): (&'static dyn signature::VerificationAlgorithm, &[u8]) = match algorithm {
            Algorithm::Es256 => (&signature::ECDSA_P256_SHA256_FIXED, &[UNCOMPRESSED]),
            Algorithm::Es384 => (&signature::ECDSA_P384_SHA384_FIXED, &[UNCOMPRESSED]),
            Algorithm::EdDsa => (&signature::ED25519, &[]),
            _ => return Err(Failed),
        };
        let octets = [form, &point.concat()].concat();
        let key = ParsedPublicKey::new(parameters, octets).map_err(|_| Failed)?;
        Ok(Self::Public(Box::new(key)))
    }

    /// A symmetric key.
    pub(crate) fn mac(algorithm: Algorithm, key: &[u8]) -> Result<Self, Failed> {
        let hash = match algorithm {
            Algorithm::Hs256 => hmac::HMAC_SHA256,
            Algorithm::Hs384 => hmac::HMAC_SHA384,
            Algorithm::Hs512 => hmac::HMAC_SHA512,
            _ => return Err(Failed),
        };
        Ok(Self::Mac(Box::new(hmac::Key::new(hash, key))))
    }

    /// Whether `signature` is this key's over `message`; for a MAC in constant time.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Public(key) => key.verify_sig(message, signature).is_ok(),
            Self::Mac(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

/// The first octet of an uncompressed point (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 4;

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerificationKey(..)")
    }
}

/// A key that signs, of one of the three algorithms that the token service mints with.
pub(crate) enum PrivateKey {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

/// The public members of a JWK (RFC 7518 §6), as octets.
pub(crate) enum PublicMembers {
    P256 { x: Vec<u8>, y: Vec<u8> },
    Ed25519 { x: Vec<u8> },
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl PrivateKey {
    pub(crate) fn generate(algorithm: Algorithm) -> Result<Self, Failed> {
        match algorithm {
            Algorithm::Es256 => {
                EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).map(Self::Es256)
            }
            Algorithm::EdDsa => Ed25519KeyPair::generate().map(Self::EdDsa),
            Algorithm::Rs256 => RsaKeyPair::generate(rsa::KeySize::Rsa2048).map(Self::Rs256),
            _ => return Err(Failed),
        }
        .map_err(|_| Failed)
    }

    pub(crate) fn from_pkcs8(algorithm: Algorithm, der: &[u8]) -> Result<Self, Failed> {
        match algorithm {
            Algorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Self::Es256)
            }
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(der).map(Self::EdDsa),
            Algorithm::Rs256 => RsaKeyPair::from_pkcs8(der).map(Self::Rs256),
            _ => return Err(Failed),
        }
        .map_err(|_| Failed)
    }

    pub(crate) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Failed> {
        let document = match self {
            Self::Es256(key) => key.to_pkcs8v1().map_err(|_| Failed)?.as_ref().to_vec(),
            Self::EdDsa(key) => key.to_pkcs8v1().map_err(|_| Failed)?.as_ref().to_vec(),
            Self::Rs256(key) => {
                let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| Failed)?;
                der.as_ref().to_vec()
            }
        };
        Ok(Zeroizing::new(document))
    }

    /// The signature in the form of RFC 7518 §3. ECDSA nonces are made from the key and the message with fresh
    /// randomness added (TS-07).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Failed> {
        let random = rand::SystemRandom::new();
        match self {
            Self::Es256(key) => key
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec()),
            Self::EdDsa(key) => Ok(key.sign(message).as_ref().to_vec()),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map(|()| signature)
            }
        }
        .map_err(|_| Failed)
    }

    pub(crate) fn public(&self) -> Result<PublicMembers, Failed> {
        match self {
            Self::Es256(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = point.get(1..).ok_or(Failed)?.split_at_checked(32).ok_or(Failed)?;
                Ok(PublicMembers::P256 {
                    x: x.to_vec(),
                    y: y.to_vec(),
                })
            }
            Self::EdDsa(key) => Ok(PublicMembers::Ed25519 {
                x: key.public_key().as_ref().to_vec(),
            }),
            Self::Rs256(key) => {
                let public = key.public_key();
                Ok(PublicMembers::Rsa {
                    n: public.modulus().big_endian_without_leading_zero().to_vec(),
                    e: public.exponent().big_endian_without_leading_zero().to_vec(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // GW-29: the comparison is the library's own, which takes as long for every tag; so it is one of the whole tag.
    #[test]
    fn a_mac_is_all_of_it() {
        for (algorithm, octets) in [
            (Algorithm::Hs256, 32),
            (Algorithm::Hs384, 48),
            (Algorithm::Hs512, 64),
        ] {
            let VerificationKey::Mac(mac) = VerificationKey::mac(algorithm, &[7; 64]).unwrap() else {
                panic!("a symmetric key");
            };
            let tag = hmac::sign(&mac, b"message").as_ref().to_vec();
            let key = VerificationKey::Mac(mac);
            assert_eq!(tag.len(), octets);
            assert!(key.verifies(b"message", &tag) && !key.verifies(b"massage", &tag));
            for at in 0..octets {
                let mut changed = tag.clone();
                changed[at] ^= 1;
                assert!(!key.verifies(b"message", &changed) && !key.verifies(b"message", &tag[..at]));
            }
            assert!(!key.verifies(b"message", &[&tag[..], &[0]].concat()));
        }
    }

    #[test]
    fn texts_are_equal_as_a_whole() {
        assert!(equal_in_constant_time(b"", b"") && equal_in_constant_time(b"ab", b"ab"));
        for (one, other) in [("ab", "aB"), ("ab", "a"), ("", "a"), ("ab", "ab\0")] {
            assert!(!equal_in_constant_time(one.as_bytes(), other.as_bytes()));
        }
    }
}
