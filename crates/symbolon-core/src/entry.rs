//! The store's half: splitting a JWT, sealing, gluing, the stored format.
//!
//! `docs/entry-format.md` is the same for readers in other languages; `testdata/entry` has the vectors.

use std::fmt;

use zeroize::Zeroizing;

use crate::base64url;
use crate::crypto::{self, Key, NONCE_OCTETS, TAG_OCTETS};
use crate::jwt::{MAX_SIGNING_INPUT, UnverifiedJwt};
use crate::record::{GrantId, Lineage, Mark, RecordId, SessionId};
#[cfg(test)]
use crate::secret::Secret;
use crate::secret::Secrets;
use crate::time::UnixTime;
use crate::token::{EntryKey, OpaqueToken, TokenError, TokenKind};

/// What a store keeps of one token: header and payload, sealed under a key that only the opaque token yields. Of a
/// phantom token, which has nothing of the JWT, it is the whole JWT.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry(Box<[u8]>);

/// What is sealed in an entry.
#[derive(Clone)]
pub struct OpenEntry {
    /// The signing input, or the whole JWT.
    text: Zeroizing<String>,
    is_whole: bool,
    lineage: Lineage,
}

/// What is written over an entry when its token is revoked; it outlives the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The number of the secret under which `jti` was made.
    pub secret: u8,
    /// When the store may forget it.
    pub expires_at: UnixTime,
    /// The identifier of the token's jti record, so that a repeated revocation can name it again.
    pub jti: RecordId,
}

/// What a store has under a key. It only rises: absent, live, revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Absent,
    /// The store's half of a token.
    Live(Entry),
    /// A token that was revoked.
    Revoked(Tombstone),
}

/// A JWT whose signature cannot be an opaque token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitError(pub TokenError);

/// Why octets from a store are no entry of this token. The store is wrong, or someone else wrote to it: never the
/// client's fault, and never more than a miss to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// A version that this code does not know. It is never guessed from what follows.
    Version,
    /// Sealed under a secret that this process does not hold.
    UnknownSecret(u8),
    /// Too short or too long to be one.
    Length,
    /// Not sealed with this token and this secret for this key, or changed since.
    Seal,
    /// The plaintext is not of the form that [`OpenEntry::seal`] writes.
    Form,
    /// What was sealed is not a JWS Signing Input, or not the half of what the token is.
    SigningInput,
}

const VERSION: u8 = 1;
const TOMBSTONE: u8 = 0;
const TOMBSTONE_OCTETS: usize = 26;
/// Version and number.
const PREFIX_OCTETS: usize = 2;
/// Kind, grant, session, mark and the length of the signing input.
const FIXED_OCTETS: usize = 1 + 16 + 16 + 16 + 4;
/// What is sealed: a signing input, or a whole JWT.
const SPLIT: u8 = 0;
const WHOLE: u8 = 1;
/// Plaintexts are padded to steps of so many octets, so that lengths tell little (ST-08).
const PADDING_STEP: usize = 256;
/// Octets of an entry besides its plaintext.
const FRAME_OCTETS: usize = PREFIX_OCTETS + NONCE_OCTETS + TAG_OCTETS;
const MIN_ENTRY: usize = FRAME_OCTETS + PADDING_STEP;
const MAX_ENTRY: usize = 64 * 1024;
/// What can be split fits into an entry, and nothing longer.
const _: () = {
    let blocks = (MAX_ENTRY - FRAME_OCTETS) / PADDING_STEP;
    assert!(FIXED_OCTETS + MAX_SIGNING_INPUT == blocks * PADDING_STEP);
};

impl UnverifiedJwt {
    /// Cuts it into the client's half and the store's, which carries `lineage` along. A phantom token is no half: it is
    /// made up, and the store has the whole.
    pub fn split(&self, kind: TokenKind, lineage: Lineage) -> Result<(OpaqueToken, OpenEntry), SplitError> {
        if kind == TokenKind::Phantom {
            let whole = OpenEntry::whole(self, lineage);
            let whole = whole.ok_or(SplitError(TokenError::Length))?;
            return Ok((OpaqueToken::made_up(), whole));
        }
        let token = OpaqueToken::issue(self.signature(), kind).map_err(SplitError)?;
        Ok((token, OpenEntry::new(self.signing_input(), lineage)))
    }
}

