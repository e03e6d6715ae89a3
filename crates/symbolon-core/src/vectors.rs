//! Every case of every file in `testdata`, run against this crate.
//!
//! Each test states how many cases it ran, so that a file that vanishes or shrinks cannot pass. Where this crate decides
//! otherwise than a case says, the case stands in [`DIFFERENCES`] with the reason, and nowhere else.

mod entry;
mod jose;
mod json_parsing;
mod split;
mod wycheproof;

use serde_json::Value;

/// The cases that are decided otherwise here, on purpose: file, case, reason. A case that no longer differs fails its
/// test until it is taken out.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (JWS, "259", EMPTY),
    (JWS, "264", EMPTY),
    (JWS, "268", EMPTY),
    (JWS, "272", EMPTY),
    (JWS, "320", EMPTY),
    (JWS, "325", EMPTY),
    (JWS, "346", OTHER_ALGORITHM),
    (JWS, "347", ES512),
    (JWS, "350", OTHER_ALGORITHM),
    (JWS, "351", ES512),
    (JWS, "367", PADDING_LOST),
    (JWS, "370", PADDING_LOST),
    (JWS, "372", QUESTION_MARK),
    (JWS, "373", QUESTION_MARK),
    (JWK, "4", ONE_KEY_LEFT),
    (COOKBOOK, "jws/4_3.ecdsa_signature", ES512),
    (JSON, "y_object_duplicated_key.json", TWICE),
    (JSON, "y_object_duplicated_key_and_value.json", TWICE),
];

const COOKBOOK: &str = "jose-cookbook";
const JSON: &str = "json-parsing/test_parsing";
const JWK: &str = "wycheproof/json_web_key_test.json";
const JWS: &str = "wycheproof/json_web_signature_test.json";

const EMPTY: &str = "an empty payload is no JWT, and no part of an entry is empty (GW-30)";
const ES512: &str = "ES512 is not implemented";
const ONE_KEY_LEFT: &str = "the other key of that kid is not canonical base64url, so it is skipped";
const OTHER_ALGORITHM: &str = "the key says PS256, the header PS384: one key, one algorithm (GW-22)";
const PADDING_LOST: &str = "padding is meant, but the text is that of 357, which is valid";
const QUESTION_MARK: &str = "a question mark is in no base64url (RFC 7515 §2)";
const TWICE: &str = "two readers could take different ones of two members of one name (GW-28)";

/// Sees that these cases of a file, each with whether it came out as the file says, are so many, and that they all
/// agree but those that [`DIFFERENCES`] lists.
fn assert_agree(file: &str, count: usize, cases: impl IntoIterator<Item = (String, bool)>) {
    let cases: Vec<_> = cases.into_iter().collect();
    let differing: Vec<_> = cases
        .iter()
        .filter(|(_, agrees)| !agrees)
        .map(|(id, _)| id.as_str())
        .collect();
    let listed: Vec<_> = DIFFERENCES
        .iter()
        .filter(|(of, ..)| *of == file)
        .map(|(_, id, _)| *id)
        .collect();
    assert_eq!(differing, listed, "{file}: what differs, what is listed");
    assert_eq!(cases.len(), count, "{file}: cases");
}

fn read(file: &str) -> Vec<u8> {
    let path = format!("{}/testdata/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The JSON files of a folder, sorted.
fn files(folder: &str) -> Vec<String> {
    let path = format!("{}/testdata/{folder}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|path| Some(format!("{folder}/{}", path.file_name()?.to_str()?)))
        .collect();
    files.sort();
    files
}

fn read_json(file: &str) -> Value {
    serde_json::from_slice(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn elements<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value[member]
        .as_array()
        .unwrap_or_else(|| panic!("no array {member}"))
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member]
        .as_str()
        .unwrap_or_else(|| panic!("no text {member}"))
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text
        .chars()
        .map(|c| c.to_digit(16).expect("hexadecimal"))
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("an octet"))
        .collect()
}
