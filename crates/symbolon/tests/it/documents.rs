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