impl OpenEntry {
    pub(crate) fn new(signing_input: &str, lineage: Lineage) -> Self {
        Self {
            text: Zeroizing::new(signing_input.to_owned()),
            is_whole: false,
            lineage,
        }
    }

    /// None if it is too long.
    pub(crate) fn whole(jwt: &UnverifiedJwt, lineage: Lineage) -> Option<Self> {
        (jwt.expose().len() <= MAX_SIGNING_INPUT).then(|| Self {
            text: Zeroizing::new(jwt.expose().to_owned()),
            is_whole: true,
            lineage,
        })
    }

    /// What the token service knew of the token.
    pub fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// Whether it is a whole JWT, of a phantom token: for a token service to introspect, and not for gateways, which
    /// look halves up.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Seals it for the store, under the newest secret and a fresh nonce.
    pub fn seal(&self, token: &OpaqueToken, secrets: &Secrets) -> Entry {
        let secret = secrets.newest();
        self.seal_with(
            token,
            secret.number().get(),
            &key(secret.entry(), token),
            crypto::random(),
        )
    }

    /// The nonce is an argument for the vectors alone. The key follows from the token, and a deterministic signature
    /// can come again with another lineage: a nonce that repeats would then give both plaintexts away (ST-06).
    #[allow(clippy::expect_used, reason = "no longer signing input is taken")]
    fn seal_with(&self, token: &OpaqueToken, number: u8, key: &Key, nonce: [u8; NONCE_OCTETS]) -> Entry {
        let length = u32::try_from(self.text.len()).expect("it is below 64 KiB");
        let padded = (FIXED_OCTETS + self.text.len()).next_multiple_of(PADDING_STEP);
        let mut text = Zeroizing::new(Vec::with_capacity(padded + TAG_OCTETS));
        text.push(if self.is_whole { WHOLE } else { SPLIT });
        text.extend_from_slice(self.lineage.grant.as_bytes());
        text.extend_from_slice(self.lineage.session.as_bytes());
        text.extend_from_slice(&self.lineage.mark.to_bytes());
        text.extend_from_slice(&length.to_be_bytes());
        text.extend_from_slice(self.text.as_bytes());
        text.resize(padded, 0);
        crypto::aes_256_gcm_seal(key, nonce, &associated_data(number, token.entry_key()), &mut text);
        Entry([&[VERSION, number], &nonce[..], &text].concat().into())
    }

    /// Puts the halves together. What comes out is as unverified as what the store gave.
    pub fn glue(&self, token: &OpaqueToken) -> Result<UnverifiedJwt, crate::JwtError> {
        if self.is_whole {
            return UnverifiedJwt::from_glue(self.text.clone(), TokenKind::Phantom, self.lineage);
        }
        let signature = token.signature();
        let mut text = Zeroizing::new(String::with_capacity(self.text.len() + 1 + signature.len()));
        text.push_str(&self.text);
        text.push('.');
        text.push_str(signature);
        UnverifiedJwt::from_glue(text, token.kind(), self.lineage)
    }
}

impl fmt::Debug for OpenEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenEntry(..)")
    }
}

impl Entry {
    /// Opens it with the token that it was made of.
    pub fn open(&self, token: &OpaqueToken, secrets: &Secrets) -> Result<OpenEntry, EntryError> {
        let number = self.number();
        let secret = secrets
            .numbered(number)
            .ok_or(EntryError::UnknownSecret(number))?;
        self.open_with(token, &key(secret.entry(), token))
    }

    fn open_with(&self, token: &OpaqueToken, key: &Key) -> Result<OpenEntry, EntryError> {
        let sealed = &self.0[PREFIX_OCTETS..];
        let (nonce, sealed) = sealed.split_first_chunk().ok_or(EntryError::Length)?;
        let mut text = Zeroizing::new(sealed.to_vec());
        let aad = associated_data(self.number(), token.entry_key());
        crypto::aes_256_gcm_open(key, *nonce, &aad, &mut text).map_err(|_| EntryError::Seal)?;
        read_plaintext(&text)
    }

    fn number(&self) -> u8 {
        self.0[1]
    }

