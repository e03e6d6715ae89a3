//! `split`: what a client presents, what an honest or poisoned store has for it, what a gateway must say.

use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{assert_agree, elements, hex, read_json, text};
use crate::entry::OpenEntry;
use crate::{
    Algorithm, EntryError, EntryKey, IssuerPolicy, JwkSet, Lineage, OpaqueToken, Policy, Profile, Provenance,
    Rejection, Secret, Secrets, SignatureLengths, Stored, TokenError, TokenKind, UnixTime, VerifiedJwt,
    crypto,
};

const FILE: &str = "split/split-token-cases.json";

/// The check that refused.
#[derive(Debug)]
enum Refused {
    Token(TokenError),
    Entry(EntryError),
    Jwt(Rejection),
    Audience,
    SenderConstrained,
}

#[test]
fn every_case_comes_out_as_stated() {
    let vectors = read_json(FILE);
    let gateway = Gateway::new(&vectors);
    let cases = elements(&vectors, "cases").iter().map(|case| {
        let outcome = gateway.asks(case);
        if let Err(refused) = &outcome {
            let (id, rule) = (text(case, "id"), text(case, "requirement"));
            assert!(refused.shows(rule), "{id}: {rule}, but {refused:?}");
            // What an HTTP front end calls a bad request never gets as far as an entry.
            assert!(case["status"] != 400 || matches!(refused, Refused::Token(_)));
        }
        let agrees = match text(case, "expect") {
            // A twin as this test seals it: under its own entry key, where no honest store has it. More below.
            "accept" | "twin" => outcome.is_ok(),
            "reject" => outcome.is_err(),
            "either" => true,
            other => panic!("expect is {other}"),
        };
        (text(case, "id").to_owned(), agrees)
    });
    assert_agree(FILE, 120, cases);
}

// GW-05: (r, n-s) verifies too. No honest store has it under its entry key, and the jti record kills it with the original.
#[test]
fn a_twin_has_another_entry_key_and_the_same_jti_record() {
    let vectors = read_json(FILE);
    let gateway = Gateway::new(&vectors);
    let cases = elements(&vectors, "cases");
    let twins: Vec<_> = cases.iter().filter(|case| case["expect"] == "twin").collect();
    for twin in &twins {
        let original = cases
            .iter()
            .find(|case| case["expect"] == "accept" && case["entry"] == twin["entry"])
            .expect("the twin's original is a case");
        let of = |case| {
            let token: OpaqueToken = text(case, "presented").parse().unwrap();
            let jti = gateway.asks(case).unwrap().jti_id(gateway.secrets.newest());
            (token.entry_key(), jti)
        };
        let ((twin_key, twin_jti), (key, jti)) = (of(twin), of(original));
        assert_ne!(twin_key, key);
        assert_eq!(twin_jti, jti);
    }
    assert_eq!(twins.len(), 1);
}

// GW-03: each text would have an entry key of its own.
#[test]
fn every_other_text_of_a_signature_is_refused() {
    let vectors = read_json(FILE);
    let aliases: Vec<_> = elements(&vectors, "cases")
        .iter()
        .filter(|case| !case["aliases"].is_null())
        .flat_map(|case| elements(case, "aliases"))
        .map(|alias| alias.as_str().unwrap())
        .collect();
    for alias in &aliases {
        let refused = OpaqueToken::parse(alias, SignatureLengths::any()).unwrap_err();
        assert_eq!(refused, TokenError::NotCanonical);
    }
    assert_eq!(aliases.len(), 48);
}

// ST-01, finding 3
#[test]
fn entry_keys_are_as_stated_and_equal_the_ath_of_a_dpop_proof() {
    let vectors = read_json(FILE);
    let lookups = elements(&vectors, "lookups");
    for lookup in lookups {
        let opaque = text(lookup, "opaque");
        let key = EntryKey::from_bytes(crypto::sha256(opaque.as_bytes()));
        assert_eq!(key.to_string(), text(lookup, "dpop_ath"));
        // The last is the example of RFC 9449 §7.1, an access token of another grammar.
        if lookup["source"].is_null() {
            assert_eq!(opaque.parse::<OpaqueToken>().unwrap().entry_key(), key);
            assert_eq!(key.as_bytes()[..], hex(text(lookup, "sha256_hex")));
            assert_eq!(key.to_string(), text(lookup, "sha256_b64url"));
        }
    }
    assert_eq!(lookups.len(), 6);
}

