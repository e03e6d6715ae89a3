//! What one who reads or writes the store can and cannot do, through the public API alone.
//!
//! He cannot make an entry that opens, change one, or move one to another token. He can delete, delay, write tombstones
//! and put back what was there: that is why revocation does not rest on entries.

use std::collections::HashMap;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use symbolon_core::{
    Algorithm, Entry, EntryError, GrantId, IssuerPolicy, JwkSet, Lineage, Mark, OpaqueToken, OpenEntry,
    Policy, Profile, Provenance, RecordId, RecordType, Secret, Secrets, SigningKey, Stored, TokenKind,
    Tombstone, UnixTime, UnverifiedJwt, base64url,
};
use zeroize::Zeroizing;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

// ST-09
#[test]
fn an_entry_with_one_bit_changed_does_not_open() {
    let deployment = Deployment::new(TokenKind::Salted);
    let (token, stored) = deployment.publish(&claims());
    assert!(deployment.open(&token, &stored).is_ok());
    for bit in 0..stored.len() * 8 {
        let mut changed = stored.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let error = deployment.open(&token, &changed).unwrap_err();
        let expected = match bit / 8 {
            0 if changed[0] == 0 => EntryError::Length,
            0 => EntryError::Version,
            1 => EntryError::UnknownSecret(changed[1]),
            _ => EntryError::Seal,
        };
        assert_eq!(error, expected, "bit {bit}");
    }
}

// ST-09
#[test]
fn an_entry_cut_or_continued_anywhere_does_not_open() {
    let deployment = Deployment::new(TokenKind::Signature);
    let (token, stored) = deployment.publish(&claims());
    for length in 0..stored.len() {
        let error = deployment.open(&token, &stored[..length]).unwrap_err();
        assert!(
            matches!(error, EntryError::Length | EntryError::Seal),
            "{length}: {error}"
        );
    }
    for more in [1, 16, 255, 256, 1 << 16, 1 << 20] {
        let continued = [&stored[..], &vec![0; more]].concat();
        let error = deployment.open(&token, &continued).unwrap_err();
        assert!(
            matches!(error, EntryError::Length | EntryError::Seal),
            "{more}: {error}"
        );
    }
}

// ST-09
#[test]
fn an_entry_of_another_version_is_not_guessed() {
    let deployment = Deployment::new(TokenKind::Signature);
    let (token, mut stored) = deployment.publish(&claims());
    for version in 2..=255 {
        stored[0] = version;
        assert_eq!(deployment.open(&token, &stored).unwrap_err(), EntryError::Version);
    }
}

// ST-06
#[test]
fn an_entry_does_not_open_for_another_token() {
    let deployment = Deployment::new(TokenKind::Salted);
    let (alice, alices) = deployment.publish(&claims());
    let (mallory, mallorys) = deployment.publish(&with("sub", "mallory"));
    assert_eq!(deployment.open(&alice, &mallorys).unwrap_err(), EntryError::Seal);
    assert_eq!(deployment.open(&mallory, &alices).unwrap_err(), EntryError::Seal);
    // Nor for the signature alone, which every API sees, with or without a salt of one's own.
    let signature = alice.expose().split('.').next().unwrap();
    for other in [
        signature.to_owned(),
        format!("{signature}.AAAAAAAAAAAAAAAAAAAAAA"),
    ] {
        assert_eq!(
            deployment.open(&other.parse().unwrap(), &alices).unwrap_err(),
            EntryError::Seal
        );
    }
}

// ST-06: each part is bound to the others.
#[test]
fn parts_of_two_entries_of_one_token_do_not_make_a_third() {
    let deployment = Deployment::new(TokenKind::Signature);
    let (token, half) = deployment.split(&claims());
    let [one, two] = [(); 2].map(|()| half.seal(&token, &deployment.secrets).as_bytes().to_vec());
    assert_ne!(one, two, "nonces are random");
    for cut in [14, 14 + 256, one.len() - 16] {
        let spliced = [&one[..cut], &two[cut..]].concat();
        assert_eq!(deployment.open(&token, &spliced).unwrap_err(), EntryError::Seal);
    }
}