    /// The octets to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} octets)", self.0.len())
    }
}

impl Stored {
    /// Reads the octets that a store has under a key.
    pub fn from_bytes(octets: &[u8]) -> Result<Self, EntryError> {
        match octets.first() {
            Some(&VERSION) => {
                if (MIN_ENTRY..=MAX_ENTRY).contains(&octets.len()) {
                    Ok(Self::Live(Entry(octets.into())))
                } else {
                    Err(EntryError::Length)
                }
            }
            Some(&TOMBSTONE) => Tombstone::from_bytes(octets).map(Self::Revoked),
            Some(_) => Err(EntryError::Version),
            None => Err(EntryError::Length),
        }
    }
}

impl Tombstone {
    /// The octets to store.
    pub fn to_bytes(&self) -> [u8; TOMBSTONE_OCTETS] {
        let mut octets = [TOMBSTONE; TOMBSTONE_OCTETS];
        octets[1] = self.secret;
        octets[2..10].copy_from_slice(&self.expires_at.as_secs().to_be_bytes());
        octets[10..].copy_from_slice(self.jti.as_bytes());
        octets
    }

    fn from_bytes(octets: &[u8]) -> Result<Self, EntryError> {
        let octets: &[u8; TOMBSTONE_OCTETS] = octets.try_into().map_err(|_| EntryError::Length)?;
        let [_, secret, rest @ ..] = octets;
        let (expiry, jti) = rest.split_first_chunk().ok_or(EntryError::Length)?;
        // Under a number that is not held it is a tombstone all the same: the token stays revoked.
        if *secret == 0 {
            return Err(EntryError::UnknownSecret(0));
        }
        Ok(Self {
            secret: *secret,
            expires_at: UnixTime::from_secs(u64::from_be_bytes(*expiry)),
            jti: RecordId::from_bytes(jti.try_into().map_err(|_| EntryError::Length)?),
        })
    }
}

fn key(salt: &[u8], token: &OpaqueToken) -> Key {
    crypto::hkdf_sha256(salt, token.expose().as_bytes(), b"symbolon entry v1")
}

/// Binds the entry to its version, its secret and its key: none can be moved to another place in the store.
fn associated_data(number: u8, key: EntryKey) -> [u8; 34] {
    let mut data = [VERSION; 34];
    data[1] = number;
    data[2..].copy_from_slice(key.as_bytes());
    data
}

fn read_plaintext(text: &[u8]) -> Result<OpenEntry, EntryError> {
    let (fixed, rest) = text.split_first_chunk::<FIXED_OCTETS>().ok_or(EntryError::Form)?;
    let field = |at: usize| -> [u8; 16] { std::array::from_fn(|i| fixed[at + i]) };
    let length = u32::from_be_bytes([fixed[49], fixed[50], fixed[51], fixed[52]]) as usize;
    let (sealed, padding) = rest.split_at_checked(length).ok_or(EntryError::Form)?;
    let padded_as_written = text.len() == (FIXED_OCTETS + length).next_multiple_of(PADDING_STEP);
    if !padded_as_written || padding.iter().any(|&octet| octet != 0) {
        return Err(EntryError::Form);
    }
    let sealed = std::str::from_utf8(sealed).ok();
    let lineage = Lineage {
        grant: GrantId::from_bytes(field(1)),
        session: SessionId::from_bytes(field(17)),
        mark: Mark::from_bytes(field(33)),
    };
    match (fixed[0], sealed) {
        (SPLIT, Some(text)) if is_signing_input(text) => Ok(OpenEntry::new(text, lineage)),
        (SPLIT, _) => Err(EntryError::SigningInput),
        (WHOLE, Some(text)) => {
            let jwt = UnverifiedJwt::parse(Zeroizing::new(text.to_owned())).ok();
            jwt.and_then(|jwt| OpenEntry::whole(&jwt, lineage))
                .ok_or(EntryError::Form)
        }
        _ => Err(EntryError::Form),
    }
}

/// Exactly two non-empty base64url parts: what a poisoned store may not smuggle into a header field is any octet
/// besides (GW-30).
fn is_signing_input(text: &str) -> bool {
    text.len() <= MAX_SIGNING_INPUT
        && text.split_once('.').is_some_and(|(header, payload)| {
            [header, payload]
                .iter()
                .all(|part| !part.is_empty() && base64url::is_alphabet(part))
        })
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the JWT's signature cannot be an opaque token: {}", self.0)
    }
}

