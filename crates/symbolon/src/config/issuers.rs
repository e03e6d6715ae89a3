//! `[[issuers]]`: whose tokens there are.

use std::fs;
use std::time::Duration;

use symbolon_core::{Algorithm, JwkSet, Profile, Provenance, SigningKey, Skipped, TokenKind};
use toml_span::Spanned;

use super::secret_source::unreadable;
use super::table::{Table, plain};
use super::token_service::TokenService;
use super::values::{self, one_of};
use crate::keys::{Config, Source};

/// All issuers, and what other tables need to know of them.
pub(super) struct Issuers {
    /// Whether a JWT of any issuer holds its opaque token.
    pub(super) any_signature: bool,
    pub(super) configs: Option<Vec<Config>>,
}

struct Issuer {
    identifier: Option<Spanned<values::Issuer>>,
    tokens: Option<TokenKind>,
    config: Option<Config>,
}

/// Reads all issuers; the token service mints for one of them.
pub(super) fn read(root: &mut Table<'_, '_>, mint: Option<&TokenService>) -> Issuers {
    root.require_filled("issuers", WRITE_ISSUERS);
    let issuers = root.tables("issuers", WRITE_ISSUERS, |table| issuer(table, mint));
    let each = || issuers.iter().flatten();
    let identifiers = each().filter_map(|issuer| issuer.identifier.as_ref());
    let twice = "write each issuer once: this one is there already";
    root.reader.refuse_repeated(identifiers, twice);
    // Not if an issuer is missing or has mistakes: it may be the one.
    let lacks = |minted| each().all(|issuer| issuer.identifier.as_ref().is_some_and(|other| other != minted));
    if let Some(minted) = mint.and_then(|mint| mint.issuer.as_ref())
        && each().next().is_some()
        && lacks(minted)
    {
        root.note(minted.span, "write the `issuer` of one of the [[issuers]]");
    }
    Issuers {
        any_signature: each().any(|issuer| issuer.tokens == Some(TokenKind::Signature)),
        configs: issuers.and_then(|issuers| issuers.into_iter().map(|issuer| issuer.config).collect()),
    }
}

fn issuer(table: &mut Table<'_, '_>, mint: Option<&TokenService>) -> Issuer {
    let identifier = table.required("issuer", values::issuer);
    let profile = table.or("profile", Profile::Rfc9068, one_of(&PROFILES, &["keycloak"]));
    let names = Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    let algorithms = table.filled_list("algorithms", one_of(&names, &[]));
    let tokens = table
        .required("tokens", one_of(&KINDS, &["phantom"]))
        .map(Spanned::take);
    let max_lifetime = table
        .or("max_lifetime", DAY, values::duration("1s", "8760h"))
        .map(Spanned::take);
    let keys = match is_minted(mint, identifier.as_ref()) {
        Some(true) => {
            table.refuse("jwks", "leave it out: the token service mints for this issuer");
            check_minted(table, mint, &algorithms, max_lifetime);
            Some(Source::Mint)
        }
        Some(false) => {
            table.require("jwks", WRITE_FILE);
            jwks(table, &algorithms)
        }
        None => jwks(table, &algorithms),
    };
    let config = || {
        Some(Config {
            issuer: identifier.as_ref()?.value.text.clone(),
            profile: profile?.value,
            algorithms: plain(algorithms),
            tokens: tokens?,
            max_lifetime: max_lifetime?,
            keys: keys?,
        })
    };
    Issuer {
        config: config(),
        tokens,
        identifier,
    }
}

/// Whether the token service mints for this issuer; none if a mistake, which was noted, keeps it from being told.
fn is_minted(mint: Option<&TokenService>, issuer: Option<&Spanned<values::Issuer>>) -> Option<bool> {
    match mint {
        Some(mint) => Some(mint.issuer.as_ref()? == issuer?),
        None => Some(false),
    }
}

/// Notes what is in the way of minting for an issuer.
fn check_minted(
    table: &Table<'_, '_>,
    mint: Option<&TokenService>,
    algorithms: &[Spanned<Algorithm>],
    max_lifetime: Option<Duration>,
) {
    for (at, Spanned { value, span }) in algorithms.iter().enumerate() {
        if at == 0 && !SigningKey::ALGORITHMS.contains(value) {
            let names = SigningKey::ALGORITHMS.map(Algorithm::name).join(", ");
            let reason = format!("write one of {names} first: the token service signs with it");
            table.note(*span, reason);
        } else if value.is_symmetric() {
            let reason = "leave it out: its key would stand in a file, and this issuer has none";
            table.note(*span, reason);
        }
    }
    if let (Some(lifetime), Some(most)) = (mint.and_then(|mint| mint.lifetime.as_ref()), max_lifetime)
        && lifetime.value > most
    {
        table.note(
            lifetime.span,
            "write a `lifetime` within the issuer's `max_lifetime`",
        );
    }
}

/// The file of the issuer's JWK Set, once that it holds a key that can be used.
fn jwks(table: &mut Table<'_, '_>, algorithms: &[Spanned<Algorithm>]) -> Option<Source> {
    let name = table.table("jwks", WRITE_FILE, |jwks| jwks.required("file", values::path))??;
    let path = table.reader.resolve(&name.value);
    let allowed: Vec<_> = algorithms.iter().map(|algorithm| algorithm.value).collect();
    let text = fs::read(&path).map_err(|error| unreadable(&error));
    let usable = text.and_then(|text| check_keys(&text, &allowed));
    table.reader.keep(name.span, usable).map(|_| Source::File(path))
}

fn check_keys(text: &[u8], allowed: &[Algorithm]) -> Result<(), String> {
    let set = JwkSet::parse(text, allowed, Provenance::Configured)
        .map_err(|error| format!("name the file of a JWK Set: this is {error}"))?;
    // Without algorithms no key could be used, and that mistake is noted.
    if !set.is_empty() || allowed.is_empty() {
        return Ok(());
    }
    let reason = |key: &Skipped| format!("; key {}: {}", key.index, key.reason);
    let reasons: String = set.skipped().iter().map(reason).collect();
    Err(format!(
        "name a JWK Set with a key for one of the `algorithms`{reasons}"
    ))
}

const WRITE_ISSUERS: &str = "write at least one [[issuers]]";
const WRITE_FILE: &str = "write { file = \"…\" }";
const PROFILES: [(&str, Profile); 1] = [("rfc9068", Profile::Rfc9068)];
const KINDS: [(&str, TokenKind); 2] = [("salted", TokenKind::Salted), ("signature", TokenKind::Signature)];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