// ST-07
#[test]
fn an_entry_opens_under_the_secret_of_its_number_and_no_other() {
    let mut deployment = Deployment::new(TokenKind::Salted);
    let (token, old) = deployment.publish(&claims());
    let [first, second] = [deployment.secrets.newest().clone(), secret(2)];

    deployment.secrets = Secrets::new(vec![second.clone(), first]).unwrap();
    assert!(deployment.open(&token, &old).is_ok());
    let (new_token, new) = deployment.publish(&claims());
    assert_eq!((old[1], new[1]), (1, 2));

    // The old secret is destroyed: an old copy of the store is closed for good.
    deployment.secrets = Secrets::from(second);
    assert_eq!(
        deployment.open(&token, &old).unwrap_err(),
        EntryError::UnknownSecret(1)
    );
    assert!(deployment.open(&new_token, &new).is_ok());
    let mut relabelled = old.clone();
    relabelled[1] = 2;
    assert_eq!(
        deployment.open(&token, &relabelled).unwrap_err(),
        EntryError::Seal
    );

    deployment.secrets = Secrets::from(secret(1));
    assert_eq!(deployment.open(&token, &old).unwrap_err(), EntryError::Seal);
}

// ST-02, ST-08
#[test]
fn an_entry_shows_neither_token_nor_claims_nor_their_length() {
    let deployment = Deployment::new(TokenKind::Signature);
    let (token, stored) = deployment.publish(&claims());
    let contains = |part: &[u8]| stored.windows(part.len()).any(|window| window == part);
    let (signature, half) = (token.expose(), deployment.split(&claims()).1);
    let jwt = half.glue(&token).unwrap();
    for piece in jwt
        .signing_input()
        .as_bytes()
        .chunks(16)
        .chain(signature.as_bytes().chunks(16))
    {
        assert!(!contains(piece));
    }
    assert!(!contains(&base64url::decode(signature).unwrap()));
    assert!(!contains(token.entry_key().as_bytes()));
    let lengths: Vec<_> = ["a", "alice", "alexandra-the-great"]
        .map(|sub| deployment.publish(&with("sub", sub)).1.len())
        .to_vec();
    assert_eq!(lengths, [stored.len(); 3]);
}

// Even one who learnt the deployment secret: what opens is verified in full.
#[test]
fn what_the_issuer_did_not_sign_is_refused_though_it_opens() {
    let deployment = Deployment::new(TokenKind::Signature);
    let (token, _) = deployment.split(&claims());
    let stranger = Deployment::new(TokenKind::Signature);
    let (_, forged) = stranger.split(&with("scope", "admin"));
    let stored = forged.seal(&token, &deployment.secrets).as_bytes().to_vec();
    let glued = deployment.open(&token, &stored).unwrap().glue(&token).unwrap();
    assert!(deployment.policy.verify(glued, NOW).is_err());
}

// What remains to a writer: an entry that was there before is a good entry. The record in the log, which gateways hold,
// kills it all the same.
#[test]
fn an_entry_put_back_over_its_tombstone_opens_and_has_the_record_that_kills_it() {
    let deployment = Deployment::new(TokenKind::Salted);
    let secret = deployment.secrets.newest();
    let (token, stored) = deployment.publish(&claims());
    let verify = |stored: &[u8]| {
        let glued = deployment.open(&token, stored)?.glue(&token).unwrap();
        Ok::<_, EntryError>(deployment.policy.verify(glued, NOW).unwrap())
    };
    let mut store = HashMap::from([(token.entry_key(), stored.clone())]);

    let revoked = verify(&store[&token.entry_key()]).unwrap();
    let record = (RecordType::Jti, revoked.jti_id(secret));
    let tombstone = Tombstone {
        secret: 1,
        expires_at: revoked.expires_at(),
        jti: record.1,
    };
    store.insert(token.entry_key(), tombstone.to_bytes().to_vec());
    let found = Stored::from_bytes(&store[&token.entry_key()]);
    assert_eq!(found, Ok(Stored::Revoked(tombstone)));

    store.insert(token.entry_key(), stored);
    let revived = verify(&store[&token.entry_key()]).unwrap();
    assert!(revived.record_ids(secret).any(|id| id == record));
}

