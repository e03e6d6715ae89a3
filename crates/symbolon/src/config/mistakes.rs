//! What is wrong with a file, each mistake at its place.

use std::fmt;

/// Everything that is wrong with a configuration file, in the order of the file.
///
/// No reason quotes what was written as a value: the place points at it, and it may be a secret under the wrong key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    file: String,
    mistakes: Vec<Mistake>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mistake {
    line: usize,
    column: usize,
    reason: String,
}

impl Mistakes {
    /// The mistakes of `text`, each given by the octet it stands at and its reason.
    pub(super) fn new(file: &str, text: &str, mut found: Vec<(usize, String)>) -> Self {
        found.sort_by_key(|&(offset, _)| offset);
        let mistake = |(offset, reason): (usize, String)| {
            let (line, column) = place(text, offset);
            // One line a mistake, whatever a key holds.
            Mistake {
                line,
                column,
                reason: reason.replace(char::is_control, " "),
            }
        };
        Self {
            file: file.to_owned(),
            mistakes: found.into_iter().map(mistake).collect(),
        }
    }

    /// The one mistake of a file that could not be read.
    pub(super) fn unreadable(file: &str, error: &std::io::Error) -> Self {
        Self::new(file, "", vec![(0, format!("cannot be read: {error}"))])
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, mistakes } = self;
        for Mistake { line, column, reason } in mistakes {
            writeln!(f, "{file}:{line}:{column}: {reason}")?;
        }
        match mistakes.len() {
            1 => write!(f, "1 mistake in {file}"),
            count => write!(f, "{count} mistakes in {file}"),
        }
    }
}

impl std::error::Error for Mistakes {}

/// Line and column of an octet, both from 1; a column is a character.
fn place(text: &str, offset: usize) -> (usize, usize) {
    text.char_indices()
        .take_while(|&(at, _)| at < offset)
        .fold((1, 1), |(line, column), (_, character)| {
            if character == '\n' {
                (line + 1, 1)
            } else {
                (line, column + 1)
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_stand_in_the_order_of_the_file_with_their_count_last() {
        let text = "a = 1\nä = \"ö\" # x\n";
        let found = vec![
            (text.find('#').unwrap(), "second".to_owned()),
            (4, "first".to_owned()),
        ];
        assert_eq!(
            Mistakes::new("symbolon.toml", text, found).to_string(),
            "symbolon.toml:1:5: first\nsymbolon.toml:2:9: second\n2 mistakes in symbolon.toml"
        );
    }

    #[test]
    fn a_mistake_is_one_line_and_a_place_past_the_end_is_the_end() {
        assert_eq!(
            Mistakes::new("x", "ab", vec![(usize::MAX, "unknown key `a\nb`".into())]).to_string(),
            "x:1:3: unknown key `a b`\n1 mistake in x"
        );
    }
}
