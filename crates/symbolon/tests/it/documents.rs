//! What the documents show works as it stands there.

use std::num::NonZeroU8;
use std::os::unix::fs::PermissionsExt as _;

use symbolon::config::Config;
use symbolon::token_service::Source;
use symbolon::token_service::broker::Mode;
use symbolon_core::{Profile, Secret};

const README: &str = include_str!("../../../../README.md");
const COMPATIBILITY: &str = include_str!("../../../../docs/compatibility.md");

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
    assert_eq!(config.issuers[0].profile, Profile::KEYCLOAK);
}

#[test]
fn the_callers_in_the_readme_are_read() {
    let (_, rest) = README.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let (_, rest) = README.split_once("```toml\n[[token_service.callers]]").unwrap();
    let (callers, _) = rest.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["orders-api-secret", "edge-secret"] {
        let secret = folder.path().join(name);
        std::fs::write(&secret, symbolon_core::base64url::encode(&[7; 32])).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let file = folder.path().join("symbolon.toml");
    std::fs::write(&file, format!("{text}\n[[token_service.callers]]{callers}")).unwrap();
    let callers = Config::read(&file).unwrap().token_service.unwrap().callers;
    let jwt: Vec<_> = callers
        .iter()
        .map(|caller| (caller.id.as_str(), caller.jwt))
        .collect();
    assert_eq!(jwt, [("orders-api", false), ("edge", true)]);
}

#[test]
fn the_configuration_of_phantom_tokens_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("gateway-secret");
    std::fs::write(&secret, "canary-gateway-secret").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (_, rest) = README.split_once("### Phantom tokens\n").unwrap();
    let (_, rest) = rest.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let file = folder.path().join("symbolon.toml");
    std::fs::write(&file, text).unwrap();
    let config = Config::read(&file).unwrap();
    assert!(config.issuers[0].introspection.is_some() && config.secrets.is_none());
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

/// A cell of the table is what to write, and what the code has.
#[test]
fn the_table_of_profiles_is_that_of_the_code() {
    let (_, section) = COMPATIBILITY.split_once("## Profiles\n").unwrap();
    let table: Vec<Vec<_>> = section
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| {
            line.split('|')
                .map(|cell| cell.trim().trim_matches('`'))
                .collect()
        })
        .collect();
    let names = Profile::ALL.map(|profile| profile.name);
    assert_eq!(table[0][2..2 + names.len()], names);
    let settings = Profile::ALL.map(Profile::settings);
    assert_eq!(table.len() - 2, settings[0].len());
    for (row, cells) in table[2..].iter().enumerate() {
        for (column, settings) in settings.iter().enumerate() {
            let (name, value) = &settings[row];
            assert_eq!((cells[1], cells[2 + column]), (*name, value.as_str()));
        }
    }
    // What stands in a cell can be written: then it is the setting, whatever profile it is written beside.
    for profile in Profile::ALL {
        for other in names {
            let lines = profile
                .settings()
                .map(|(name, value)| format!("{name} = {value}\n"));
            let text = format!("profile = \"{other}\"\n{}", lines.concat());
            let read = &parsed(&format!("{ISSUER}{text}")).issuers[0].profile;
            assert_eq!(read.settings(), profile.settings());
        }
    }
    let (_, example) = section.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let hydra = &parsed(example).issuers[0].profile;
    assert!(hydra.at_hash && *hydra != Profile::RFC9068);
}

const ISSUER: &str =
    "[[issuers]]\nissuer = \"https://id.example.com\"\nalgorithms = [\"ES256\"]\ntokens = \"salted\"\n";

/// A file with those issuers, and what else a file needs.
fn parsed(issuers: &str) -> Config {
    let role = "[token_service]\nmode = \"mint\"\nlisten = \"127.0.0.1:4601\"\nissuer = \"http://127.0.0.1:4601\"\n\
                [gateway]\nlisten = \"127.0.0.1:4600\"\n\
                [[issuers]]\nissuer = \"http://127.0.0.1:4601\"\nalgorithms = [\"ES256\"]\ntokens = \"salted\"\n";
    Config::parse(&format!("{issuers}{role}"), "symbolon.toml", &|_| None).unwrap()
}