impl std::error::Error for SplitError {}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version => f.write_str("entry of an unknown version"),
            Self::UnknownSecret(number) => {
                write!(f, "entry under secret {number}, which is not held")
            }
            Self::Length => f.write_str("entry of an impossible length"),
            Self::Seal => f.write_str("entry that does not open with this token and secret"),
            Self::Form => f.write_str("entry whose plaintext has another form"),
            Self::SigningInput => f.write_str("entry that seals no JWS signing input"),
        }
    }
}

impl std::error::Error for EntryError {}

/// Number 0, no secret: it stands in the vectors alone, so that a reader can be tried without one. No program seals
/// or opens it, and outside these tests nothing can.
#[cfg(test)]
pub(crate) fn seal_for_vectors(
    entry: &OpenEntry,
    token: &OpaqueToken,
    secret: Option<&Secret>,
    nonce: [u8; NONCE_OCTETS],
) -> Entry {
    let number = secret.map_or(0, |secret| secret.number().get());
    entry.seal_with(
        token,
        number,
        &key(secret.map_or(&[][..], |secret| secret.entry()), token),
        nonce,
    )
}

#[cfg(test)]
pub(crate) fn open_without_secret(entry: &Entry, token: &OpaqueToken) -> Result<OpenEntry, EntryError> {
    entry.open_with(token, &key(&[], token))
}