/// A gateway as the file configures it, with one route.
struct Gateway<'a> {
    policy: Policy,
    secrets: Secrets,
    now: UnixTime,
    audience: &'a str,
}

impl<'a> Gateway<'a> {
    fn new(vectors: &'a Value) -> Self {
        let policy = &vectors["policy"];
        let issuers = elements(policy, "issuers").iter().map(|issuer| {
            let issuer = issuer.as_str().unwrap();
            let algorithms: Vec<_> = elements(&policy["algs"], issuer)
                .iter()
                .map(|name| Algorithm::from_name(name.as_str().unwrap()).unwrap())
                .collect();
            let jwks = vectors["jwks"][issuer].to_string();
            let keys = JwkSet::parse(jwks.as_bytes(), &algorithms, Provenance::Configured).unwrap();
            assert_eq!(keys.skipped(), []);
            IssuerPolicy {
                issuer: issuer.to_owned(),
                profile: Profile::RFC9068,
                algorithms,
                tokens: TokenKind::Signature,
                max_lifetime: Duration::from_secs(3600),
                keys: Some(Arc::new(keys)),
            }
        });
        Self {
            policy: Policy::new(issuers),
            secrets: Secrets::from(Secret::generate(NonZeroU8::MIN)),
            now: UnixTime::from_secs(policy["now"].as_u64().unwrap()),
            audience: text(policy, "audience"),
        }
    }

    /// The whole flow. What the case says that the store has is really sealed, whatever it is: the check that refuses
    /// it is the one that would if the store learnt the deployment secret.
    fn asks(&self, case: &Value) -> Result<VerifiedJwt, Refused> {
        let lengths = self.policy.signature_lengths();
        let token = OpaqueToken::parse(text(case, "presented"), &lengths).map_err(Refused::Token)?;
        let half = OpenEntry::new(text(case, "entry"), Lineage::default());
        let stored = half.seal(&token, &self.secrets).as_bytes().to_vec();
        let Ok(Stored::Live(entry)) = Stored::from_bytes(&stored) else {
            panic!("a sealed entry is one")
        };
        let opened = entry.open(&token, &self.secrets).map_err(Refused::Entry)?;
        let glued = opened.glue(&token).expect("what opens can be glued");
        let verified = self.policy.verify(glued, self.now).map_err(Refused::Jwt)?;
        if !verified.is_for(self.audience) {
            return Err(Refused::Audience);
        }
        if verified.is_sender_constrained() {
            return Err(Refused::SenderConstrained);
        }
        Ok(verified)
    }
}

impl Refused {
    /// Whether the refusal shows the rule that its case is about. One for another reason would show nothing.
    fn shows(&self, rule: &str) -> bool {
        use Rejection::{
            Algorithm, Claim, Expired, Form, Header, Issuer, NotYet, Signature, Type, UnknownKey,
        };
        match self {
            Self::Token(TokenError::NotCanonical) => rule == "GW-03",
            Self::Token(TokenError::WholeJwt) => matches!(rule, "GW-02" | "GW-07"),
            Self::Token(_) => matches!(rule, "GW-02" | "GW-04"),
            // An unencoded payload is not even an entry.
            Self::Entry(EntryError::SigningInput) => matches!(rule, "GW-25" | "GW-30"),
            // GW-02: of the grammar, but of another JWT.
            Self::Jwt(Signature) => matches!(rule, "GW-02" | "GW-20"),
            Self::Jwt(Issuer) => rule == "GW-20",
            Self::Jwt(Algorithm) => matches!(rule, "GW-20" | "GW-21" | "GW-22"),
            Self::Jwt(UnknownKey | Header("jwk" | "jku" | "x5u" | "x5c" | "kid")) => rule == "GW-23",
            Self::Jwt(Type) => rule == "GW-24",
            Self::Jwt(Header("crit" | "b64" | "zip")) => rule == "GW-25",
            Self::Jwt(Claim("aud")) | Self::Audience => rule == "GW-26",
            Self::Jwt(Expired | Claim("exp") | NotYet("iat")) => rule == "GW-27",
            // GW-27: a number that no reader holds.
            Self::Jwt(Form) => matches!(rule, "GW-27" | "GW-28"),
            Self::SenderConstrained => rule == "GW-40",
            Self::Entry(_) | Self::Jwt(_) => false,
        }
    }
}