// OP-01
#[test]
fn nothing_that_bears_a_secret_prints_it() {
    let deployment = Deployment::new(TokenKind::Salted);
    let secret = deployment.secrets.newest();
    let jwt = deployment.key.sign("at+jwt", &claims()).unwrap();
    let verified = deployment.policy.verify_issued(jwt.clone(), NOW).unwrap();
    let (token, half) = verified.split(lineage()).unwrap();
    let entry = half.seal(&token, &deployment.secrets);
    let oct = json!({ "keys": [{ "kty": "oct", "k": base64url::encode(&[7; 32]), "alg": "HS256" }] });
    let oct = oct.to_string();
    let keys = JwkSet::parse(oct.as_bytes(), &[Algorithm::Hs256], Provenance::Configured);

    let printed = [
        format!("{token:?} {half:?} {entry:?} {:?}", Stored::Live(entry.clone())),
        format!("{jwt:?} {verified:?} {:?}", verified.lineage()),
        format!("{secret:?} {:?} {:?}", deployment.secrets, deployment.key),
        format!("{:?} {:?}", keys.unwrap(), deployment.policy),
    ]
    .concat();
    let der = deployment.key.to_pkcs8().unwrap();
    let bearers = [
        token.expose().as_bytes(),
        jwt.expose().as_bytes(),
        secret.expose().split_once('.').unwrap().1.as_bytes(),
        entry.as_bytes(),
        &der,
        &[7; 32],
    ]
    .map(<[u8]>::to_vec);
    for bearer in bearers {
        let as_text = String::from_utf8(bearer.clone()).unwrap_or_default();
        let spellings = [
            base64url::encode(&bearer),
            bearer.iter().map(u8::to_string).collect::<Vec<_>>().join(", "),
            bearer
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect::<Vec<_>>()
                .concat(),
            as_text,
        ];
        // Pieces of 16: a part of a secret is not to be printed either.
        for piece in spellings
            .iter()
            .flat_map(|spelling| spelling.as_bytes().chunks_exact(16))
        {
            let piece = std::str::from_utf8(piece).unwrap();
            assert!(!printed.contains(piece), "{printed}");
        }
    }
    for claim in ["alice", "app", "orders"] {
        assert!(!printed.contains(claim), "{claim}: {printed}");
    }
}

