//! The same as JSON Schema, for editors and other tools. The tests hold it against the reader.

/// A JSON Schema (2020-12) of the file.
pub const SCHEMA: &str = include_str!("schema.json");

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use jsonschema::Validator;
    use serde_json::{Map, Value, json};
    use toml_span::value::ValueInner;

    use super::super::Config;
    use super::super::tests::{ENDPOINT, FULL, MINIMAL, ORIGIN, PHANTOM, SENTINEL};
    use super::SCHEMA;

    fn schema() -> Value {
        serde_json::from_str(SCHEMA).unwrap()
    }

    fn validator() -> Validator {
        let schema = schema();
        assert!(jsonschema::meta::is_valid(&schema));
        jsonschema::draft202012::new(&schema).unwrap()
    }

    /// What JSON makes of TOML.
    fn json(mut toml: toml_span::Value<'_>) -> Value {
        match toml.take() {
            ValueInner::String(text) => text.into(),
            ValueInner::Integer(number) => number.into(),
            ValueInner::Float(number) => number.into(),
            ValueInner::Boolean(truth) => truth.into(),
            ValueInner::Array(values) => values.into_iter().map(json).collect(),
            ValueInner::Table(table) => {
                let members = table
                    .into_iter()
                    .map(|(key, value)| (key.name.into_owned(), json(value)));
                Value::Object(members.collect())
            }
        }
    }

    fn parsed(text: &str) -> Value {
        json(toml_span::parse(text).unwrap())
    }

    #[test]
    fn what_the_reader_takes_is_valid() {
        let validator = validator();
        let on_disk = FULL.replace("kind = \"memory\"", "kind = \"disk\"\nfolder = \"store\"");
        let at_one = SENTINEL.replace("sentinel = {", "url = \"redis://127.0.0.1\" # {");
        let in_cluster = SENTINEL
            .replace(
                "sentinel = {",
                "cluster = [\"redis://a:7000\", \"redis://b\"] # {",
            )
            .replace("read_url", "# ");
        for text in [
            FULL,
            ORIGIN,
            ENDPOINT,
            MINIMAL,
            SENTINEL,
            PHANTOM,
            &on_disk,
            &at_one,
            &in_cluster,
        ] {
            let errors: Vec<_> = validator
                .iter_errors(&parsed(text))
                .map(|error| error.to_string())
                .collect();
            assert_eq!(errors, [""; 0], "{text}");
        }
    }

    #[test]
    fn what_the_reader_refuses_for_its_form_is_not() {
        let validator = validator();
        for (text, from, to) in [
            (FULL, "\"json\"", "\"xml\""),
            (FULL, "\"memory\"", "\"papyrus\""),
            (FULL, "\"memory\"", "\"memory\"\nfolder = \"store\""),
            (FULL, "\"memory\"", "\"memory\"\nprefix = \"a\""),
            (SENTINEL, "read_url", "url"),
            (SENTINEL, "sentinel", "# "),
            (SENTINEL, "\"redis\"", "\"redis\"\nmax_bytes = 1"),
            (SENTINEL, "\"main\"", "\"\""),
            (SENTINEL, "rediss://10.0.0.2", "https://10.0.0.2"),
            (SENTINEL, "rediss://10.0.0.2", "rediss://user@10.0.0.2"),
            (SENTINEL, "rediss://10.0.0.2", "rediss://10.0.0.2/1"),
            (SENTINEL, "acme-1", "acme:1"),
            (SENTINEL, "revoke = 2", "revoke = 17"),
            (SENTINEL, "\"80ms\"", "80"),
            (FULL, "\"1GiB\"", "\"1GB\""),
            (FULL, "= 1000000", "= 0"),
            (FULL, "algorithms = [\"EdDSA\"]", "algorithms = []"),
            (FULL, "[\"JWT\", \"at+jwt\"]", "[\"JWS\"]"),
            (FULL, "[\"JWT\", \"at+jwt\"]", "[]"),
            (FULL, ", value = \"access\"", ""),
            (FULL, "\"cid\"", "\"sub\""),
            (FULL, "[\"uti\"]", "[]"),
            (FULL, "[\"sub\", \"jti\"]", "[\"exp\", \"jti\"]"),
            (FULL, "at_hash = true", "at_hash = \"true\""),
            (FULL, "{ file = \"jwks.json\" }", "{}"),
            (
                FULL,
                "{ file = \"jwks.json\" }",
                "{ file = \"a\", url = \"https://id.example.com\" }",
            ),
            (FULL, "\"127.0.0.1:4601\"", "\"localhost:4601\""),
            (FULL, "\"5m\"", "\"5\""),
            (FULL, "\"reports\"", "\"a:b\""),
            (FULL, "\"10.0.0.0/8\"", "\"10.0.0.0\""),
            (FULL, "path = \"/orders\"", "path = \"/orders/\""),
            (FULL, "= 16000", "= 255"),
            (FULL, "http://localhost:5173", "http://localhost:5173/"),
            (FULL, "lifetime = \"5m\"", "id_token = \"drop\""),
            (PHANTOM, "client_id = \"gw\", ", ""),
            (PHANTOM, "\"gw\"", "\"g:w\""),
            (PHANTOM, "in_flight = 20", "in_flight = 0"),
            (
                PHANTOM,
                "{ endpoint = \"https://id.example.com/introspect\",",
                "{",
            ),
            (PHANTOM, "issuers = [", "issuers = [1, "),
            (MINIMAL, "mode = \"mint\"", "mode = \"origin\""),
            (ORIGIN, "id_token = \"drop\"", "lifetime = \"5m\""),
            (ORIGIN, "id_token = \"drop\"", "paths = {}"),
            (
                ENDPOINT,
                "mode",
                "public_url = \"https://login.example.net\"\nmode",
            ),
        ] {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            let text = text.replace(from, to);
            assert!(!validator.is_valid(&parsed(&text)), "{to}");
            assert!(Config::parse(&text, "no-such-folder/symbolon.toml", &|_| None).is_err());
        }
    }

    /// Every table that can be written, by its place in the schema.
    #[test]
    fn the_schema_has_the_readers_keys_and_no_others() {
        let schema = schema();
        let mut tables = BTreeMap::new();
        for text in [FULL, ORIGIN, ENDPOINT, SENTINEL, PHANTOM] {
            collect(&parsed(text), &mut Vec::new(), &mut tables);
        }
        let mut described = BTreeSet::new();
        for (place, (text, path)) in tables {
            let properties = resolve(&schema, &place);
            assert_eq!(properties["additionalProperties"], false, "{place:?}");
            let keys: BTreeSet<_> = properties["properties"]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect();
            assert_eq!(keys, keys_read(&text, &path), "{place:?}");
            described.insert(properties["properties"].to_string());
            // And the other way round: nobody writes another key without being told.
            let mut text = text.clone();
            at(&mut text, &path).insert("zzzzzzzz".into(), 1.into());
            assert!(!validator().is_valid(&text), "{place:?}");
        }
        let mut all = BTreeSet::new();
        properties_in(&schema, &mut all);
        assert_eq!(described, all, "a table that no example has");
    }

    /// Where a table stands: its keys, with `[]` for any element of a list.
    type Place = Vec<String>;
    /// The same in a document: keys and indexes.
    type Path = Vec<String>;

    fn collect(whole: &Value, path: &mut Path, tables: &mut BTreeMap<Place, (Value, Path)>) {
        let here = path.iter().fold(whole, |value, step| match value {
            Value::Array(values) => &values[step.parse::<usize>().unwrap()],
            value => &value[step.as_str()],
        });
        let steps: Vec<String> = match here {
            Value::Object(members) => {
                let place = path
                    .iter()
                    .map(|step| step.parse::<usize>().map_or(step.clone(), |_| "[]".into()));
                tables
                    .entry(place.collect())
                    .or_insert((whole.clone(), path.clone()));
                members.keys().cloned().collect()
            }
            Value::Array(values) => (0..values.len()).map(|index| index.to_string()).collect(),
            _ => Vec::new(),
        };
        for step in steps {
            path.push(step);
            collect(whole, path, tables);
            path.pop();
        }
    }

    fn at<'v>(whole: &'v mut Value, path: &[String]) -> &'v mut Map<String, Value> {
        let found = path.iter().fold(whole, |value, step| match value {
            Value::Array(values) => &mut values[step.parse::<usize>().unwrap()],
            value => &mut value[step.as_str()],
        });
        found.as_object_mut().unwrap()
    }

    /// The keys that the reader asks for in a table: it lists them where another one stands.
    fn keys_read(whole: &Value, path: &[String]) -> BTreeSet<String> {
        let mut whole = whole.clone();
        at(&mut whole, path).insert("zzzzzzzz".into(), 1.into());
        let mistakes = Config::parse(&toml(&whole), "symbolon.toml", &|_| None)
            .unwrap_err()
            .to_string();
        let (_, keys) = mistakes
            .split_once("unknown key `zzzzzzzz`: the keys here are `")
            .unwrap();
        let (keys, _) = keys.split_once("`\n").unwrap();
        keys.split("`, `").map(str::to_owned).collect()
    }

    /// A table as TOML writes it in one line: like JSON, but for `:` and line ends.
    fn toml(value: &Value) -> String {
        let members = value.as_object().unwrap().iter();
        let lines = members.map(|(key, value)| format!("{key} = {}", inline(value)));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn inline(value: &Value) -> String {
        match value {
            Value::Object(members) => {
                let members: Vec<_> = members
                    .iter()
                    .map(|(key, value)| format!("{key} = {}", inline(value)))
                    .collect();
                format!("{{ {} }}", members.join(", "))
            }
            Value::Array(values) => format!("[{}]", values.iter().map(inline).collect::<Vec<_>>().join(", ")),
            value => value.to_string(),
        }
    }

    /// What the schema says of a table.
    fn resolve<'s>(schema: &'s Value, place: &[String]) -> &'s Value {
        let mut here = schema;
        for step in place {
            here = follow(schema, here);
            here = match step.as_str() {
                "[]" => list(schema, here).get("items").unwrap(),
                key => &here["properties"][key],
            };
        }
        let here = follow(schema, here);
        // One table may stand for a list of one.
        match here.get("oneOf") {
            Some(either) => follow(schema, &either[0]),
            None => here,
        }
    }

    fn list<'s>(schema: &'s Value, here: &'s Value) -> &'s Value {
        match here.get("oneOf") {
            Some(either) => follow(schema, &either[1]),
            None => here,
        }
    }

    fn follow<'s>(schema: &'s Value, here: &'s Value) -> &'s Value {
        match here.get("$ref").and_then(Value::as_str) {
            Some(reference) => schema.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
            None => here,
        }
    }

    /// The properties of every table that is closed.
    fn properties_in(here: &Value, all: &mut BTreeSet<String>) {
        if here.get("additionalProperties") == Some(&json!(false)) {
            all.insert(here["properties"].to_string());
        }
        match here {
            Value::Object(members) => members.values().for_each(|value| properties_in(value, all)),
            Value::Array(values) => values.iter().for_each(|value| properties_in(value, all)),
            _ => {}
        }
    }
}
