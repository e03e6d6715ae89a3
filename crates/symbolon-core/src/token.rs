//! The client's half: parsing it, and the key of its entry.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use zeroize::Zeroizing;

use crate::algorithm::Algorithm;
use crate::base64url;
use crate::crypto;

/// What stands in a client's hands in place of the JWT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// The JWS Signature as it stands in the JWT. Whoever reads the JWT holds the client's token.
    Signature,
    /// The JWS Signature, a dot and 16 random octets, which the gateway drops before it glues. Nobody who reads the
    /// JWT at an API or in a log can make it.
    Salted,
    /// Whatever the authorization server made up (a phantom token, or any other that says nothing): it alone knows the
    /// JWT, and is asked for it.
    Phantom,
}

/// The access token that a client holds: a bearer credential, cleared on drop, that no `Debug` prints.
///
/// Holding one says that its text follows the grammar (GW-02 to GW-04), not that it means anything.
#[derive(Clone)]
pub struct OpaqueToken {
    text: Zeroizing<String>,
    /// Characters of the JWS Signature, which comes first; zero of a phantom token, which has none.
    signature: usize,
}

/// The name of an entry: SHA-256 of the opaque token's text. Public; it is also the `ath` of a DPoP proof
/// (RFC 9449 §4.2), so nothing may rest on its secrecy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey([u8; 32]);

/// The lengths that the JWS Signature of an opaque token may have, as the allowed algorithms give them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLengths(Vec<usize>);

/// Why a text is no opaque token. None of it is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// An octet outside base64url, or more than one dot.
    Alphabet,
    /// A JWS Signature of a length that no allowed algorithm gives.
    Length,
    /// A second spelling of the same octets (RFC 4648 §3.5).
    NotCanonical,
    /// A salt that is not 16 octets.
    Salt,
    /// Of a phantom token: no b64token (RFC 6750 §2.1), or one of more than [`MAX_PHANTOM`] characters.
    Phantom,
    /// A whole JWT, which is never taken from outside (GW-07).
    WholeJwt,
}

/// Longest phantom token that is taken, in characters.
pub const MAX_PHANTOM: usize = 1400;
/// Octets of a phantom token that a token service of ours makes up.
const MADE_UP_OCTETS: usize = 32;
/// Octets of the salt in a salted token.
const SALT_OCTETS: usize = 16;

impl OpaqueToken {
    /// Reads the text that a client presented.
    pub fn parse(text: &str, lengths: &SignatureLengths) -> Result<Self, TokenError> {
        let (signature, salt) = match text.split_once('.') {
            Some((_, rest)) if rest.contains('.') => return Err(TokenError::WholeJwt),
            Some((signature, salt)) => (signature, Some(salt)),
            None => (text, None),
        };
        if !lengths.contain(signature.len()) {
            return Err(TokenError::Length);
        }
        if salt.is_some_and(|salt| salt.len() != base64url::encoded_len(SALT_OCTETS)) {
            return Err(TokenError::Salt);
        }
        for part in [Some(signature), salt].into_iter().flatten() {
            if !base64url::is_alphabet(part) {
                return Err(TokenError::Alphabet);
            }
            if !base64url::is_canonical(part) {
                return Err(TokenError::NotCanonical);
            }
        }
        Ok(Self {
            signature: signature.len(),
            text: Zeroizing::new(text.to_owned()),
        })
    }

    /// Reads the text that a client presented where an authorization server is asked about it: any b64token, a JWT of
    /// that server's among them.
    pub fn parse_phantom(text: &str) -> Result<Self, TokenError> {
        let is_allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~+/".contains(&octet);
        let unpadded = text.trim_end_matches('=');
        if unpadded.is_empty() || text.len() > MAX_PHANTOM || !unpadded.bytes().all(is_allowed) {
            return Err(TokenError::Phantom);
        }
        Ok(Self {
            signature: 0,
            text: Zeroizing::new(text.to_owned()),
        })
    }

    /// The same text, where an authorization server is asked about it: what could be a split token can be another's.
    #[must_use]
    pub fn to_phantom(&self) -> Self {
        Self {
            signature: 0,
            text: self.text.clone(),
        }
    }