proptest! {
    // ST-09
    #[test]
    fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..2048)) {
        let token = token();
        prop_assert!(open(&token, &octets, &Secrets::from(secret(1))).is_err());
    }

    // ST-09: past the first checks.
    #[test]
    fn any_octets_in_the_frame_of_an_entry_do_not_open(
        sealed in prop::collection::vec(any::<u8>(), 0..1024),
    ) {
        let framed = [&[1, 1][..], &sealed].concat();
        let error = open(&token(), &framed, &Secrets::from(secret(1))).unwrap_err();
        prop_assert!(matches!(error, EntryError::Length | EntryError::Seal));
    }

    #[test]
    fn any_tombstone_reads_back(number in 1_u8.., expiry: u64, jti: [u8; 16]) {
        let tombstone = Tombstone {
            secret: number,
            expires_at: UnixTime::from_secs(expiry),
            jti: RecordId::from_bytes(jti),
        };
        let stored = Stored::from_bytes(&tombstone.to_bytes());
        prop_assert_eq!(stored, Ok(Stored::Revoked(tombstone)));
    }

    #[test]
    fn what_is_split_and_sealed_opens_and_is_glued_to_the_same(
        header in "[A-Za-z0-9_-]{1,300}",
        payload in "[A-Za-z0-9_-]{1,3000}",
        signature in prop::sample::select(vec![32, 48, 64, 96, 256, 384, 512, 768, 1024])
            .prop_flat_map(|octets| prop::collection::vec(any::<u8>(), octets)),
        salted: bool,
        grant: [u8; 16],
        session: [u8; 16],
        mark: [u8; 16],
    ) {
        let kind = if salted { TokenKind::Salted } else { TokenKind::Signature };
        let text = format!("{header}.{payload}.{}", base64url::encode(&signature));
        let jwt = UnverifiedJwt::parse(Zeroizing::new(text.clone())).unwrap();
        let lineage = Lineage {
            grant: GrantId::from_bytes(grant),
            session: RecordId::from_bytes(session),
            mark: Mark::from_bytes(mark),
        };
        let secrets = Secrets::from(secret(9));
        let (token, half) = jwt.split(kind, lineage).unwrap();
        let stored = half.seal(&token, &secrets).as_bytes().to_vec();

        let presented: OpaqueToken = token.expose().parse().unwrap();
        prop_assert_eq!(presented.entry_key(), token.entry_key());
        prop_assert_eq!(presented.kind(), kind);
        let opened = open(&presented, &stored, &secrets).unwrap();
        prop_assert_eq!(opened.lineage(), lineage);
        let glued = opened.glue(&presented).unwrap();
        prop_assert_eq!(glued.expose(), text);
    }
}

/// One issuer, one gateway, one secret of number 1.
struct Deployment {
    key: SigningKey,
    policy: Policy,
    secrets: Secrets,
}

impl Deployment {
    fn new(tokens: TokenKind) -> Self {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let jwks = json!({ "keys": [key.public_jwk()] }).to_string();
        let algorithms = vec![Algorithm::Es256];
        let keys = JwkSet::parse(jwks.as_bytes(), &algorithms, Provenance::Fetched).unwrap();
        let policy = Policy::new([IssuerPolicy {
            issuer: "https://id.example.com".into(),
            profile: Profile::RFC9068,
            algorithms,
            tokens,
            max_lifetime: Duration::from_secs(3600),
            keys: Some(Arc::new(keys)),
        }]);
        Self {
            key,
            policy,
            secrets: Secrets::from(secret(1)),
        }
    }

    fn split(&self, claims: &Value) -> (OpaqueToken, OpenEntry) {
        let jwt = self.key.sign("at+jwt", claims).unwrap();
        let verified = self.policy.verify_issued(jwt, NOW).unwrap();
        verified.split(lineage()).unwrap()
    }

    fn publish(&self, claims: &Value) -> (OpaqueToken, Vec<u8>) {
        let (token, half) = self.split(claims);
        let entry: Entry = half.seal(&token, &self.secrets);
        (token, entry.as_bytes().to_vec())
    }

    fn open(&self, token: &OpaqueToken, stored: &[u8]) -> Result<OpenEntry, EntryError> {
        open(token, stored, &self.secrets)
    }
}

/// A tombstone opens to nothing: told as what it is not, an entry.
fn open(token: &OpaqueToken, stored: &[u8], secrets: &Secrets) -> Result<OpenEntry, EntryError> {
    match Stored::from_bytes(stored)? {
        Stored::Live(entry) => entry.open(token, secrets),
        Stored::Revoked(_) | Stored::Absent => Err(EntryError::Length),
    }
}

fn secret(number: u8) -> Secret {
    Secret::generate(NonZeroU8::new(number).unwrap())
}

fn token() -> OpaqueToken {
    base64url::encode(&[5; 64]).parse().unwrap()
}

fn lineage() -> Lineage {
    Lineage {
        grant: GrantId::random_grant(),
        ..Lineage::default()
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example.com", "aud": "api", "sub": "alice", "client_id": "app", "jti": "1",
        "scope": "orders:read", "iat": NOW.as_secs(), "exp": NOW.as_secs() + 60,
    })
}

fn with(claim: &str, value: &str) -> Value {
    let mut claims = claims();
    claims[claim] = json!(value);
    claims
}
