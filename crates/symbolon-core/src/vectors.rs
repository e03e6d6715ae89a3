//! Every case of every file in `testdata`, run against this crate.
//!
//! Each test states how many cases it ran, so that a file that vanishes or shrinks cannot pass. Where this crate decides
//! otherwise than a case says, the case stands in [`DIFFERENCES`] with the reason, and nowhere else.

mod entry;
mod split;

use serde_json::Value;

/// The cases that are decided otherwise here, on purpose: file, case, reason. A case that no longer differs fails its
/// test until it is taken out.
const DIFFERENCES: &[(&str, &str, &str)] = &[];

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