/// Splitting, and what can only be shown where keys are seen. Everything else that a hostile store can and cannot do is in
/// `tests/hostile_store.rs`, through the public API.
#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use super::*;
    use crate::Algorithm;

    const INFO: &[u8] = b"symbolon entry v1";

    // BR-13: the tag of a JWE, ES512, ML-DSA; and a text that a client could spell otherwise.
    #[test]
    fn a_signature_that_is_no_opaque_token_is_not_split() {
        for (signature, error) in [
            ("A".repeat(22), TokenError::Length),
            ("A".repeat(176), TokenError::Length),
            ("A".repeat(1401), TokenError::Length),
            ("A".repeat(85) + "B", TokenError::NotCanonical),
        ] {
            let jwt = UnverifiedJwt::parse(Zeroizing::new(format!("e30.e30.{signature}"))).unwrap();
            for kind in [TokenKind::Signature, TokenKind::Salted] {
                assert_eq!(
                    jwt.split(kind, Lineage::default()).unwrap_err(),
                    SplitError(error)
                );
            }
        }
    }

    // TS-04, TS-16: nothing of the JWT is in a phantom token, and the store has all of it, sealed as any entry.
    #[test]
    fn of_a_phantom_token_the_whole_is_sealed() {
        let secrets = Secrets::from(Secret::generate(NonZeroU8::MIN));
        let jwt = UnverifiedJwt::parse(Zeroizing::new("e30.e31.AA".to_owned())).unwrap();
        let (token, whole) = jwt.split(TokenKind::Phantom, Lineage::default()).unwrap();
        let (other, _) = jwt.split(TokenKind::Phantom, Lineage::default()).unwrap();
        assert_ne!(token.expose(), other.expose());
        assert_eq!((token.kind(), token.expose().len()), (TokenKind::Phantom, 43));
        let entry = whole.seal(&token, &secrets);
        let opened = entry.open(&token, &secrets).unwrap();
        assert!(opened.is_whole());
        let glued = opened.glue(&token).unwrap();
        assert_eq!(
            (glued.expose(), glued.glued().unwrap().0),
            ("e30.e31.AA", TokenKind::Phantom)
        );
        assert_eq!(entry.open(&other, &secrets).unwrap_err(), EntryError::Seal);

        let too_long = format!("e30.{}.AA", "e".repeat(MAX_SIGNING_INPUT - 4));
        let too_long = UnverifiedJwt::parse(Zeroizing::new(too_long)).unwrap();
        assert_eq!(
            too_long
                .split(TokenKind::Phantom, Lineage::default())
                .unwrap_err(),
            SplitError(TokenError::Length)
        );
        // Half a JWT under the kind of a whole one, and the other way round.
        for (text, is_whole, error) in [
            ("e30.e31", true, EntryError::Form),
            ("e30.e31.AA", false, EntryError::SigningInput),
        ] {
            let wrong = OpenEntry {
                is_whole,
                ..OpenEntry::new(text, Lineage::default())
            };
            assert_eq!(
                wrong.seal(&token, &secrets).open(&token, &secrets).unwrap_err(),
                error
            );
        }
    }

    // ST-11: HMAC hashes keys of more than 64 octets, and the hash of the token is the entry key, which is public.
    #[test]
    fn no_key_follows_from_the_entry_key() {
        let secret = Secret::generate(NonZeroU8::MIN);
        for token in tokens_of_every_length() {
            let text = token.expose().as_bytes();
            let entry_key = token.entry_key();
            let wrong = wrong_derivations(text, secret.entry());
            let from_the_entry_key_alone = wrong_derivations(entry_key.as_bytes(), secret.entry());
            assert_eq!(
                wrong == from_the_entry_key_alone,
                text.len() > 64,
                "{}",
                text.len()
            );

            let real = *key(secret.entry(), &token);
            for other in [wrong, from_the_entry_key_alone].concat() {
                assert_ne!(real, other);
            }
            let input = crypto::hkdf_sha256(secret.entry(), entry_key.as_bytes(), INFO);
            assert_ne!(real, *input);
        }
    }

    // ST-04, ST-07, ST-11: he has the token, the entry key and a secret of his own under the right number.
    #[test]
    fn a_writer_without_the_secret_makes_no_entry_that_opens() {
        let secrets = Secrets::from(Secret::generate(NonZeroU8::MIN));
        let own = Secret::generate(NonZeroU8::MIN);
        let half = OpenEntry::new("e30.e30", Lineage::default());
        for token in tokens_of_every_length() {
            let text = token.expose().as_bytes();
            let input = |salt: &[u8], ikm: &[u8]| *crypto::hkdf_sha256(salt, ikm, INFO);
            let keys = [
                vec![
                    input(&[], text),
                    input(own.entry(), text),
                    input(own.log(), text),
                    input(b"symbolon", text),
                    input(own.entry(), token.entry_key().as_bytes()),
                    *token.entry_key().as_bytes(),
                    [0; 32],
                ],
                wrong_derivations(text, own.entry()).to_vec(),
                wrong_derivations(text, &[]).to_vec(),
            ];
            for forged in keys.concat() {
                let nonce = crypto::random();
                let entry = half.seal_with(&token, 1, &Key::new(forged), nonce);
                assert_eq!(entry.open(&token, &secrets).unwrap_err(), EntryError::Seal);
            }
            // Neither can he say that there is no secret.
            let entry = half.seal_with(&token, 0, &key(&[], &token), crypto::random());
            let refused = entry.open(&token, &secrets).unwrap_err();
            assert_eq!(refused, EntryError::UnknownSecret(0));
            let entry = half.seal(&token, &secrets);
            assert!(entry.open(&token, &secrets).is_ok());
        }
    }

    /// Each puts the token where a key belongs: HMAC, Expand alone (RFC 5869 §3.3), and as the salt of Extract.
    fn wrong_derivations(token: &[u8], subkey: &[u8]) -> [[u8; 32]; 3] {
        [
            crypto::hmac_sha256_of_any_key(token, INFO),
            crypto::hmac_sha256_of_any_key(token, &[INFO, &[1]].concat()),
            *crypto::hkdf_sha256(token, subkey, INFO),
        ]
    }

    fn tokens_of_every_length() -> Vec<OpaqueToken> {
        let mut octets: Vec<_> = Algorithm::ALL
            .into_iter()
            .flat_map(Algorithm::signature_octets)
            .collect();
        octets.sort_unstable();
        octets.dedup();
        let salt = base64url::encode(&crypto::random::<16>());
        let random = crypto::random::<1024>();
        octets
            .into_iter()
            .map(|&octets| base64url::encode(&random[..octets]))
            .flat_map(|signature| [format!("{signature}.{salt}"), signature])
            .map(|text| text.parse().expect("a token"))
            .collect()
    }
}
