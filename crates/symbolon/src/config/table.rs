//! Tables of the file, taken apart key by key. What is wrong is noted with its place, and reading goes on.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

use toml_span::value::{self, Key, ValueInner};
use toml_span::{Span, Spanned, Value};

/// What reading needs besides the text, and the mistakes that were found so far.
pub(super) struct Reader<'r> {
    pub(super) text: &'r str,
    /// Where relative names of files start.
    pub(super) folder: &'r Path,
    pub(super) environment: &'r dyn Fn(&str) -> Option<String>,
    pub(super) found: RefCell<Vec<(usize, String)>>,
}

/// What stands where a value is expected, if anything.
pub(super) type Written<'v> = Option<&'v Value<'v>>;

/// What it means, or what to write in its place.
pub(super) type Reading<T> = Result<T, Cow<'static, str>>;

/// A reader of values: a function. Given none, it says what to write.
pub(super) trait Read<T>: Fn(Written<'_>) -> Reading<T> {}

impl<T, F: Fn(Written<'_>) -> Reading<T>> Read<T> for F {}

/// A table. Keys are taken out as they are asked for; what is left in the end is unknown.
pub(super) struct Table<'r, 'de> {
    /// Where it begins, and where what it lacks is reported.
    pub(super) at: Span,
    pub(super) reader: &'r Reader<'r>,
    left: value::Table<'de>,
    asked: Vec<&'static str>,
}

impl Reader<'_> {
    /// Reads a whole file.
    pub(super) fn root<'de, T>(
        &self,
        mut root: Value<'de>,
        read: impl FnOnce(&mut Table<'_, 'de>) -> T,
    ) -> Option<T> {
        self.table(&mut root, "write keys and tables", read)
    }

    /// Notes a mistake.
    pub(super) fn note(&self, at: Span, reason: impl Into<String>) {
        // The span of a text begins after its quote, unless it is empty.
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let start = before.trim_end_matches(['"', '\'']).len();
        self.found.borrow_mut().push((start, reason.into()));
    }

    /// The value that was read, or its mistake noted.
    pub(super) fn keep<T, R: Into<String>>(&self, at: Span, reading: Result<T, R>) -> Option<Spanned<T>> {
        let value = reading.map_err(|reason| self.note(at, reason)).ok()?;
        Some(Spanned::with_span(value, at))
    }

    /// Notes every value that was there before.
    pub(super) fn refuse_repeated<'a, T: PartialEq + 'a>(
        &self,
        values: impl IntoIterator<Item = &'a Spanned<T>>,
        reason: &str,
    ) {
        let mut seen = Vec::new();
        for value in values {
            if seen.contains(&&value.value) {
                self.note(value.span, reason);
            }
            seen.push(&value.value);
        }
    }

    /// The file of that name; relative names start at the folder of the configuration.
    pub(super) fn resolve(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn table<'de, T>(
        &self,
        value: &mut Value<'de>,
        write: &str,
        read: impl FnOnce(&mut Table<'_, 'de>) -> T,
    ) -> Option<T> {
        let ValueInner::Table(left) = value.take() else {
            self.note(value.span, write);
            return None;
        };
        let mut table = Table {
            at: value.span,
            reader: self,
            left,
            asked: Vec::new(),
        };
        let outcome = read(&mut table);
        table.note_unknown_keys();
        Some(outcome)
    }
}

