//! JWS and JWK as others made them: `wycheproof/json_web_*` and `jose-cookbook`. What is signed in them is mostly no
//! JSON object, so claims are not read here.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{COOKBOOK, JWK, JWS, assert_agree, elements, read_json, text};
use crate::json::parse_object;
use crate::verify::{read_part, verify_signature};
use crate::{Algorithm, JwkSet, Provenance, SkipReason, UnverifiedJwt, base64url};

#[test]
fn wycheproof_json_web_signature() {
    assert_signatures_agree(JWS, 401);
}

// The ROCA key in it is refused for its size alone: nothing here looks for such keys.
#[test]
fn wycheproof_json_web_key() {
    assert_signatures_agree(JWK, 26);
}

#[test]
fn wycheproof_json_web_crypto() {
    assert_signatures_agree("wycheproof/json_web_crypto_test.json", 49);
}

// BR-13: valid or not, a JWE is no JWT of ours.
#[test]
fn no_jwe_is_taken_for_a_jws() {
    let vectors = read_json("wycheproof/json_web_crypto_test.json");
    let jwes: Vec<_> = tests(&vectors).filter_map(|(_, test)| test.get("jwe")).collect();
    for jwe in &jwes {
        assert!(parse(&compact(jwe)).is_none());
    }
    assert_eq!(jwes.len(), 34);
}

// MD-08: each set that these files call private has signing keys in it. That is said of each, whatever else it says.
#[test]
fn private_keys_are_skipped_as_such() {
    let files = [JWS, JWK, "wycheproof/json_web_crypto_test.json"];
    let mut count = 0;
    for vectors in files.map(read_json) {
        for group in elements(&vectors, "testGroups")
            .iter()
            .filter(|group| group.get("public").is_some())
        {
            let set = key_set(&group["private"], &Algorithm::ALL).unwrap();
            assert!(set.is_empty());
            let reasons: Vec<_> = set.skipped().iter().map(|skipped| skipped.reason).collect();
            assert!(
                reasons.iter().all(|&reason| reason == SkipReason::Private),
                "{reasons:?}"
            );
            count += 1;
        }
    }
    assert_eq!(count, 33);
}

#[test]
fn jose_cookbook_signatures_in_the_compact_serialization() {
    let stated = [
        ("jws/4_1.rsa_v15_signature", true),
        ("jws/4_2.rsa-pss_signature", true),
        ("jws/4_3.ecdsa_signature", true),
        ("jws/4_4.hmac-sha2_integrity_protection", true),
        ("curve25519/jws", true),
        // Detached content: without it there is nothing to verify.
        ("jws/4_5.signature_with_detached_content", false),
        // GW-25: the payload is not encoded.
        ("rfc7797/hmac-sha2_b64_false", false),
    ];
    let cases = stated.map(|(file, valid)| {
        let example = read_json(&format!("{COOKBOOK}/{file}.json"));
        let (input, output) = (&example["input"], &example["output"]);
        let allowed: Vec<_> = Algorithm::from_name(text(input, "alg")).into_iter().collect();
        let set = key_set(&public(&input["key"]), &allowed);
        (
            file.to_owned(),
            verifies(text(output, "compact"), set.as_ref(), &allowed) == valid,
        )
    });
    assert_agree(COOKBOOK, 7, cases);
}

// GW-25: with `b64` false, an entry can hold such a payload if it is in the alphabet; the header refuses it then.
#[test]
fn an_unencoded_payload_is_refused_by_its_header() {
    let example = read_json("jose-cookbook/rfc7797/hmac-sha2_b64_false.json");
    let compact = text(&example["output"], "compact");
    let encodable: String = compact.chars().filter(|&c| c != ' ' && c != '!').collect();
    let jwt = parse(&encodable).unwrap();
    let header = read_part(jwt.header()).unwrap();
    let set = key_set(&example["input"]["key"], &[Algorithm::Hs256]).unwrap();
    assert_eq!(
        verify_signature(&jwt, &header, &[Algorithm::Hs256], &set),
        Err(crate::Rejection::Header("crit"))
    );
}

#[test]
fn jose_cookbook_json_serializations_are_refused() {
    let folders = [("jws", 8), ("rfc7797", 2), ("curve25519", 1)];
    for (folder, count) in folders {
        let mut examples = 0;
        for file in super::files(&format!("jose-cookbook/{folder}")) {
            let output = &read_json(&file)["output"];
            for serialization in ["json", "json_flat"] {
                if let Some(serialization) = output.get(serialization) {
                    assert!(parse(&serialization.to_string()).is_none(), "{file}");
                }
            }
            examples += 1;
        }
        assert_eq!(examples, count, "{folder}");
    }
}

