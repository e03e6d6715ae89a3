//! `entry`: what `docs/entry-format.md` says, as data. Made in JavaScript, so that no mistake of this crate is in it.

use serde_json::Value;
use zeroize::Zeroizing;

use super::{assert_agree, elements, hex, read_json, text};
use crate::crypto;
use crate::entry::{OpenEntry, open_without_secret, seal_for_vectors};
use crate::{
    Entry, EntryError, GrantId, Lineage, Mark, OpaqueToken, RecordId, RecordType, Secret, Secrets, Stored,
    TokenKind, Tombstone, UnixTime, UnverifiedJwt, base64url, sha256,
};

const FILE: &str = "entry/entry-v1.json";

#[test]
fn every_subkey_is_as_stated() {
    let vectors = read_json(FILE);
    let secrets = elements(&vectors, "secrets");
    for stated in secrets {
        let secret: Secret = text(stated, "text").parse().unwrap();
        assert_eq!(Some(u64::from(secret.number().get())), stated["number"].as_u64());
        let subkey = |label: &str| octets(&stated["subkeys"], label);
        for label in ["entry", "log", "ledger", "trace", "fallback"] {
            let ikm = octets(stated, "secret");
            assert_eq!(
                crypto::hkdf_sha256(b"symbolon", &ikm, label.as_bytes())[..],
                subkey(label)
            );
        }
        assert_eq!(secret.entry()[..], subkey("entry"));
        assert_eq!(secret.log()[..], subkey("log"));
        let hmac = |label, parts: &[&[u8]]| crypto::hmac_sha256(&subkey(label).try_into().unwrap(), parts);
        assert_eq!(
            secret.ledger_key("code", "https://as.example", "SplxlOBeZQQYbYS6WxSbIA"),
            hmac("ledger", &[b"codehttps://as.example\0SplxlOBeZQQYbYS6WxSbIA"])
        );
        let token: OpaqueToken = text(&elements(&vectors, "cases")[0], "token").parse().unwrap();
        assert_eq!(
            hex(&secret.correlation_id(&token)),
            hmac("trace", &[token.expose().as_bytes()])[..8]
        );
    }
    assert_eq!(secrets.len(), 2);
}

#[test]
fn every_entry_is_sealed_opened_and_glued_as_stated() {
    let vectors = read_json(FILE);
    let secrets = Secrets::new(secrets(&vectors)).unwrap();
    let cases = elements(&vectors, "cases").iter().map(|case| {
        let token: OpaqueToken = text(case, "token").parse().unwrap();
        assert_eq!(kind(token.kind()), text(case, "kind"));
        assert_eq!(token.entry_key().to_string(), text(case, "entry_key"));

        let number = number(case);
        let secret = secrets.numbered(number);
        let salt = secret.map_or(&[][..], |secret| secret.entry());
        let key = crypto::hkdf_sha256(salt, token.expose().as_bytes(), b"symbolon entry v1");
        assert_eq!(key[..], hex(text(case, "key")));

        let half = OpenEntry::new(text(case, "signing_input"), lineage(case));
        let nonce = hex(text(case, "nonce")).try_into().unwrap();
        let sealed = seal_for_vectors(&half, &token, secret, nonce);
        assert_eq!(sealed.as_bytes(), octets(case, "entry"));

        let entry = live(&octets(case, "entry")).unwrap();
        let opened = if number == 0 {
            assert_eq!(
                entry.open(&token, &secrets).unwrap_err(),
                EntryError::UnknownSecret(0)
            );
            open_without_secret(&entry, &token).unwrap()
        } else {
            entry.open(&token, &secrets).unwrap()
        };
        assert_eq!(opened.lineage(), lineage(case));
        let glued = opened.glue(&token).unwrap();
        assert_eq!(glued.signing_input(), text(case, "signing_input"));
        (text(case, "id").to_owned(), glued.expose() == text(case, "jwt"))
    });
    assert_agree("entry/entry-v1.json: cases", 46, cases);
}

#[test]
fn every_whole_jwt_is_sealed_and_opened_as_stated() {
    let vectors = read_json(FILE);
    let secrets = Secrets::new(secrets(&vectors)).unwrap();
    let cases = elements(&vectors, "whole").iter().map(|case| {
        let token = OpaqueToken::parse_made_up(text(case, "token")).unwrap();
        assert_eq!(token.entry_key().to_string(), text(case, "entry_key"));
        let jwt = UnverifiedJwt::parse(Zeroizing::new(text(case, "jwt").to_owned())).unwrap();
        let whole = OpenEntry::whole(&jwt, lineage(case)).unwrap();
        let nonce = hex(text(case, "nonce")).try_into().unwrap();
        let sealed = seal_for_vectors(&whole, &token, secrets.numbered(number(case)), nonce);
        assert_eq!(sealed.as_bytes(), octets(case, "entry"));

        let opened = live(&octets(case, "entry")).unwrap();
        let opened = opened.open(&token, &secrets).unwrap();
        assert!(opened.is_whole() && opened.lineage() == lineage(case));
        let glued = opened.glue(&token).unwrap();
        (text(case, "id").to_owned(), glued.expose() == text(case, "jwt"))
    });
    assert_agree("entry/entry-v1.json: whole", 3, cases);
}

// The limit of 64 KiB is not in the file, which it would swell.
#[test]
fn the_longest_signing_input_opens_and_a_longer_one_does_not() {
    let vectors = read_json(FILE);
    let secrets = Secrets::new(secrets(&vectors)).unwrap();
    let token: OpaqueToken = text(&elements(&vectors, "cases")[0], "token").parse().unwrap();
    let stored = |characters: usize| {
        let half = OpenEntry::new(&format!("e30.{:e<1$}", "", characters - 4), Lineage::default());
        half.seal(&token, &secrets).as_bytes().to_vec()
    };
    let longest = live(&stored(65_227)).unwrap();
    assert_eq!(
        longest
            .open(&token, &secrets)
            .unwrap()
            .glue(&token)
            .unwrap()
            .signing_input()
            .len(),
        65_227
    );
    assert_eq!(live(&stored(65_228)).unwrap_err(), EntryError::Length);
}