impl<'de> Table<'_, 'de> {
    /// Where the value of a key stands that was not asked for yet.
    pub(super) fn place(&self, key: &str) -> Option<Span> {
        self.left.get(key).map(|value| value.span)
    }

    /// What stands under a key that was not asked for yet.
    pub(super) fn written(&self, key: &str) -> Option<&Value<'de>> {
        self.left.get(key)
    }

    /// Notes a mistake.
    pub(super) fn note(&self, at: Span, reason: impl Into<String>) {
        self.reader.note(at, reason);
    }

    /// Notes a key that must be there and is not.
    pub(super) fn require(&self, key: &str, write: &str) {
        if self.place(key).is_none() {
            self.note(self.at, format!("`{key}` is missing: {write}"));
        }
    }

    /// Notes a list that must be there and hold something, and does not.
    pub(super) fn require_filled(&self, key: &str, write: &str) {
        self.require(key, write);
        if let Some(value) = self.left.get(key)
            && value.as_array().is_some_and(Vec::is_empty)
        {
            self.note(value.span, write);
        }
    }

    /// Notes a key that must not be there and is.
    pub(super) fn refuse(&mut self, key: &'static str, reason: &str) {
        if let Some(value) = self.take(key) {
            self.note(value.span, reason);
        }
    }

    /// The value of a key, if it was written and written well.
    pub(super) fn optional<T>(&mut self, key: &'static str, read: impl Read<T>) -> Option<Spanned<T>> {
        let value = self.take(key)?;
        self.reader.keep(value.span, read(Some(&value)))
    }

    /// The value of a key that must be there.
    pub(super) fn required<T>(&mut self, key: &'static str, read: impl Read<T>) -> Option<Spanned<T>> {
        self.require(key, &to_write(&read));
        self.optional(key, read)
    }

    /// The value of a key that may be left out.
    pub(super) fn or<T>(&mut self, key: &'static str, default: T, read: impl Read<T>) -> Option<Spanned<T>> {
        if self.place(key).is_some() {
            return self.optional(key, read);
        }
        self.asked.push(key);
        Some(Spanned::with_span(default, self.at))
    }

    /// The values of a list, each once, without those that were not written well.
    pub(super) fn list<T: PartialEq>(&mut self, key: &'static str, read: impl Read<T>) -> Vec<Spanned<T>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Some(values) = value.as_array() else {
            self.note(value.span, list_to_write(&read));
            return Vec::new();
        };
        let mut list: Vec<Spanned<T>> = Vec::new();
        for value in values {
            match self.reader.keep(value.span, read(Some(value))) {
                Some(item) if list.contains(&item) => {
                    self.note(item.span, "leave it out: it stands in this list already");
                }
                item => list.extend(item),
            }
        }
        list
    }

    /// The values of a list that must be there and hold something.
    pub(super) fn filled_list<T: PartialEq>(
        &mut self,
        key: &'static str,
        read: impl Read<T>,
    ) -> Vec<Spanned<T>> {
        self.require_filled(key, &list_to_write(&read));
        self.list(key, read)
    }

    /// What `read` makes of the table under a key.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        write: &str,
        read: impl FnOnce(&mut Table<'_, 'de>) -> T,
    ) -> Option<T> {
        let mut value = self.take(key)?;
        self.reader.table(&mut value, write, read)
    }

    /// The same, where no table says as much as an empty one.
    pub(super) fn table_or_empty<T>(
        &mut self,
        key: &'static str,
        write: &str,
        read: impl FnOnce(&mut Table<'_, 'de>) -> T,
    ) -> Option<T> {
        if self.place(key).is_none() {
            let empty = ValueInner::Table(value::Table::new());
            let name = Key {
                name: key.into(),
                span: self.at,
            };
            self.left.insert(name, Value::with_span(empty, self.at));
        }
        self.table(key, write, read)
    }

    /// What `read` makes of each table of a list; no list is an empty one. None: one of them is no table.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        write: &str,
        mut read: impl FnMut(&mut Table<'_, 'de>) -> T,
    ) -> Option<Vec<T>> {
        let Some(mut value) = self.take(key) else {
            return Some(Vec::new());
        };
        let ValueInner::Array(values) = value.take() else {
            self.note(value.span, write);
            return None;
        };
        let read = |mut value| self.reader.table(&mut value, write, &mut read);
        // All are read before the first that is none ends it, so that all of their mistakes are seen.
        let tables: Vec<_> = values.into_iter().map(read).collect();
        tables.into_iter().collect()
    }

    /// The same, where a single table may stand for a list of one.
    pub(super) fn table_or_tables<T>(
        &mut self,
        key: &'static str,
        write: &str,
        mut read: impl FnMut(&mut Table<'_, 'de>) -> T,
    ) -> Option<Vec<T>> {
        if self.left.get(key).is_some_and(|value| value.as_table().is_some()) {
            return self.table(key, write, read).map(|one| vec![one]);
        }
        self.tables(key, write, &mut read)
    }

    fn take(&mut self, key: &'static str) -> Option<Value<'de>> {
        self.asked.push(key);
        self.left.remove(key)
    }

    fn note_unknown_keys(self) {
        for key in self.left.keys() {
            let advice = match nearest(&key.name, &self.asked) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("the keys here are `{}`", self.asked.join("`, `")),
            };
            self.note(key.span, format!("unknown key `{}`: {advice}", key.name));
        }
    }
}

/// The values alone.
pub(super) fn plain<T>(list: Vec<Spanned<T>>) -> Vec<T> {
    list.into_iter().map(Spanned::take).collect()
}

fn to_write<T>(read: impl Read<T>) -> Cow<'static, str> {
    read(None).err().unwrap_or_default()
}

fn list_to_write<T>(read: impl Read<T>) -> String {
    format!("in square brackets, {}", to_write(read))
}

/// The known key that was most likely meant.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let distances = known.iter().map(|&known| (distance(key, known), known));
    // A key of two letters is two changes away from every other one.
    let (_, nearest) = distances
        .filter(|&(distance, known)| distance <= 2 && distance < known.len())
        .min()?;
    Some(nearest)
}

/// How many characters must be put in, left out or exchanged to make one text of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (above, character) in one.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (at, against) in other.chars().enumerate() {
            let exchanged = diagonal + usize::from(character != against);
            diagonal = row[at + 1];
            row[at + 1] = exchanged.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[other.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_single_changes() {
        for (one, other, changes) in [
            ("", "", 0),
            ("", "abc", 3),
            ("listen", "listen", 0),
            ("lisen", "listen", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(
                (distance(one, other), distance(other, one)),
                (changes, changes),
                "{one} {other}"
            );
        }
    }

    #[test]
    fn a_key_far_from_all_others_suggests_none() {
        let known = ["listen", "lifetime", "id"];
        assert_eq!(nearest("listn", &known), Some("listen"));
        assert_eq!(nearest("life_time", &known), Some("lifetime"));
        assert_eq!(nearest("ids", &known), Some("id"));
        assert_eq!(nearest("ca", &known), None);
        assert_eq!(nearest("port", &known), None);
    }
}