#[test]
fn jose_cookbook_keys() {
    let rs256 = [Algorithm::Rs256];
    let stated = [
        // P-521 is of no algorithm here.
        (
            "3_1.ec_public_key",
            Provenance::Fetched,
            Some(SkipReason::KeyType),
        ),
        (
            "3_2.ec_private_key",
            Provenance::Fetched,
            Some(SkipReason::Private),
        ),
        ("3_3.rsa_public_key", Provenance::Fetched, None),
        (
            "3_4.rsa_private_key",
            Provenance::Fetched,
            Some(SkipReason::Private),
        ),
        ("3_5.symmetric_key_mac_computation", Provenance::Configured, None),
        // MD-07
        (
            "3_5.symmetric_key_mac_computation",
            Provenance::Fetched,
            Some(SkipReason::Symmetric),
        ),
        (
            "3_6.symmetric_key_encryption",
            Provenance::Configured,
            Some(SkipReason::Use),
        ),
    ];
    for (name, provenance, reason) in stated {
        let key = read_json(&format!("jose-cookbook/jwk/{name}.json"));
        let allowed: &[_] = if name.contains("symmetric") {
            &Algorithm::ALL
        } else {
            &rs256
        };
        let set = JwkSet::parse(
            json!({ "keys": [key] }).to_string().as_bytes(),
            allowed,
            provenance,
        );
        let set = set.unwrap();
        let skipped = set.skipped().first().map(|skipped| skipped.reason);
        assert_eq!((skipped, set.is_empty()), (reason, reason.is_some()), "{name}");
    }
}

fn assert_signatures_agree(file: &str, count: usize) {
    let vectors = read_json(file);
    let cases = tests(&vectors).filter_map(|(group, test)| {
        let jws = compact(test.get("jws")?);
        // The key that a verifier would be given; symmetric ones are called private in these files.
        let keys = group.get("public").unwrap_or(&group["private"]);
        let allowed = allowed(keys, &jws);
        let verifies = verifies(&jws, key_set(keys, &allowed).as_ref(), &allowed);
        Some((test["tcId"].to_string(), verifies == (test["result"] == "valid")))
    });
    assert_agree(file, count, cases);
}

/// What [`Policy::verify`](crate::Policy::verify) does, but for the claims.
fn verifies(jws: &str, keys: Option<&JwkSet>, allowed: &[Algorithm]) -> bool {
    let (Some(jwt), Some(keys)) = (parse(jws), keys) else {
        return false;
    };
    let Ok(header) = read_part(jwt.header()) else {
        return false;
    };
    base64url::decode(jwt.payload()).is_some() && verify_signature(&jwt, &header, allowed, keys).is_ok()
}

fn parse(jws: &str) -> Option<UnverifiedJwt> {
    UnverifiedJwt::parse(Zeroizing::new(jws.to_owned())).ok()
}

/// All algorithms, so that nothing is refused but by the key. A key that names none gets the one that the header asks
/// for, the worst choice there is.
fn allowed(keys: &Value, jws: &str) -> Vec<Algorithm> {
    if keys.get("keys").is_some() || keys.get("alg").is_some() {
        return Algorithm::ALL.to_vec();
    }
    let header = jws
        .split('.')
        .next()
        .and_then(base64url::decode)
        .unwrap_or_default();
    let header = parse_object(&header).unwrap_or_default();
    let alg = header
        .get("alg")
        .and_then(crate::json::Value::as_str)
        .unwrap_or_default();
    Algorithm::from_name(alg).into_iter().collect()
}

fn key_set(keys: &Value, allowed: &[Algorithm]) -> Option<JwkSet> {
    let set = if keys.get("keys").is_some() {
        keys.clone()
    } else {
        json!({ "keys": [keys] })
    };
    JwkSet::parse(set.to_string().as_bytes(), allowed, Provenance::Configured).ok()
}

/// The public part of a key: the cookbook gives only the whole, which no set may hold.
fn public(key: &Value) -> Value {
    let mut key = key.clone();
    for member in ["d", "p", "q", "dp", "dq", "qi"] {
        key.as_object_mut().expect("a key").remove(member);
    }
    key
}

fn tests(vectors: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    elements(vectors, "testGroups")
        .iter()
        .flat_map(|group| elements(group, "tests").iter().map(move |test| (group, test)))
}

/// Some cases are the JSON serialization; its text is what would be presented.
fn compact(serialization: &Value) -> String {
    serialization
        .as_str()
        .map_or_else(|| serialization.to_string(), str::to_owned)
}