#[test]
fn every_wrong_entry_is_refused_for_the_reason_stated() {
    let vectors = read_json(FILE);
    let secrets = Secrets::new(secrets(&vectors)).unwrap();
    let cases = elements(&vectors, "refused").iter().map(|case| {
        let Ok(token) = text(case, "token").parse::<OpaqueToken>() else {
            return (text(case, "id").to_owned(), text(case, "error") == "token");
        };
        let refused = live(&octets(case, "entry")).and_then(|entry| entry.open(&token, &secrets));
        let agrees = refused.is_err_and(|error| is_named(error, case));
        (text(case, "id").to_owned(), agrees)
    });
    assert_agree("entry/entry-v1.json: refused", 91, cases);
}

#[test]
fn every_tombstone_reads_as_stated() {
    let vectors = read_json(FILE);
    let secrets = secrets(&vectors);
    let cases = elements(&vectors, "tombstones").iter().map(|case| {
        let secret = secrets
            .iter()
            .find(|secret| secret.number().get() == number(case))
            .unwrap();
        let jti = case["jti"].as_str().map_or_else(
            || sha256(text(case, "signing_input").as_bytes()).to_vec(),
            |jti| jti.as_bytes().to_vec(),
        );
        let id = RecordId::of(secret, RecordType::Jti, text(case, "issuer"), &jti);
        assert_eq!(id.as_bytes()[..], hex(text(case, "identifier")));
        let tombstone = Tombstone {
            secret: number(case),
            expires_at: UnixTime::from_secs(text(case, "expiry").parse().unwrap()),
            jti: id,
        };
        let stored = octets(case, "tombstone");
        assert_eq!(tombstone.to_bytes()[..], stored);
        (
            text(case, "id").to_owned(),
            Stored::from_bytes(&stored) == Ok(Stored::Revoked(tombstone)),
        )
    });
    assert_agree("entry/entry-v1.json: tombstones", 5, cases);
}

#[test]
fn every_wrong_tombstone_is_none() {
    let vectors = read_json(FILE);
    let cases = elements(&vectors, "tombstones_refused").iter().map(|case| {
        let stored = Stored::from_bytes(&octets(case, "tombstone"));
        (
            text(case, "id").to_owned(),
            !matches!(stored, Ok(Stored::Revoked(_))),
        )
    });
    assert_agree("entry/entry-v1.json: tombstones_refused", 7, cases);
}

// GW-02, GW-03
#[test]
fn every_token_is_taken_or_refused_as_stated() {
    let vectors = read_json(FILE);
    let tokens = &vectors["tokens"];
    for case in elements(tokens, "accepted") {
        let token: OpaqueToken = text(case, "text").parse().unwrap();
        assert_eq!(kind(token.kind()), text(case, "kind"));
        assert_eq!(token.entry_key().to_string(), text(case, "entry_key"));
    }
    for case in elements(tokens, "refused") {
        assert!(
            text(case, "text").parse::<OpaqueToken>().is_err(),
            "{}",
            text(case, "about")
        );
    }
    assert_eq!(elements(tokens, "accepted").len(), 21);
    assert_eq!(elements(tokens, "refused").len(), 51);
}

/// Whether the error is what the case's first broken rule is called here.
fn is_named(error: EntryError, case: &Value) -> bool {
    let stored = octets(case, "entry");
    match text(case, "error") {
        // What cannot hold one block is not decrypted first to see what else is wrong with it.
        _ if stored.len() < 286 && stored.first() == Some(&1) => error == EntryError::Length,
        "truncated" => error == EntryError::Length,
        // A first octet 0 says tombstone.
        "wrong_version" if stored[0] == 0 => error == EntryError::Length,
        "wrong_version" => error == EntryError::Version,
        "unknown_number" => error == EntryError::UnknownSecret(stored[1]),
        "tampered" => error == EntryError::Seal,
        "padding" | "kind" | "length" => error == EntryError::Form,
        "signing_input" => error == EntryError::SigningInput,
        _ => false,
    }
}

/// The entry in these octets. A tombstone is none.
fn live(stored: &[u8]) -> Result<Entry, EntryError> {
    match Stored::from_bytes(stored)? {
        Stored::Live(entry) => Ok(entry),
        Stored::Revoked(_) | Stored::Absent => Err(EntryError::Length),
    }
}

fn secrets(vectors: &Value) -> Vec<Secret> {
    let texts = elements(vectors, "secrets")
        .iter()
        .map(|secret| text(secret, "text"));
    texts.map(|text| text.parse().unwrap()).collect()
}

fn lineage(case: &Value) -> Lineage {
    let id = |member| RecordId::from_bytes(hex(text(case, member)).try_into().unwrap());
    let mark = |member| text(&case["mark"], member).parse().unwrap();
    let grant: GrantId = id("grant");
    Lineage {
        grant,
        session: id("session"),
        mark: Mark {
            milliseconds: mark("ms"),
            counter: mark("seq"),
        },
    }
}

fn kind(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Signature => "signature",
        TokenKind::Salted => "salted",
        TokenKind::Phantom => "phantom",
    }
}

fn number(case: &Value) -> u8 {
    case["number"]
        .as_u64()
        .and_then(|number| number.try_into().ok())
        .expect("a number")
}

fn octets(case: &Value, member: &str) -> Vec<u8> {
    base64url::decode(text(case, member)).expect("base64url")
}
