//! base64url without padding, in the one spelling that RFC 7515 §2 and RFC 4648 §3.5 leave: no other octets, and
//! the unused bits of the last character zero. Elsewhere several texts would name the same octets, and whoever
//! keys by the text (entries, records, replay caches) could be evaded with a twin.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Octets as base64url text.
pub fn encode(octets: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

/// The octets of a canonical base64url text, or none.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Exactly `N` octets of a canonical base64url text, or none.
pub fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode(text)?.try_into().ok()
}

/// Whether [`decode`] would give octets, without making them.
pub(crate) fn is_canonical(text: &str) -> bool {
    let Some(last) = text.bytes().last() else {
        return true;
    };
    let unused_bits = match text.len() % 4 {
        0 => 0,
        2 => 0b1111,
        3 => 0b11,
        _ => return false,
    };
    is_alphabet(text) && sextet(last).is_some_and(|value| value & unused_bits == 0)
}

/// Whether every octet is of the base64url alphabet.
pub(crate) fn is_alphabet(text: &str) -> bool {
    text.bytes().all(|octet| sextet(octet).is_some())
}

/// How many characters so many octets take.
pub(crate) const fn encoded_len(octets: usize) -> usize {
    (octets * 8).div_ceil(6)
}

const fn sextet(octet: u8) -> Option<u8> {
    match octet {
        b'A'..=b'Z' => Some(octet - b'A'),
        b'a'..=b'z' => Some(octet - b'a' + 26),
        b'0'..=b'9' => Some(octet - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_canonical_says_what_decode_does(text in "[A-Za-z0-9_=+-]{0,12}") {
            prop_assert_eq!(is_canonical(&text), decode(&text).is_some());
        }

        #[test]
        fn what_was_encoded_decodes(octets: Vec<u8>) {
            let text = encode(&octets);
            prop_assert_eq!(text.len(), encoded_len(octets.len()));
            prop_assert_eq!(decode(&text), Some(octets));
        }
    }
}
