//! `json-parsing`: what its files call lawful is taken, what they call unlawful is refused, and of the
//! rest only an answer is asked.

use super::{JSON, assert_agree, files, read};
use crate::json::parse;

// GW-28
#[test]
fn every_text_is_taken_or_refused_as_its_name_says() {
    let cases = files(JSON).into_iter().map(|file| {
        let taken = parse(&read(&file)).is_ok();
        let name = &file[JSON.len() + 1..];
        let agrees = match name.split_once('_') {
            Some(("y", _)) => taken,
            Some(("n", _)) => !taken,
            Some(("i", _)) => true,
            _ => panic!("{name} says neither"),
        };
        (name.to_owned(), agrees)
    });
    assert_agree(JSON, 318, cases);
}
