//! What the documents show works as it stands there.

use std::num::NonZeroU8;
use std::os::unix::fs::PermissionsExt as _;

use symbolon::config::Config;
use symbolon::token_service::Source;
use symbolon::token_service::broker::Mode;
use symbolon_core::{Profile, Secret};

const README: &str = include_str!("../../../../README.md");

#[test]
fn the_configuration_in_the_readme_is_read() {
    let (_, rest) = README.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let config = Config::parse(text, "symbolon.toml", &|_| None).unwrap();
    assert_eq!(config.issuers[0].issuer, "https://id.example.com");
    assert!(config.token_service.is_some() && config.gateway.is_some() && config.admin.is_some());
}

#[test]
fn the_configuration_before_an_authorization_server_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, Secret::generate(NonZeroU8::MIN).expose().as_bytes()).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (_, rest) = README
        .split_once("### Before your authorization server\n\n```toml\n")
        .unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let file = folder.path().join("symbolon.toml");
    std::fs::write(&file, text).unwrap();
    let config = Config::read(&file).unwrap();
    let Source::Broker(broker) = config.token_service.unwrap().source else {
        panic!("it stands before another server")
    };
    assert!(matches!(broker.mode, Mode::Origin { .. }));
    assert_eq!(config.issuers[0].profile, Profile::Keycloak);
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
