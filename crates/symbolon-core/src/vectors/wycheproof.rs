//! `wycheproof`, but for its JWS and JWK: the operations of `crypto.rs`, each through what the crate calls.

use serde_json::{Value, json};

use super::{assert_agree, elements, hex, read_json, text};
use crate::crypto::{self, VerificationKey};
use crate::{Algorithm, JwkSet, Provenance, base64url};

#[test]
fn rsa_pkcs1() {
    for (file, algorithm, count) in [
        ("rsa_signature_2048_sha256_test", Algorithm::Rs256, 259),
        ("rsa_signature_3072_sha384_test", Algorithm::Rs384, 259),
        ("rsa_signature_4096_sha512_test", Algorithm::Rs512, 259),
    ] {
        assert_signatures_agree(file, algorithm, count, |group| group["keyJwk"].clone());
    }
}

#[test]
fn rsa_pss() {
    for (file, algorithm, count) in [
        ("rsa_pss_2048_sha256_mgf1_32_test", Algorithm::Ps256, 108),
        ("rsa_pss_2048_sha384_mgf1_48_test", Algorithm::Ps384, 141),
        ("rsa_pss_3072_sha256_mgf1_32_test", Algorithm::Ps256, 108),
        ("rsa_pss_4096_sha512_mgf1_64_test", Algorithm::Ps512, 179),
    ] {
        assert_signatures_agree(file, algorithm, count, |group| group["publicKeyJwk"].clone());
    }
}

#[test]
fn ecdsa() {
    for (file, algorithm, count) in [
        ("ecdsa_secp256r1_sha256_p1363_test", Algorithm::Es256, 262),
        ("ecdsa_secp384r1_sha384_p1363_test", Algorithm::Es384, 280),
    ] {
        assert_signatures_agree(file, algorithm, count, ec_jwk);
    }
}

#[test]
fn ed25519() {
    assert_signatures_agree("ed25519_test", Algorithm::EdDsa, 151, |group| {
        group["publicKeyJwk"].clone()
    });
}

// A truncated tag is none, even where the file calls it valid: JWS has whole ones alone (RFC 7518 §3.2).
#[test]
fn hmac() {
    for (file, algorithm, bits) in [
        ("hmac_sha256_test", Algorithm::Hs256, 256),
        ("hmac_sha384_test", Algorithm::Hs384, 384),
        ("hmac_sha512_test", Algorithm::Hs512, 512),
    ] {
        let vectors = read_json(&format!("wycheproof/{file}.json"));
        let (mut truncated, mut cases) = (0, Vec::new());
        for (group, test) in tests(&vectors) {
            // Past the JWK, which wants a key of the hash's length.
            let key = VerificationKey::mac(algorithm, &octets(test, "key")).unwrap();
            let verifies = key.verifies(&octets(test, "msg"), &octets(test, "tag"));
            if group["tagSize"] == bits {
                cases.push((id(test), verifies == is_valid(test)));
            } else {
                assert!(!verifies, "{file}: {}", id(test));
                truncated += 1;
            }
        }
        assert_agree(file, 87, cases);
        assert_eq!(truncated, 87, "{file}");
    }
}

#[test]
fn hkdf_sha256() {
    let vectors = read_json("wycheproof/hkdf_sha256_test.json");
    let cases = tests(&vectors).map(|(_, test)| {
        let mut out = vec![0; test["size"].as_u64().unwrap().try_into().unwrap()];
        let (salt, ikm, info) = (octets(test, "salt"), octets(test, "ikm"), octets(test, "info"));
        let agrees = match crypto::hkdf_sha256_into(&salt, &ikm, &info, &mut out) {
            Ok(()) => is_valid(test) && out == octets(test, "okm"),
            Err(crypto::Failed) => !is_valid(test),
        };
        (id(test), agrees)
    });
    assert_agree("hkdf_sha256_test", 86, cases);
}

// Keys of 256 bits, nonces of 96, tags of 128: the types take nothing else.
#[test]
fn aes_256_gcm() {
    let vectors = read_json("wycheproof/aes_gcm_test.json");
    let ours = |group: &Value| group["keySize"] == 256 && group["ivSize"] == 96 && group["tagSize"] == 128;
    let cases = tests(&vectors).filter(|(group, _)| ours(group)).map(|(_, test)| {
        let key = octets(test, "key").try_into().unwrap();
        let nonce = octets(test, "iv").try_into().unwrap();
        let (aad, message) = (octets(test, "aad"), octets(test, "msg"));
        let sealed = [octets(test, "ct"), octets(test, "tag")].concat();

        let mut opened = sealed.clone();
        let opens = crypto::aes_256_gcm_open(&key, nonce, &aad, &mut opened).is_ok();
        if !is_valid(test) {
            return (id(test), !opens);
        }
        let mut made = message.clone();
        crypto::aes_256_gcm_seal(&key, nonce, &aad, &mut made);
        (id(test), opens && opened == message && made == sealed)
    });
    assert_agree("aes_gcm_test", 66, cases);
}

/// What the file calls acceptable may be either, and is refused: a signature that lacks a NULL is not what RFC 8017
/// writes.
fn assert_signatures_agree(file: &str, algorithm: Algorithm, count: usize, jwk: impl Fn(&Value) -> Value) {
    let vectors = read_json(&format!("wycheproof/{file}.json"));
    let cases = elements(&vectors, "testGroups").iter().flat_map(|group| {
        let set = json!({ "keys": [jwk(group)] }).to_string();
        let set = JwkSet::parse(set.as_bytes(), &[algorithm], Provenance::Fetched).unwrap();
        assert_eq!(set.skipped(), [], "{file}");
        elements(group, "tests").iter().map(move |test| {
            let key = set.select(None, algorithm).unwrap();
            let verifies = key.verifies(&octets(test, "msg"), &octets(test, "sig"));
            (id(test), verifies == is_valid(test))
        })
    });
    assert_agree(file, count, cases);
}

/// Some groups have no JWK, only the point.
fn ec_jwk(group: &Value) -> Value {
    group.get("publicKeyJwk").cloned().unwrap_or_else(|| {
        let point = octets(&group["publicKey"], "uncompressed");
        let (x, y) = point[1..].split_at(point.len() / 2);
        let crv = match text(&group["publicKey"], "curve") {
            "secp256r1" => "P-256",
            "secp384r1" => "P-384",
            other => panic!("curve {other}"),
        };
        json!({ "kty": "EC", "crv": crv, "x": base64url::encode(x), "y": base64url::encode(y) })
    })
}

fn tests(vectors: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    elements(vectors, "testGroups")
        .iter()
        .flat_map(|group| elements(group, "tests").iter().map(move |test| (group, test)))
}

fn is_valid(test: &Value) -> bool {
    test["result"] == "valid"
}

fn id(test: &Value) -> String {
    test["tcId"].to_string()
}

fn octets(value: &Value, member: &str) -> Vec<u8> {
    hex(text(value, member))
}
