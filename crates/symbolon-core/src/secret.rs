//! The deployment secret: numbers and subkeys.

use std::fmt;
use std::num::NonZeroU8;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::base64url;
use crate::crypto::{self, Key};

/// 32 random octets with a number, known to token services and gateways and not to the store. No `Debug` prints it.
#[derive(Clone)]
pub struct Secret {
    number: NonZeroU8,
    octets: Key,
    entry: Key,
    log: Key,
    ledger: Key,
    trace: Key,
    fallback: Key,
}

/// The deployment secrets that a process holds: the first seals, and all of them open.
///
/// While a secret is being replaced, every process first learns the new one as its second, then takes it as its
/// first; the old one goes when the longest-lived entry under it has ended.
#[derive(Clone, Debug)]
pub struct Secrets(Vec<Secret>);

/// Why a text or a list is no deployment secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretError {
    /// Not `<number>.<base64url of 32 octets>`.
    Form,
    /// A number outside 1 to 255.
    Number,
    /// No secret at all.
    None,
    /// Two secrets of one number.
    Twice(NonZeroU8),
}

impl Secret {
    /// A fresh secret of that number.
    pub fn generate(number: NonZeroU8) -> Self {
        Self::new(number, Zeroizing::new(crypto::random()))
    }

    fn new(number: NonZeroU8, octets: Key) -> Self {
        let subkey = |label: &str| crypto::hkdf_sha256(b"symbolon", &*octets, label.as_bytes());
        Self {
            number,
            entry: subkey("entry"),
            log: subkey("log"),
            ledger: subkey("ledger"),
            trace: subkey("trace"),
            fallback: subkey("fallback"),
            octets,
        }
    }

    /// Its number, which every entry and record made under it carries.
    pub const fn number(&self) -> NonZeroU8 {
        self.number
    }

    /// The text that [`FromStr`] reads, for the file it is kept in.
    pub fn expose(&self) -> Zeroizing<String> {
        let octets = Zeroizing::new(base64url::encode(&*self.octets));
        Zeroizing::new(format!("{}.{}", self.number, *octets))
    }

    pub(crate) fn entry(&self) -> &[u8; 32] {
        &self.entry
    }

    pub(crate) fn log(&self) -> &[u8; 32] {
        &self.log
    }

    /// The name in the ledger of a code or refresh token: nothing of it can be read or guessed from that.
    pub fn ledger_key(&self, kind: &str, issuer: &str, value: &str) -> [u8; 32] {
        crypto::hmac_sha256(
            &self.ledger,
            &[kind.as_bytes(), issuer.as_bytes(), &[0], value.as_bytes()],
        )
    }

    /// What a gateway authenticates with where it asks a token service about a token. Whoever has it can have every
    /// token's JWT, so it is no less a secret than what it is made of.
    pub fn fallback(&self) -> Zeroizing<String> {
        Zeroizing::new(base64url::encode(&*self.fallback))
    }

    /// What logs say in place of a token: 16 hexadecimal digits that only a holder of the secret can make (OP-02).
    pub fn correlation_id(&self, token: &crate::OpaqueToken) -> String {
        let tag = crypto::hmac_sha256(&self.trace, &[token.expose().as_bytes()]);
        tag[..8]
            .iter()
            .fold(String::with_capacity(16), |mut text, octet| {
                text.push(char::from_digit(u32::from(octet >> 4), 16).unwrap_or('0'));
                text.push(char::from_digit(u32::from(octet & 15), 16).unwrap_or('0'));
                text
            })
    }
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let (number, octets) = text
            .trim_end_matches(['\r', '\n'])
            .split_once('.')
            .ok_or(SecretError::Form)?;
        if number.is_empty() || !number.bytes().all(|octet| octet.is_ascii_digit()) || number.starts_with('0')
        {
            return Err(SecretError::Number);
        }
        let number = number.parse().map_err(|_| SecretError::Number)?;
        let decoded = base64url::decode(octets)
            .map(Zeroizing::new)
            .ok_or(SecretError::Form)?;
        let octets = decoded[..].try_into().map_err(|_| SecretError::Form)?;
        Ok(Self::new(number, Zeroizing::new(octets)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, ..)", self.number)
    }
}

impl Secrets {
    /// The secrets in that order; the first seals.
    pub fn new(secrets: Vec<Secret>) -> Result<Self, SecretError> {
        for (at, secret) in secrets.iter().enumerate() {
            if secrets[..at].iter().any(|other| other.number == secret.number) {
                return Err(SecretError::Twice(secret.number));
            }
        }
        if secrets.is_empty() {
            Err(SecretError::None)
        } else {
            Ok(Self(secrets))
        }
    }

    /// The secret that seals.
    pub fn newest(&self) -> &Secret {
        &self.0[0]
    }

    /// All of them, the sealing one first.
    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }

    pub(crate) fn numbered(&self, number: u8) -> Option<&Secret> {
        self.0.iter().find(|secret| secret.number.get() == number)
    }
}

impl From<Secret> for Secrets {
    fn from(secret: Secret) -> Self {
        Self(vec![secret])
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("a deployment secret reads <number>.<base64url of 32 octets>"),
            Self::Number => f.write_str("the number of a deployment secret is 1 to 255"),
            Self::None => f.write_str("no deployment secret"),
            Self::Twice(number) => write!(f, "two deployment secrets have the number {number}"),
        }
    }
}

impl std::error::Error for SecretError {}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "7.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    #[test]
    fn a_secret_reads_back_what_it_wrote() {
        let secret: Secret = format!("{TEXT}\n").parse().unwrap();
        assert_eq!(*secret.expose(), TEXT);
        assert_eq!(secret.number().get(), 7);
    }

    #[test]
    fn each_way_to_be_wrong_has_a_name() {
        for (text, error) in [
            ("", SecretError::Form),
            ("7", SecretError::Form),
            ("7.AAEC", SecretError::Form),
            (&TEXT.replace("7.", "0."), SecretError::Number),
            (&TEXT.replace("7.", "256."), SecretError::Number),
            (&TEXT.replace("7.", "+7."), SecretError::Number),
            (&TEXT.replace("7.", "07."), SecretError::Number),
        ] {
            assert_eq!(text.parse::<Secret>().unwrap_err(), error, "{text}");
        }
        let secret: Secret = TEXT.parse().unwrap();
        assert_eq!(Secrets::new(vec![]).unwrap_err(), SecretError::None);
        assert_eq!(
            Secrets::new(vec![secret.clone(), secret.clone()]).unwrap_err(),
            SecretError::Twice(secret.number)
        );
    }

    // Made with HMAC of Python's standard library.
    #[test]
    fn what_a_gateway_authenticates_with_is_a_subkey() {
        let secret: Secret = TEXT.parse().unwrap();
        assert_eq!(*secret.fallback(), "gdwMT7fapSbYkD2sW6zTMOKQLvuJzK8jRqKTTO59Gzw");
    }

    #[test]
    fn debug_prints_the_number_alone() {
        let secret: Secret = TEXT.parse().unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(7, ..)");
        assert_eq!(format!("{:?}", Secrets::from(secret)), "Secrets([Secret(7, ..)])");
    }
}
