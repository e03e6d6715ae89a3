//! `[[issuers]]`: whose tokens there are.

use std::borrow::Cow;
use std::fs;
use std::time::Duration;

use symbolon_core::{
    Algorithm, JwkSet, Names, Profile, Provenance, Required, SigningKey, Skipped, TokenKind, Typ,
};
use toml_span::{Span, Spanned, Value};
use url::Url;

use super::introspection::{WRITE_INTROSPECTION, of_issuer};
use super::secret_source::{unreadable, unusable};
use super::table::{Read, Table, plain};
use super::token_service::{self, Broker, Mint, TokenService};
use super::values::{self, one_of};
use crate::introspect;
use crate::keys::{Config, Location, Source};
use crate::private_file;

/// All issuers, and what other tables need to know of them.
pub(super) struct Issuers {
    /// Each by its identifier, with what its tokens are; none where there is a mistake.
    pub(super) kinds: Vec<(Option<String>, Option<TokenKind>)>,
    pub(super) configs: Option<Vec<Config>>,
}

/// How an issuer's tokens look, and where it is written what they must have.
struct Written {
    settings: Option<Profile>,
    required: Option<Span>,
}

struct Issuer {
    identifier: Option<Spanned<values::Issuer>>,
    tokens: Option<TokenKind>,
    config: Option<Config>,
}

/// Reads all issuers; the token service has the tokens of one of them.
pub(super) fn read(root: &mut Table<'_, '_>, token_service: Option<&TokenService>) -> Issuers {
    root.require_filled("issuers", WRITE_ISSUERS);
    let has_gateway = root.place("gateway").is_some();
    let issuers = root.tables("issuers", WRITE_ISSUERS, |table| {
        issuer(table, token_service, has_gateway)
    });
    let each = || issuers.iter().flatten();
    let identifiers = each().filter_map(|issuer| issuer.identifier.as_ref());
    let twice = "write each issuer once: this one is there already";
    root.reader.refuse_repeated(identifiers, twice);
    // Not if an issuer is missing or has mistakes: it may be the one.
    let lacks = |served| each().all(|issuer| issuer.identifier.as_ref().is_some_and(|other| other != served));
    if let Some(served) = token_service.and_then(|role| role.issuer.as_ref())
        && each().next().is_some()
        && lacks(served)
    {
        root.note(served.span, "write the `issuer` of one of the [[issuers]]");
    }
    Issuers {
        kinds: each().map(kind).collect(),
        configs: issuers.and_then(|issuers| issuers.into_iter().map(|issuer| issuer.config).collect()),
    }
}

/// Whether all tokens are phantom tokens; of servers `of_others`, if they have to be, which know the gateway as a client:
/// then no other process is one of this deployment. A glance, before anything is read.
pub(super) fn are_phantom(root: &Table<'_, '_>, of_others: bool) -> bool {
    let is_phantom = |issuer: &Value<'_>| {
        let is_phantom = issuer.pointer("/tokens").and_then(Value::as_str) == Some("phantom");
        is_phantom && (!of_others || issuer.pointer("/introspection/client_id").is_some())
    };
    let issuers = root.written("issuers").and_then(Value::as_array);
    issuers.is_some_and(|issuers| !issuers.is_empty() && issuers.iter().all(is_phantom))
}

fn kind(issuer: &Issuer) -> (Option<String>, Option<TokenKind>) {
    let identifier = issuer.identifier.as_ref();
    (
        identifier.map(|identifier| identifier.value.text.clone()),
        issuer.tokens,
    )
}

