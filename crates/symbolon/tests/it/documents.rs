//! What the documents show works as it stands there.

use symbolon::config::Config;

const README: &str = include_str!("../../../../README.md");

#[test]
fn the_configuration_in_the_readme_is_read() {
    let (_, rest) = README.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let config = Config::parse(text, "symbolon.toml", &|_| None).unwrap();
    assert_eq!(config.issuers[0].issuer, "https://id.example.com");
    assert!(config.token_service.is_some() && config.gateway.is_some() && config.admin.is_some());
}

/// Keys are told by the reader of the file, so a key that is not there any more is seen here.
#[test]
fn every_key_in_the_readme_is_there() {
    let (_, rest) = README.split_once("What the example leaves out:\n\n").unwrap();
    let (table, _) = rest.split_once("\n\n").unwrap();
    let keys: Vec<_> = table
        .lines()
        .skip(2)
        .map(|line| line.split('`').nth(1).unwrap())
        .collect();
    assert!(keys.contains(&"gateway.routes.timeout"));
    for key in keys {
        let (tables, name) = key.rsplit_once('.').unwrap_or(("", key));
        let header = match tables {
            "" => String::new(),
            "issuers" | "gateway.routes" => format!("[[{tables}]]\n"),
            _ => format!("[{tables}]\n"),
        };
        let text = format!("{header}{name} = true\n");
        let mistakes = Config::parse(&text, "symbolon.toml", &|_| None).unwrap_err();
        let told = mistakes.to_string();
        assert!(!told.contains("unknown key"), "{key}: {told}");
    }
}