    /// A phantom token that nobody can guess, and in which nothing can be read (TS-04).
    pub(crate) fn made_up() -> Self {
        let octets = Zeroizing::new(crypto::random::<MADE_UP_OCTETS>());
        Self {
            signature: 0,
            text: Zeroizing::new(base64url::encode(&*octets)),
        }
    }

    /// Reads a phantom token of a token service of ours: nothing is looked up that is none.
    pub fn parse_made_up(text: &str) -> Result<Self, TokenError> {
        if text.len() != base64url::encoded_len(MADE_UP_OCTETS) {
            return Err(TokenError::Length);
        }
        if !base64url::is_alphabet(text) {
            return Err(TokenError::Alphabet);
        }
        if !base64url::is_canonical(text) {
            return Err(TokenError::NotCanonical);
        }
        Self::parse_phantom(text)
    }

    /// The token that a client gets for a JWT with that JWS Signature; a salt is fresh each time. A phantom token is
    /// none of it.
    pub(crate) fn issue(signature: &str, kind: TokenKind) -> Result<Self, TokenError> {
        let text = match kind {
            TokenKind::Phantom => return Err(TokenError::Phantom),
            TokenKind::Signature => Zeroizing::new(signature.to_owned()),
            TokenKind::Salted => {
                let salt = crypto::random::<SALT_OCTETS>();
                Zeroizing::new(format!("{signature}.{}", base64url::encode(&salt)))
            }
        };
        Self::parse(&text, SignatureLengths::any())
    }

    /// The name under which a store keeps the other half.
    pub fn entry_key(&self) -> EntryKey {
        EntryKey(crypto::sha256(self.text.as_bytes()))
    }

    /// Which kind the text is.
    pub fn kind(&self) -> TokenKind {
        if self.signature == 0 {
            TokenKind::Phantom
        } else if self.text.len() == self.signature {
            TokenKind::Signature
        } else {
            TokenKind::Salted
        }
    }

    /// The JWS Signature in it; empty if it is a phantom token.
    pub(crate) fn signature(&self) -> &str {
        &self.text[..self.signature]
    }

    /// The text itself, for the client it is issued to and for nobody else.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

/// Reads a token of any algorithm there is; a gateway knows better which it allows, and says so to
/// [`OpaqueToken::parse`].
impl FromStr for OpaqueToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        Self::parse(text, SignatureLengths::any())
    }
}

impl fmt::Debug for OpaqueToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpaqueToken(..)")
    }
}

impl EntryKey {
    /// The key with these octets.
    pub const fn from_bytes(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// Its octets.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(&self.0))
    }
}

impl fmt::Debug for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryKey({self})")
    }
}

impl SignatureLengths {
    /// The lengths of these algorithms' signatures.
    pub fn of(algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        let octets = algorithms.into_iter().flat_map(Algorithm::signature_octets);
        let mut lengths: Vec<_> = octets.map(|&octets| base64url::encoded_len(octets)).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Self(lengths)
    }

    /// The lengths of every algorithm's signatures.
    pub fn any() -> &'static Self {
        static ANY: LazyLock<SignatureLengths> = LazyLock::new(|| SignatureLengths::of(Algorithm::ALL));
        &ANY
    }

    fn contain(&self, characters: usize) -> bool {
        self.0.contains(&characters)
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alphabet => "opaque token holds an octet outside base64url",
            Self::Length => "opaque token has a length that no allowed algorithm gives",
            Self::NotCanonical => "opaque token is not canonical base64url",
            Self::Salt => "opaque token has a salt that is not 16 octets",
            Self::Phantom => "opaque token is no b64token of up to 1,400 characters",
            Self::WholeJwt => "a whole JWT in place of an opaque token",
        })
    }
}

