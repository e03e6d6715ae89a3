//! The JWS algorithms (RFC 7518 §3, RFC 8037 §3.1) that may stand on an allow-list, and what each implies.

use std::fmt;

/// A JWS algorithm. `none` cannot be written down here, nor can anything that is not implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// HMAC with SHA-256. Symmetric: whoever verifies can sign.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

/// The key types (`kty`, RFC 7518 §6.1) that an algorithm can be used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyType {
    Rsa,
    P256,
    P384,
    Ed25519,
    /// `oct`, of at least so many octets (RFC 7518 §3.2).
    Octets(usize),
}

impl Algorithm {
    /// Every algorithm there is an implementation of.
    pub const ALL: [Self; 12] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
    ];

    /// The algorithm of that `alg` value. Compared exactly: `rs256` names nothing (GW-21).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The `alg` value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    /// Whether the verifier's key is also the signer's.
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    /// The lengths, in octets, that a signature of this algorithm can have (RFC 7518 §3.2 to §3.5, RFC 8032).
    /// RSA signatures are as long as the modulus; of its sizes, those that are in use.
    pub(crate) const fn signature_octets(self) -> &'static [usize] {
        match self {
            Self::Hs256 => &[32],
            Self::Hs384 => &[48],
            Self::Hs512 | Self::Es256 | Self::EdDsa => &[64],
            Self::Es384 => &[96],
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => RSA_OCTETS,
        }
    }

    pub(crate) const fn key_type(self) -> KeyType {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => KeyType::Rsa,
            Self::Es256 => KeyType::P256,
            Self::Es384 => KeyType::P384,
            Self::EdDsa => KeyType::Ed25519,
            Self::Hs256 => KeyType::Octets(32),
            Self::Hs384 => KeyType::Octets(48),
            Self::Hs512 => KeyType::Octets(64),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// RSA moduli of 2048, 3072, 4096, 6144 and 8192 bits. Fixed, because the length of an opaque token must tell
/// whether it can be one before anything is looked up (GW-02); a key of another size is skipped, with that reason.
pub(crate) const RSA_OCTETS: &[usize] = &[256, 384, 512, 768, 1024];