fn issuer(table: &mut Table<'_, '_>, token_service: Option<&TokenService>, has_gateway: bool) -> Issuer {
    let identifier = table.required("issuer", values::issuer);
    // With a mistake in either name it cannot be told.
    let role = token_service.filter(|role| role.issuer.is_some() && role.issuer == identifier);
    let source = role.and_then(|role| Some((role, role.source.as_ref()?)));
    let is_minted = matches!(source, Some((_, token_service::Source::Mint(_))));
    let profile = profile(table, is_minted);
    let names = Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    let algorithms = table.filled_list("algorithms", one_of(&names, &[]));
    let tokens = table.required("tokens", one_of(&KINDS, &[]));
    if let Some(tokens) = &tokens
        && tokens.value == TokenKind::Phantom
        && matches!(source, Some((_, token_service::Source::Broker(_))))
    {
        let reason = "write \"salted\" or \"signature\": the token service stands before this issuer to split its JWTs";
        table.note(tokens.span, reason);
    }
    let tokens = tokens.map(Spanned::take);
    let introspection = introspection(table, tokens, has_gateway);
    check_jti(table, &profile, tokens);
    let max_lifetime = table
        .or("max_lifetime", DAY, values::duration("1s", "8760h"))
        .map(Spanned::take);
    let keys = match source {
        Some((_, token_service::Source::Mint(mint))) => {
            table.refuse("jwks", "leave it out: the token service mints for this issuer");
            check_minted(table, mint, &algorithms, max_lifetime);
            Some(Source::Mint)
        }
        Some((role, token_service::Source::Broker(broker))) => {
            check_fronted(table, role, broker, profile.settings.as_ref(), max_lifetime);
            let base = broker.authorization_server.as_ref();
            keys(table, &algorithms, base.map(|server| server.value.clone()))
        }
        None => keys(table, &algorithms, None),
    };
    let config = || {
        Some(Config {
            issuer: identifier.as_ref()?.value.text.clone(),
            profile: profile.settings?,
            algorithms: plain(algorithms),
            tokens: tokens?,
            introspection: introspection?,
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

/// How a gateway asks about its tokens, where it has to.
#[allow(clippy::option_option, reason = "a mistake, none, or one")]
fn introspection(
    table: &mut Table<'_, '_>,
    tokens: Option<TokenKind>,
    has_gateway: bool,
) -> Option<Option<introspect::Config>> {
    match tokens {
        Some(TokenKind::Phantom) if has_gateway => {
            table.require("introspection", WRITE_INTROSPECTION);
        }
        Some(TokenKind::Salted | TokenKind::Signature) => {
            table.refuse("introspection", "leave it out: it is for tokens = \"phantom\"");
        }
        Some(TokenKind::Phantom) | None => {}
    }
    match table.table("introspection", WRITE_INTROSPECTION, of_issuer) {
        Some(written) => written.map(Some),
        None => Some(None),
    }
}

/// The profile, with every setting that is overridden.
fn profile(table: &mut Table<'_, '_>, is_minted: bool) -> Written {
    let named = Profile::ALL.map(|profile| (profile.name, profile));
    let profile = table.or("profile", &Profile::RFC9068, one_of(&named, &[]));
    if is_minted {
        for key in OVERRIDES {
            table.refuse(
                key,
                "leave it out: the token service mints for this issuer, by RFC 9068",
            );
        }
        let settings = profile.map(|profile| profile.value.clone());
        return Written {
            settings,
            required: None,
        };
    }
    let typ = Typ::ALL.map(|typ| (typ.name(), typ));
    let what = Required::ALL.map(|what| (what.name(), what));
    let required = table.place("required");
    let typ = overridden(table, "typ", one_of(&typ, &[]));
    let jwt_claim_at = table.place("jwt_claim");
    let jwt_claim = table.table("jwt_claim", WRITE_JWT_CLAIM, jwt_claim);
    let [client_claims, scope_claims, jti_claims] = ["client_claims", "scope_claims", "jti_claims"]
        .map(|key| overridden(table, key, values::claim).map(Names::Written));
    let what = required.map(|_| plain(table.list("required", one_of(&what, &[]))));
    let at_hash = table.or("at_hash", None, |value| values::truth(value).map(Some));
    let settings = || {
        let original = profile?.value.clone();
        Some(Profile {
            name: original.name,
            typ: typ.map_or(original.typ, Cow::Owned),
            jwt_claim: match jwt_claim_at {
                Some(_) => jwt_claim??,
                None => original.jwt_claim,
            },
            client_claims: client_claims.unwrap_or(original.client_claims),
            scope_claims: scope_claims.unwrap_or(original.scope_claims),
            jti_claims: jti_claims.unwrap_or(original.jti_claims),
            required: what.map_or(original.required, Cow::Owned),
            at_hash: at_hash?.value.unwrap_or(original.at_hash),
        })
    };
    let settings = settings();
    if let (Some(at), Some(settings)) = (jwt_claim_at, &settings)
        && settings.jwt_claim.is_some()
        && !settings.typ.is_empty()
        && !settings.typ.contains(&Typ::Jwt)
    {
        table.note(
            at,
            "leave it out, or write \"JWT\" in `typ`: it is asked of nothing else",
        );
    }
    Written { settings, required }
}

/// The values of a list that is there; then it holds something.
fn overridden<T: PartialEq>(
    table: &mut Table<'_, '_>,
    key: &'static str,
    read: impl Read<T>,
) -> Option<Vec<T>> {
    let is_there = table.place(key).is_some();
    if is_there {
        return Some(plain(table.filled_list(key, read)));
    }
    table.list(key, read);
    None
}

/// A claim and its value, or an empty table for none. None: it has mistakes.
#[allow(clippy::option_option, reason = "a mistake, none, or one")]
fn jwt_claim(table: &mut Table<'_, '_>) -> Option<Option<(Cow<'static, str>, Cow<'static, str>)>> {
    if table.place("name").is_none() && table.place("value").is_none() {
        // None of the keys that may follow is unknown.
        table.optional("name", values::claim);
        table.optional("value", values::claim_value);
        return Some(None);
    }
    let name = table.required("name", values::claim);
    let value = table.required("value", values::claim_value);
    Some(Some((name?.value.into(), value?.value.into())))
}

/// Without a `jti`, two log-ins in one second can have one signature, and so one opaque token (BR-12).
fn check_jti(table: &Table<'_, '_>, profile: &Written, tokens: Option<TokenKind>) {
    if let (Some(at), Some(settings)) = (profile.required, &profile.settings)
        && tokens == Some(TokenKind::Signature)
        && !settings.required.contains(&Required::Jti)
    {
        table.note(
            at,
            "write \"jti\" here too, or tokens = \"salted\": without one, two tokens may be the same",
        );
    }
}

/// Notes what is in the way of minting for an issuer.
fn check_minted(
    table: &Table<'_, '_>,
    mint: &Mint,
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
    if let (Some(lifetime), Some(most)) = (&mint.lifetime, max_lifetime)
        && lifetime.value > most
    {
        table.note(
            lifetime.span,
            "write a `lifetime` within the issuer's `max_lifetime`",
        );
    }
}

/// Notes what is missing where the token service stands before an issuer.
fn check_fronted(
    table: &Table<'_, '_>,
    role: &TokenService,
    broker: &Broker,
    profile: Option<&Profile>,
    max_lifetime: Option<Duration>,
) {
    if profile.is_some_and(|profile| profile.at_hash) && !broker.says_id_token {
        table.note(role.at, ID_TOKEN_MISSING);
    }
    if let (Some(grant), Some(most)) = (&broker.max_grant_lifetime, max_lifetime)
        && grant.value < most
    {
        // Else a code could be used again, and the tokens of its first use would live on (BR-17).
        let reason = "write a `max_grant_lifetime` of at least the issuer's `max_lifetime`";
        table.note(grant.span, reason);
    }
}

/// Where the issuer's keys come from: a file, a URL, or what its metadata say.
fn keys(table: &mut Table<'_, '_>, algorithms: &[Spanned<Algorithm>], base: Option<Url>) -> Option<Source> {
    let is_left_out = table.place("jwks").is_none();
    let written = table.table("jwks", WRITE_JWKS, |jwks| {
        let both_or_none = jwks.place("file").is_some() == jwks.place("url").is_some();
        let (file, url) = (
            jwks.optional("file", values::path),
            jwks.optional("url", values::jwks),
        );
        if both_or_none {
            jwks.note(jwks.at, WRITE_JWKS);
            return None;
        }
        if let Some(name) = file {
            return key_file(jwks, &name, algorithms);
        }
        check_fetched(jwks, algorithms);
        Some(Source::Fetched(Location::Url(url?.value)))
    });
    if is_left_out {
        check_fetched(table, algorithms);
        return Some(Source::Fetched(Location::Metadata { base }));
    }
    written?
}

/// A shared key that is published is nobody's secret (MD-07).
fn check_fetched(table: &Table<'_, '_>, algorithms: &[Spanned<Algorithm>]) {
    for algorithm in algorithms
        .iter()
        .filter(|algorithm| algorithm.value.is_symmetric())
    {
        let reason = "leave it out, or write jwks = { file = \"…\" }: such a key is never fetched";
        table.note(algorithm.span, reason);
    }
}

/// The file of the issuer's JWK Set, once that it holds a key that can be used.
fn key_file(
    table: &Table<'_, '_>,
    name: &Spanned<String>,
    algorithms: &[Spanned<Algorithm>],
) -> Option<Source> {
    let path = table.reader.resolve(&name.value);
    let allowed: Vec<_> = algorithms.iter().map(|algorithm| algorithm.value).collect();
    let text = fs::read(&path).map_err(|error| unreadable(&error));
    let usable = text.and_then(|text| check_keys(&text, &allowed));
    let private = usable.and_then(|set| {
        if !set.algorithms().any(Algorithm::is_symmetric) {
            return Ok(());
        }
        // Who reads it can sign.
        private_file::read(&path).map(drop).map_err(unusable)
    });
    table.reader.keep(name.span, private).map(|_| Source::File(path))
}

fn check_keys(text: &[u8], allowed: &[Algorithm]) -> Result<JwkSet, String> {
    let set = JwkSet::parse(text, allowed, Provenance::Configured)
        .map_err(|error| format!("name the file of a JWK Set: this is {error}"))?;
    // Without algorithms no key could be used, and that mistake is noted.
    if !set.is_empty() || allowed.is_empty() {
        return Ok(set);
    }
    let reason = |key: &Skipped| format!("; key {}: {}", key.index, key.reason);
    let reasons: String = set.skipped().iter().map(reason).collect();
    Err(format!(
        "name a JWK Set with a key for one of the `algorithms`{reasons}"
    ))
}

const WRITE_ISSUERS: &str = "write at least one [[issuers]]";
const WRITE_JWKS: &str = "write { file = \"…\" } or { url = \"https://…\" }";
pub(super) const ID_TOKEN_MISSING: &str = "`id_token` is missing: write \"pass\" or \"drop\"; the server's ID tokens carry an \
                                `at_hash` of the JWT that clients do not get, and those that check it refuse them";
const WRITE_JWT_CLAIM: &str = "write { name = \"typ\", value = \"Bearer\" }, or {} for none";
/// The settings of a profile.
const OVERRIDES: [&str; 7] = [
    "typ",
    "jwt_claim",
    "client_claims",
    "scope_claims",
    "jti_claims",
    "required",
    "at_hash",
];
const KINDS: [(&str, TokenKind); 3] = [
    ("salted", TokenKind::Salted),
    ("signature", TokenKind::Signature),
    ("phantom", TokenKind::Phantom),
];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