impl std::error::Error for TokenError {}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "EwIaRgq4go4R2M2z7AADywZ2ToxG4gDMoG4SQ1X3GJ0";

    #[test]
    fn the_entry_key_is_the_hash_of_the_exact_text() {
        let token: OpaqueToken = KNOWN.parse().unwrap();
        assert_eq!(
            token.entry_key().to_string(),
            "wEcoppi5rb6_vrL6L5WRxRNbUpZOX0tICVnDzS_GZVE"
        );
        assert_eq!(token.kind(), TokenKind::Signature);
    }

    #[test]
    fn a_salt_changes_the_entry_key_and_not_the_signature() {
        let token: OpaqueToken = format!("{KNOWN}.AAAAAAAAAAAAAAAAAAAAAA").parse().unwrap();
        assert_eq!(token.kind(), TokenKind::Salted);
        assert_eq!(token.signature(), KNOWN);
        assert_ne!(
            token.entry_key(),
            KNOWN.parse::<OpaqueToken>().unwrap().entry_key()
        );
    }

    #[test]
    fn salts_are_fresh() {
        let issue = || OpaqueToken::issue(KNOWN, TokenKind::Salted).unwrap();
        assert_ne!(issue().expose(), issue().expose());
    }

    // GW-02, GW-03, GW-04, GW-07
    #[test]
    fn only_one_grammar_is_taken() {
        let es256 = SignatureLengths::of([Algorithm::Es256]);
        let refused = |text: &str| OpaqueToken::parse(text, SignatureLengths::any()).unwrap_err();
        assert_eq!(OpaqueToken::parse(KNOWN, &es256).unwrap_err(), TokenError::Length);
        assert_eq!(refused(""), TokenError::Length);
        assert_eq!(refused(&KNOWN[..42]), TokenError::Length);
        assert_eq!(refused(&KNOWN.replace('E', "+")), TokenError::Alphabet);
        assert_eq!(refused(&KNOWN.replace('E', "=")), TokenError::Alphabet);
        assert_eq!(refused(&KNOWN.replace("J0", "J1")), TokenError::NotCanonical);
        assert_eq!(refused(&format!("{KNOWN}.")), TokenError::Salt);
        assert_eq!(
            refused(&format!("{KNOWN}.AAAAAAAAAAAAAAAAAAAAA")),
            TokenError::Salt
        );
        assert_eq!(
            refused(&format!("{KNOWN}.AAAAAAAAAAAAAAAAAAAAAB")),
            TokenError::NotCanonical
        );
        assert_eq!(
            refused(&format!("{KNOWN}.AAAAAAAAAAA+AAAAAAAAAA")),
            TokenError::Alphabet
        );
        assert_eq!(refused(&format!("{KNOWN}.{KNOWN}.{KNOWN}")), TokenError::WholeJwt);
        assert_eq!(refused(&"é".repeat(43)), TokenError::Alphabet);
    }

    #[test]
    fn a_phantom_token_is_any_b64token() {
        let whole = format!("{KNOWN}.{KNOWN}.{KNOWN}");
        let longest = "a".repeat(MAX_PHANTOM);
        for text in [KNOWN, "a", "-._~+/==", &whole, &longest] {
            let token = OpaqueToken::parse_phantom(text).unwrap();
            assert_eq!((token.expose(), token.kind()), (text, TokenKind::Phantom));
            assert_eq!(token.signature(), "");
        }
        let token = OpaqueToken::parse_phantom(KNOWN).unwrap();
        assert_eq!(
            token.entry_key(),
            KNOWN.parse::<OpaqueToken>().unwrap().entry_key()
        );
        for text in ["", "=", "a=b", "a b", "a\n", "a,b", "é", &format!("{longest}a")] {
            assert_eq!(OpaqueToken::parse_phantom(text).unwrap_err(), TokenError::Phantom);
        }
        assert_eq!(
            OpaqueToken::issue(KNOWN, TokenKind::Phantom).unwrap_err(),
            TokenError::Phantom
        );
    }

    // GW-02
    #[test]
    fn a_phantom_token_of_ours_has_one_form() {
        let token = OpaqueToken::made_up();
        assert_eq!(
            OpaqueToken::parse_made_up(token.expose()).unwrap().entry_key(),
            token.entry_key()
        );
        let refused = |text: &str| OpaqueToken::parse_made_up(text).unwrap_err();
        assert_eq!(refused(&KNOWN[1..]), TokenError::Length);
        assert_eq!(refused(&KNOWN.replace('E', "+")), TokenError::Alphabet);
        assert_eq!(refused(&KNOWN.replace("J0", "J1")), TokenError::NotCanonical);
    }

    #[test]
    fn debug_prints_nothing_of_it() {
        assert_eq!(
            format!("{:?}", KNOWN.parse::<OpaqueToken>().unwrap()),
            "OpaqueToken(..)"
        );
    }
}
