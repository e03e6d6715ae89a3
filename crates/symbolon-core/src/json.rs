//! One strict reader for the JSON of strangers (GW-28): UTF-8, one object, no member twice (also when one spelling
//! is escaped), nested at most 32 deep, nothing behind it. `serde_json` parses; what it would let pass is refused here.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value in which no object has a member twice.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number that fits none of the integers is kept as the nearest double.
    Number(f64),
    /// A non-negative integer.
    Integer(u64),
    /// A string
    String(String),
    /// An array
    Array(Vec<Value>),
    /// An object
    Object(Object),
}

/// The members of a JSON object.
pub type Object = BTreeMap<String, Value>;

/// The text is not what [`parse_object`] or [`parse`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotStrictJson;

/// Deepest nesting taken; a flat document has depth 1.
const MAX_DEPTH: u8 = 32;

/// Reads a text that is one JSON object.
pub fn parse_object(text: &[u8]) -> Result<Object, NotStrictJson> {
    match parse(text)? {
        Value::Object(members) => Ok(members),
        _ => Err(NotStrictJson),
    }
}

/// Reads a text that is one JSON value.
pub fn parse(text: &[u8]) -> Result<Value, NotStrictJson> {
    let text = std::str::from_utf8(text).map_err(|_| NotStrictJson)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: 0 }
        .deserialize(&mut reader)
        .map_err(|_| NotStrictJson)?;
    reader.end().map_err(|_| NotStrictJson)?;
    Ok(value)
}

impl Value {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }
}

/// Claims and keys pass through here: shows the type of a value and nothing of it.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "Null",
            Self::Bool(_) => "Bool(..)",
            Self::Number(_) | Self::Integer(_) => "Number(..)",
            Self::String(_) => "String(..)",
            Self::Array(_) => "Array(..)",
            Self::Object(_) => "Object(..)",
        })
    }
}

impl fmt::Display for NotStrictJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not one JSON value with every member once")
    }
}

impl std::error::Error for NotStrictJson {}

#[derive(Clone, Copy)]
struct Strict {
    depth: u8,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom("nested too deep"));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "negative numbers occur in no member that we read"
    )]
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Number(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(inner)? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Object::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if object.insert(name, value).is_some() {
                return Err(serde::de::Error::custom("a member stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // GW-28
    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"[{"b":1,"b":2}]"#,
            r"{} x",
            r"{}{}",
            "\u{feff}{}",
            r#"{"a":1e400}"#,
            r#"{"a":"\ud800"}"#,
        ] {
            assert_eq!(parse(text.as_bytes()), Err(NotStrictJson), "{text}");
        }
        assert_eq!(parse_object(b"[]"), Err(NotStrictJson));
        assert_eq!(parse_object(b"null"), Err(NotStrictJson));
        assert_eq!(parse_object(b"{\"a\":\"\xff\"}"), Err(NotStrictJson));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(32).as_bytes()).is_ok());
        assert!(parse(nested(33).as_bytes()).is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn debug_prints_no_value() {
        let members = parse_object(br#"{"sub":"alice"}"#).unwrap();
        assert_eq!(format!("{members:?}"), r#"{"sub": String(..)}"#);
    }
}
