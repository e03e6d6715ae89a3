use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use proptest::prelude::*;
use symbolon_core::{Algorithm, Names, Profile, Required, TokenKind, Typ};
use tempfile::TempDir;
use toml_span::Value;

use super::*;
use crate::keys::Location;
use crate::store;
use crate::telemetry::Format;
use crate::token_service::Source;
use crate::token_service::broker::{self, IdToken, Mode, Unsplittable};

#[cfg(feature = "redis")]
mod redis;

/// Everything that can be written.
pub(super) const FULL: &str = r#"secret = [{ env = "SYMBOLON_SECRET" }, { file = "secret" }]
data = "state"
log = "json"

[store]
kind = "memory"
max_bytes = "1GiB"

[cache]
max_bytes = "32MiB"

[revocations]
max_bytes = 1000000

[[issuers]]
issuer = "https://id.example.com"
algorithms = ["ES256", "RS256"]
tokens = "salted"
max_lifetime = "1h"

[[issuers]]
issuer = "https://login.example.net/realms/acme/"
profile = "rfc9068"
typ = ["JWT", "at+jwt"]
jwt_claim = { name = "token_use", value = "access" }
client_claims = ["cid"]
scope_claims = ["scp", "scope"]
jti_claims = ["uti"]
required = ["sub", "jti"]
at_hash = true
algorithms = ["EdDSA"]
tokens = "signature"
jwks = { file = "jwks.json" }

[token_service]
mode = "mint"
listen = "127.0.0.1:4601"
issuer = "https://id.example.com"
lifetime = "5m"

[[token_service.clients]]
id = "orders-app"
secret_sha256 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
audiences = ["https://api.example.com/orders", "https://api.example.com/bills"]
scopes = ["orders:read", "orders:write"]

[[token_service.clients]]
id = "reports"
secret_sha256 = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA"
audiences = ["https://api.example.com/bills"]

[gateway]
listen = "0.0.0.0:4600"
realm = "acme's API"
trusted_proxies = ["10.0.0.0/8", "::1/128"]
strip = ["X-Tenant"]
max_connections = 500
revocation = { detect = "500ms", tolerate = "0s" }

[[gateway.routes]]
host = "api.example.com"
path = "/orders"
resource_server = "https://orders:3000"
ca = "ca.pem"
audience = "https://api.example.com/orders"
scopes = ["orders:read"]
max_authorization = 16000
timeout = "10s"
cors_origins = ["https://app.example.com", "http://localhost:5173"]

[[gateway.routes]]
path = "/"
resource_server = "http://[::1]:3000"
audience = "https://api.example.com/bills"

[admin]
listen = "[::1]:4609"
token = { file = "admin-token" }
"#;

/// A token service before another server, with everything that can be written of it.
pub(super) const ORIGIN: &str = r#"
[[issuers]]
issuer = "https://id.example.com/realms/acme"
profile = "keycloak"
algorithms = ["RS256"]
tokens = "salted"

[token_service]
mode = "origin"
listen = "127.0.0.1:4601"
issuer = "https://id.example.com/realms/acme"
authorization_server = "http://keycloak:8080"
public_url = "https://id.example.com"
unsplittable = "pass"
id_token = "drop"
password_grant = true
max_grant_lifetime = "48h"
trusted_proxies = ["10.0.0.0/8"]

[gateway]
listen = "127.0.0.1:4600"

[[gateway.routes]]
path = "/orders"
resource_server = "http://orders:3000"
"#;

/// A gateway of phantom tokens and others, with everything that can be written of it.
pub(super) const PHANTOM: &str = r#"
secret = { file = "secret" }

[store]
kind = "redis"
url = "rediss://10.0.0.2"

[[issuers]]
issuer = "https://id.example.com"
algorithms = ["ES256"]
tokens = "salted"

[[issuers]]
issuer = "https://sso.example.org"
algorithms = ["PS256"]
tokens = "phantom"
introspection = { endpoint = "http://sso:8080/introspect", client_id = "gw", client_secret = { file = "admin-token" }, max_age = "10s", in_flight = 20, per_second = 50, timeout = "800ms" }

[[issuers]]
issuer = "https://other.example.org"
algorithms = ["ES384"]
tokens = "phantom"
introspection = {}

[gateway]
listen = "127.0.0.1:4600"
fallback = { endpoint = "https://id.example.com/introspect", in_flight = 30, per_second = 90, timeout = "700ms" }

[[gateway.routes]]
path = "/orders"
resource_server = "http://orders:3000"
issuers = ["https://id.example.com", "https://sso.example.org"]
"#;

pub(super) const ENDPOINT: &str = r#"
[[issuers]]
issuer = "https://login.example.net/"
algorithms = ["RS256"]
tokens = "salted"

[token_service]
mode = "endpoint"
listen = "127.0.0.1:4601"
issuer = "https://login.example.net/"
authorization_server = "http://10.0.0.7"
paths = { token = "/oauth/token", revocation = "/oauth/revoke", userinfo = "/oauth/me", introspection = "/oauth/ask" }

[[token_service.callers]]
id = "orders-api"
secret = { env = "ADMIN_TOKEN" }
audiences = ["https://api.example.com/orders"]

[[token_service.callers]]
id = "edge"
secret = { file = "admin-token" }
audiences = ["orders", "bills"]
jwt = true

[gateway]
listen = "127.0.0.1:4600"
"#;

pub(super) const MINIMAL: &str = r#"
[[issuers]]
issuer = "http://localhost:4601"
algorithms = ["ES256"]
tokens = "salted"

[token_service]
mode = "mint"
listen = "127.0.0.1:4601"
issuer = "http://localhost:4601"

[gateway]
listen = "127.0.0.1:4600"
"#;

/// A store that Sentinels watch over, with all that can be written of it.
pub(super) const SENTINEL: &str = r#"
secret = { file = "secret" }

[store]
kind = "redis"
sentinel = { master = "main", nodes = ["rediss://s1.example:26380", "rediss://10.0.0.2"], user = "watcher", password = { file = "secret" } }
read_url = "rediss://[::1]:6380"
user = "gateway"
password = { env = "ADMIN_TOKEN" }
ca = "ca.pem"
prefix = "acme-1"
replicas = { publish = 1, revoke = 2, read = 1 }
fsync = true
deadline = "80ms"

[[issuers]]
issuer = "http://localhost:4601"
algorithms = ["ES256"]
tokens = "salted"

[token_service]
mode = "mint"
listen = "127.0.0.1:4601"
issuer = "http://localhost:4601"

[gateway]
listen = "127.0.0.1:4600"
"#;

const SECRET: &str = "7.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const NEXT_SECRET: &str = "8.Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA";
const ADMIN_TOKEN: &str = "0123456789abcdefghijABCDEFGHIJ-_";
const PEM: &str = "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n";
/// The public key of RFC 8037 §A.2.
const JWKS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
const SHARED_JWKS: &str = r#"{"keys":[{"kty":"oct","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}"#;
const OTHER_JWKS: &str = r#"{"keys":[{"kty":"OKP","crv":"X25519","x":"AA"}]}"#;

/// The files that [`FULL`] names, and some that are no good.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, mode, text) in [
            ("secret", 0o600, &format!("{SECRET}\n")[..]),
            ("admin-token", 0o400, &format!("{ADMIN_TOKEN}\n")),
            ("jwks.json", 0o644, JWKS),
            ("ca.pem", 0o644, PEM),
            ("everybody", 0o604, SECRET),
            ("group", 0o640, ADMIN_TOKEN),
            ("short", 0o600, &ADMIN_TOKEN[1..]),
            ("odd", 0o600, "0123456789 0123456789 0123456789"),
            ("padding", 0o600, "================================"),
            ("none.json", 0o644, r#"{"keys":[]}"#),
            ("other.json", 0o644, OTHER_JWKS),
            ("shared.json", 0o600, SHARED_JWKS),
            ("open.json", 0o640, SHARED_JWKS),
        ] {
            let path = folder.0.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        folder
    }

    fn parse(&self, text: &str) -> Result<Config, Mistakes> {
        let name = self.0.path().join("symbolon.toml");
        Config::parse(text, name.to_str().unwrap(), &environment)
    }

    /// The mistakes of a text, as they would look if the file were in the working directory.
    fn mistakes(&self, text: &str) -> String {
        let mistakes = self.parse(text).expect_err(text).to_string();
        mistakes.replace(&format!("{}/", self.0.path().display()), "")
    }

    /// The reasons alone.
    fn reasons(&self, text: &str) -> Vec<String> {
        let mistakes = self.mistakes(text);
        mistakes
            .lines()
            .filter_map(|line| Some(line.splitn(4, ':').nth(3)?.trim_start().to_owned()))
            .collect()
    }

    /// Makes each change of [`FULL`] alone, a line `from => to`, and expects one mistake: at the `¦` and for the reason
    /// that stands above.
    fn refuses(&self, cases: &str) {
        self.refuses_in(FULL, cases);
    }

    /// The same with changes of another text.
    fn refuses_in(&self, text: &str, cases: &str) {
        let mut reason = "";
        for line in cases.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.split_once(" => ") {
                Some((from, to)) => {
                    self.refuses_one(text, &from.replace('⏎', "\n"), &to.replace('⏎', "\n"), reason);
                }
                None => reason = line,
            }
        }
    }

    fn refuses_one(&self, text: &str, from: &str, to: &str, reason: &str) {
        assert_eq!(text.matches(from).count(), 1, "{from} is not one place");
        let marked = text.replace(from, to);
        let before = marked.split('¦').next().unwrap();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        let reason = as_built(reason);
        let expected = format!("symbolon.toml:{line}:{column}: {reason}\n1 mistake in symbolon.toml");
        assert_eq!(self.mistakes(&marked.replace('¦', "")), expected, "{to}");
    }

    /// Leaves each line of [`FULL`] out alone, and expects one mistake: at the head of its table, for that reason.
    fn misses(&self, cases: &str) {
        for (line, reason) in cases.trim().lines().map(|case| case.split_once(" => ").unwrap()) {
            let line = line.trim();
            let (before, after) = FULL.split_once(&format!("\n{line}\n")).expect(line);
            let head = before[..=before.rfind("\n[").unwrap()].matches('\n').count() + 1;
            let key = line.split(' ').next().unwrap();
            let mistake = format!("symbolon.toml:{head}:1: `{key}` is missing: {reason}");
            let expected = format!("{mistake}\n1 mistake in symbolon.toml");
            assert_eq!(self.mistakes(&format!("{before}\n{after}")), expected, "{line}");
        }
    }
}

/// What is said of stores; a build without one does not name it.
fn as_built(reason: &str) -> String {
    if cfg!(feature = "disk") {
        reason.to_owned()
    } else {
        reason.replace("\"memory\" or \"disk\"", "\"memory\"")
    }
}

fn environment(name: &str) -> Option<String> {
    match name {
        "SYMBOLON_SECRET" => Some(NEXT_SECRET.to_owned()),
        "BAD_SECRET" => Some("0.AAEC".to_owned()),
        "ADMIN_TOKEN" => Some("a+/b".repeat(8) + "=="),
        "EMPTY" => Some("\n".to_owned()),
        "BAD_TOKEN" => Some("a+/b==".repeat(8)),
        _ => None,
    }
}

#[test]
fn every_field_that_is_written_is_read() {
    let folder = Folder::new();
    let at = |name: &str| folder.0.path().join(name);
    let config = folder.parse(FULL).unwrap();

    let secrets = config.secrets.unwrap();
    assert_eq!(*secrets.newest().expose(), NEXT_SECRET);
    let secrets: Vec<_> = secrets.iter().map(|secret| secret.expose().to_string()).collect();
    assert_eq!(secrets, [NEXT_SECRET, SECRET]);
    assert_eq!((config.data, config.log), (at("state"), Format::Json));
    assert!(matches!(config.store, store::Config::Memory { max_bytes } if max_bytes == 1 << 30));
    assert_eq!(config.cache.max_bytes, 32 << 20);
    assert_eq!(config.revocations.max_bytes, 1_000_000);
    assert_eq!(config.revocations.detect, Duration::from_millis(500));
    assert_eq!(config.revocations.tolerate, Duration::ZERO);

    let [own, other] = &config.issuers[..] else {
        panic!("two issuers")
    };
    assert_eq!(
        (own.issuer.as_str(), &own.profile),
        ("https://id.example.com", &Profile::RFC9068)
    );
    assert_eq!(own.algorithms, [Algorithm::Es256, Algorithm::Rs256]);
    assert_eq!(
        (own.tokens, own.max_lifetime),
        (TokenKind::Salted, Duration::from_secs(3600))
    );
    assert_eq!(own.keys, keys::Source::Mint);
    assert_eq!(other.algorithms, [Algorithm::EdDsa]);
    assert_eq!(other.issuer, "https://login.example.net/realms/acme/");
    assert_eq!(
        (other.tokens, other.max_lifetime),
        (TokenKind::Signature, Duration::from_secs(86400))
    );
    assert_eq!(other.keys, keys::Source::File(at("jwks.json")));
    let names = |names: &[&str]| Names::Written(names.iter().map(|&name| name.to_owned()).collect());
    assert_eq!(
        other.profile,
        Profile {
            name: "rfc9068",
            typ: vec![Typ::Jwt, Typ::AtJwt].into(),
            jwt_claim: Some(("token_use".into(), "access".into())),
            client_claims: names(&["cid"]),
            scope_claims: names(&["scp", "scope"]),
            jti_claims: names(&["uti"]),
            required: vec![Required::Subject, Required::Jti].into(),
            at_hash: true,
        }
    );

    let token_service = config.token_service.unwrap();
    assert_eq!(token_service.listen, "127.0.0.1:4601".parse().unwrap());
    let Source::Mint(mint) = token_service.source else {
        panic!("it mints")
    };
    assert_eq!(mint.issuer.as_str(), "https://id.example.com/");
    assert_eq!(mint.lifetime, Duration::from_secs(300));
    let [orders, reports] = &mint.clients[..] else {
        panic!("two clients")
    };
    assert_eq!((orders.id.as_str(), orders.secret_sha256[31]), ("orders-app", 31));
    assert_eq!(
        orders.audiences,
        ["https://api.example.com/orders", "https://api.example.com/bills"]
    );
    assert_eq!(orders.scopes, ["orders:read", "orders:write"]);
    assert_eq!((reports.id.as_str(), reports.secret_sha256[0]), ("reports", 31));
    assert!(reports.scopes.is_empty());

    let admin = config.admin.unwrap();
    assert_eq!(admin.listen, "[::1]:4609".parse().unwrap());
    assert_eq!(*admin.token.unwrap().0, ADMIN_TOKEN);
}

#[test]
fn every_field_of_the_gateway_is_read() {
    let folder = Folder::new();
    let gateway = folder.parse(FULL).unwrap().gateway.unwrap();
    assert_eq!(gateway.listen, "0.0.0.0:4600".parse().unwrap());
    assert_eq!(
        (gateway.realm.as_str(), gateway.max_connections),
        ("acme's API", 500)
    );
    assert_eq!(
        gateway.trusted_proxies,
        ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]
    );
    assert_eq!(gateway.strip, ["x-tenant"]);

    let [orders, rest] = &gateway.routes[..] else {
        panic!("two routes")
    };
    assert_eq!(
        (orders.host.as_deref(), orders.path.as_str()),
        (Some("api.example.com"), "/orders")
    );
    assert_eq!(orders.resource_server.as_str(), "https://orders:3000/");
    assert_eq!(orders.ca, Some(folder.0.path().join("ca.pem")));
    assert_eq!(orders.audience.as_deref(), Some("https://api.example.com/orders"));
    assert_eq!(orders.scopes, ["orders:read"]);
    assert_eq!(
        (orders.max_authorization, orders.timeout),
        (16_000, Duration::from_secs(10))
    );
    assert_eq!(
        orders.cors_origins,
        ["https://app.example.com", "http://localhost:5173"]
    );
    assert_eq!((rest.host.as_deref(), rest.path.as_str()), (None, "/"));
    assert_eq!(rest.resource_server.as_str(), "http://[::1]:3000/");
    assert_eq!(
        (rest.max_authorization, rest.timeout),
        (8000, Duration::from_secs(60))
    );
    assert!(rest.ca.is_none() && rest.scopes.is_empty() && rest.cors_origins.is_empty());
}

#[test]
fn what_may_be_left_out_has_a_default() {
    let config = Config::parse(MINIMAL, "etc/symbolon.toml", &|_| None).unwrap();
    assert!(config.secrets.is_none() && config.admin.is_none());
    assert_eq!(
        (config.data, config.log),
        (PathBuf::from("etc/symbolon-data"), Format::Text)
    );
    assert!(matches!(config.store, store::Config::Memory { max_bytes } if max_bytes == 512 << 20));
    assert_eq!(config.cache.max_bytes, 256 << 20);
    assert_eq!(config.revocations.max_bytes, 64 << 20);
    assert_eq!(config.revocations.detect, Duration::from_secs(2));
    assert_eq!(config.revocations.tolerate, Duration::from_secs(30));
    assert_eq!(config.issuers[0].profile, Profile::RFC9068);
    assert_eq!(config.issuers[0].max_lifetime, Duration::from_secs(86400));
    let Source::Mint(mint) = config.token_service.unwrap().source else {
        panic!("it mints")
    };
    assert_eq!(mint.lifetime, Duration::from_secs(600));
    let gateway = config.gateway.unwrap();
    assert_eq!((gateway.realm.as_str(), gateway.max_connections), ("api", 10_000));
    assert!(gateway.trusted_proxies.is_empty() && gateway.strip.is_empty() && gateway.routes.is_empty());
}

#[test]
fn data_goes_where_it_is_written_else_where_systemd_says() {
    let systemd =
        |name: &str| (name == "STATE_DIRECTORY").then(|| "/var/lib/symbolon:/var/lib/other".to_owned());
    let data = |text: &str| Config::parse(text, "etc/symbolon.toml", &systemd).unwrap().data;
    assert_eq!(data(MINIMAL), PathBuf::from("/var/lib/symbolon"));
    assert_eq!(
        data(&format!("data = \"here\"\n{MINIMAL}")),
        PathBuf::from("etc/here")
    );
    assert_eq!(
        data(&format!("data = \"/srv\"\n{MINIMAL}")),
        PathBuf::from("/srv")
    );
}

#[test]
fn a_file_is_read_with_the_files_beside_it() {
    let folder = Folder::new();
    let path = folder.0.path().join("symbolon.toml");
    fs::write(&path, FULL.replace("{ env = \"SYMBOLON_SECRET\" }, ", "")).unwrap();
    assert_eq!(
        *Config::read(&path).unwrap().secrets.unwrap().newest().expose(),
        SECRET
    );
    let missing = Config::read(Path::new("no-such-folder/symbolon.toml")).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "no-such-folder/symbolon.toml:1:1: cannot be read: No such file or directory (os error 2)\n\
         1 mistake in no-such-folder/symbolon.toml"
    );
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = r#"secrets = { file = "secret" }
log = "xml"

[store]
kind = "papyrus"
max_bytes = "512MB"

[[issuers]]
issuer = "http://id.example.com"
algorithms = ["RS256", "RS256"]
tokens = "opaque"
max_lifetime = "1d"

[[issuers]]
issuer = "https://id.example.com"
algorithms = []
tokens = "signature"

[token_service]
listen = "localhost:4601"
issuer = "https://id.example.com/"
lifetime = "2h"

[[token_service.clients]]
id = "a:b"
secret_sha256 = "hunter2"

[gateway]
listen = "127.0.0.1:4600"
realm = "\"api\""
trusted_proxies = "10.0.0.0/8"

[[gateway.routes]]
path = "/orders/"
resource_server = "http://orders:3000/v1"
ca = "ca.pem"
scope = ["orders:read"]

[admin]
listen = "0.0.0.0:4600"
colour = "green"
"#;
    let expected = r#"symbolon.toml:1:1: unknown key `secrets`: did you mean `secret`?
symbolon.toml:2:7: write "text" or "json"
symbolon.toml:5:8: write "memory", "disk" or "redis"
symbolon.toml:6:13: write a size, as "512KiB", "64MiB", "1GiB" or a number of octets
symbolon.toml:9:10: write an https URL: http is for loopback hosts only
symbolon.toml:10:24: leave it out: it stands in this list already
symbolon.toml:11:10: write "salted", "signature" or "phantom"
symbolon.toml:12:16: write a duration from "1s" to "8760h", in ms, s, m or h
symbolon.toml:16:14: in square brackets, write "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384" or "HS512"
symbolon.toml:19:1: `mode` is missing: write "mint", "endpoint" or "origin"
symbolon.toml:20:10: write an IP address and a port, as "127.0.0.1:4600"
symbolon.toml:22:12: write a duration from "1s" to "1h", in ms, s, m or h
symbolon.toml:24:1: `audiences` is missing: in square brackets, write an audience without white space, as "https://api.example.com/orders"
symbolon.toml:25:6: write a client identifier of printable ASCII without ":"
symbolon.toml:26:17: write the SHA-256 in base64url that `symbolon keys client` prints, 43 characters
symbolon.toml:30:9: write printable ASCII without " and \
symbolon.toml:31:19: in square brackets, write a network by its first address and prefix length, as "10.0.0.0/8"
symbolon.toml:33:1: `audience` is missing: with tokens = "signature", a route needs the audience of its resource server
symbolon.toml:34:8: write a path that starts with "/" and does not end with it, of letters, digits and -._~!$&'()+,=:@, without empty segments and dots at the end of one
symbolon.toml:35:19: write the path in the route, and the URL without one
symbolon.toml:37:1: unknown key `scope`: did you mean `scopes`?
symbolon.toml:40:10: write a loopback address, as "127.0.0.1:4609"
symbolon.toml:40:10: write another port: one of the roles listens there
symbolon.toml:41:1: unknown key `colour`: the keys here are `listen`, `token`
24 mistakes in symbolon.toml"#;
    assert_eq!(Folder::new().mistakes(text), as_built(expected));
}

#[test]
fn a_syntax_error_is_reported_alone() {
    Folder::new().refuses(
        r#"
        invalid TOML value, did you mean to use a quoted string?
            log = "json" => log = ¦json
        duplicate key: `kind`
            kind = "memory" => kind = "disk"⏎¦kind = "memory"
        "#,
    );
}

#[test]
fn unknown_keys_are_refused_in_every_table() {
    Folder::new().refuses(
        r#"
        unknown key `date`: did you mean `data`?
            data = "state" => ¦date = "state"
        unknown key `max_byte`: did you mean `max_bytes`?
            max_bytes = 1000000 => ¦max_byte = 1000000
        unknown key `Profile`: did you mean `profile`?
            profile = "rfc9068" => ¦Profile = "rfc9068"
        unknown key `lifetimes`: did you mean `lifetime`?
            lifetime = "5m" => ¦lifetimes = "5m"
        unknown key `scope`: did you mean `scopes`?
            scopes = ["orders:read", "orders:write"] => ¦scope = []
        unknown key `stripe`: did you mean `strip`?
            strip = ["X-Tenant"] => ¦stripe = []
        unknown key `detected`: did you mean `detect`?
            detect = "500ms" => ¦detected = "500ms"
        unknown key `time_out`: did you mean `timeout`?
            timeout = "10s" => ¦time_out = "10s"
        unknown key `fil`: did you mean `file`?
            file = "admin-token" => file = "admin-token", ¦fil = 1
        unknown key `uri`: did you mean `url`?
            { file = "jwks.json" } => { file = "jwks.json", ¦uri = 1 }
        unknown key `port`: the keys here are `listen`, `token`
            [admin] => [admin]⏎¦port = 1
        unknown key ` x`: the keys here are `listen`, `token`
            [admin] => [admin]⏎¦"\nx" = 1
        "#,
    );
}

#[test]
fn what_must_be_there_is_missed_at_its_table() {
    let folder = Folder::new();
    folder.misses(
        r#"
        issuer = "https://login.example.net/realms/acme/" => write an https URL, as "https://id.example.com"
        algorithms = ["EdDSA"] => in square brackets, write "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384" or "HS512"
        tokens = "signature" => write "salted", "signature" or "phantom"
        mode = "mint" => write "mint", "endpoint" or "origin"
        listen = "127.0.0.1:4601" => write an IP address and a port, as "127.0.0.1:4600"
        id = "orders-app" => write a client identifier of printable ASCII without ":"
        secret_sha256 = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA" => write the SHA-256 in base64url that `symbolon keys client` prints, 43 characters
        audiences = ["https://api.example.com/bills"] => in square brackets, write an audience without white space, as "https://api.example.com/orders"
        listen = "0.0.0.0:4600" => write an IP address and a port, as "127.0.0.1:4600"
        path = "/" => write a path that starts with "/" and does not end with it, of letters, digits and -._~!$&'()+,=:@, without empty segments and dots at the end of one
        resource_server = "http://[::1]:3000" => write an http or https URL, as "http://orders:3000"
        audience = "https://api.example.com/bills" => with tokens = "signature", a route needs the audience of its resource server
        listen = "[::1]:4609" => write an IP address and a port, as "127.0.0.1:4600"
        "#,
    );
    folder.refuses(
        r#"
        `issuer` is missing: write an https URL, as "https://id.example.com"
            [token_service]⏎mode = "mint"⏎listen = "127.0.0.1:4601"⏎issuer = "https://id.example.com" => ¦[token_service]⏎mode = "mint"⏎listen = "127.0.0.1:4601"
        "#,
    );
}

#[test]
fn a_file_needs_a_role_and_an_issuer() {
    let folder = Folder::new();
    let no_role = "write [token_service], [gateway] or both: there is nothing to run";
    let no_issuer = "`issuers` is missing: write at least one [[issuers]]";
    let (issuers, roles) = MINIMAL.split_at(MINIMAL.find("[token_service]").unwrap());
    assert_eq!(folder.reasons(""), [no_role, no_issuer]);
    assert_eq!(folder.reasons(issuers), [no_role]);
    assert_eq!(folder.reasons(roles), [no_issuer]);
    for none in ["issuers = []", "issuers = {}", "issuers = [1]"] {
        let reasons = folder.reasons(&format!("{none}\n{roles}"));
        assert_eq!(reasons, ["write at least one [[issuers]]"], "{none}");
    }
}

#[test]
fn a_process_with_one_role_needs_what_the_other_process_has() {
    let folder = Folder::new();
    let no_secret = "write `secret`: the deployment secret must be given where only one of the roles runs";
    let memory = "write the other role as well: the memory store serves a process that has both roles";
    let (token_service, gateway) = MINIMAL.split_at(MINIMAL.find("[gateway]").unwrap());
    let (issuers, _) = token_service.split_once("\n\n[token_service]").unwrap();
    let issuers = issuers.replace("ES256", "EdDSA");
    let gateway = format!("{issuers}\njwks = {{ file = \"jwks.json\" }}\n\n{gateway}");
    let disk = "write the other role as well: the disk store serves a process that has both roles";
    for (text, role) in [(token_service, "[token_service]"), (&gateway, "[gateway]")] {
        assert_eq!(folder.reasons(text), [no_secret, memory]);
        let with_secret = format!("secret = {{ file = \"secret\" }}\n{text}");
        folder.refuses_one(&with_secret, role, &format!("¦{role}"), memory);
        if cfg!(not(feature = "disk")) {
            continue;
        }
        let on_disk = format!("{with_secret}\n[store]\nkind = \"disk\"\n");
        folder.refuses_one(&on_disk, role, &format!("¦{role}"), disk);
    }
}

#[test]
fn every_table_is_a_table() {
    let folder = Folder::new();
    folder.refuses(
        r#"
        write [store]
            [store] => ¦[[store]]
        write [cache]
            [cache] => ¦[[cache]]
        write [revocations]
            [revocations] => ¦[[revocations]]
        write [admin]
            [admin] => ¦[[admin]]
        write { file = "…" } or { url = "https://…" }
            { file = "jwks.json" } => ¦"jwks.json"
        write { file = "…" } or { env = "…" }
            { file = "admin-token" } => ¦"admin-token"
        write { detect = "2s", tolerate = "30s" }
            { detect = "500ms", tolerate = "0s" } => ¦"2s"
        "#,
    );
    for (from, to, reason) in [
        ("[gateway]", "[[gateway]]", "write [gateway]"),
        (
            "[gateway]",
            "[gateway.routes]\n[gateway]",
            "write [[gateway.routes]]",
        ),
        ("[token_service]", "[[token_service]]", "write [token_service]"),
        (
            "[gateway]",
            "[token_service.clients]\n[gateway]",
            "write [[token_service.clients]]",
        ),
    ] {
        let reasons = folder.reasons(&MINIMAL.replace(from, to));
        assert!(reasons.contains(&reason.to_owned()), "{reasons:?}");
    }
}

#[test]
fn sizes_and_durations_have_units() {
    let text = |text: &'static str| Value::new(toml_span::value::ValueInner::String(text.into()));
    for (written, octets) in [("1KiB", 1 << 10), ("512MiB", 512 << 20), ("2GiB", 2 << 30)] {
        assert_eq!(values::size(Some(&text(written))).unwrap(), octets);
    }
    for written in "1 1GB GiB -1GiB 1\u{a0}GiB 0KiB 99999999999GiB 99999999999999999999KiB".split(' ') {
        assert!(values::size(Some(&text(written))).is_err(), "{written}");
    }
    let duration = values::duration("100ms", "24h");
    for (written, millis) in [
        ("100ms", 100),
        ("2s", 2000),
        ("10m", 600_000),
        ("24h", 86_400_000),
    ] {
        assert_eq!(
            duration(Some(&text(written))).unwrap(),
            Duration::from_millis(millis)
        );
    }
    for written in "s 2 2\u{a0}s 2S 1.5s +2s -2s 2d 99ms 25h 99999999999999999h".split(' ') {
        assert!(duration(Some(&text(written))).is_err(), "{written}");
    }
}

#[test]
fn general_settings() {
    Folder::new().refuses(
        r#"
        write the name of a file or folder
            "state" => ¦1
            "state" => ¦""
        write "text" or "json"
            "json" => ¦true
            "json" => ¦"JSON"
        write "memory", "disk" or "redis"
            "memory" => ¦"Memory"
        leave it out: it is for kind = "redis"
            kind = "memory" => kind = "memory"⏎prefix = ¦"acme"
            kind = "memory" => kind = "memory"⏎replicas = ¦{ revoke = 1 }
        leave it out: it is for kind = "disk"
            kind = "memory" => kind = "memory"⏎folder = ¦"store"
        write a size, as "512KiB", "64MiB", "1GiB" or a number of octets
            "1GiB" => ¦"1GB"
            "1GiB" => ¦true
            1000000 => ¦0
            1000000 => ¦-1
            1000000 => ¦1.5
        "#,
    );
}

#[cfg(feature = "disk")]
#[test]
fn a_store_on_disk_stands_in_the_data_folder_or_where_it_is_written() {
    let folder = Folder::new();
    let at = |name: &str| folder.0.path().join(name);
    let store = |settings: &str| {
        let text = FULL.replace("kind = \"memory\"", &format!("kind = \"disk\"\n{settings}"));
        match folder.parse(&text).unwrap().store {
            store::Config::Disk { folder, max_bytes } => (folder, max_bytes),
            other => panic!("it is {other:?}"),
        }
    };
    assert_eq!(store(""), (at("state/store"), 1 << 30));
    assert_eq!(store("folder = \"entries\""), (at("entries"), 1 << 30));
    assert_eq!(
        store("folder = \"/srv/entries\"").0,
        PathBuf::from("/srv/entries")
    );
}

#[test]
fn secrets_stand_in_files_of_their_owner_or_in_the_environment() {
    Folder::new().refuses(
        r#"
        write { file = "…" } or { env = "…" }
            [{ env = "SYMBOLON_SECRET" }, { file = "secret" }] => ¦7
            [{ env = "SYMBOLON_SECRET" }, { file = "secret" }] => ¦"7.AAEC"
            [{ env = "SYMBOLON_SECRET" }, { file = "secret" }] => ¦[]
            [{ env = "SYMBOLON_SECRET" }, { file = "secret" }] => ¦{}
            { file = "secret" } => ¦"7.AAEC"
            { file = "secret" } => ¦{ file = "secret", env = "SYMBOLON_SECRET" }
        write the name of a file or folder
            { file = "secret" } => { file = ¦1 }
        write the name of an environment variable
            { file = "secret" } => { env = ¦"" }
        set this environment variable: it is not there, or not text
            { file = "secret" } => { env = ¦"UNSET" }
        name a file that can be read, as seen from the folder of this one: No such file or directory (os error 2)
            { file = "secret" } => { file = ¦"gone" }
        others than the owner may use this file: chmod 600
            { file = "secret" } => { file = ¦"everybody" }
        the number of a deployment secret is 1 to 255
            { file = "secret" } => { env = ¦"BAD_SECRET" }
        a deployment secret reads <number>.<base64url of 32 octets>
            { file = "secret" } => { file = ¦"admin-token" }
        two deployment secrets have the number 7
            [{ env = "SYMBOLON_SECRET" }, { file = "secret" }] => ¦[{ file = "secret" }, { file = "secret" }]
        "#,
    );
}

#[test]
fn a_single_secret_needs_no_list() {
    let text = format!("secret = {{ env = \"SYMBOLON_SECRET\" }}\n{MINIMAL}");
    let secrets = Folder::new().parse(&text).unwrap().secrets.unwrap();
    assert_eq!(*secrets.newest().expose(), NEXT_SECRET);
}

#[test]
fn issuers() {
    Folder::new().refuses(
        r#"
        write an https URL, as "https://id.example.com"
            "https://login.example.net/realms/acme/" => ¦"login.example.net"
            "https://login.example.net/realms/acme/" => ¦"ftp://login.example.net"
            "https://login.example.net/realms/acme/" => ¦"https:login.example.net"
            "https://login.example.net/realms/acme/" => ¦" https://login.example.net"
            "https://login.example.net/realms/acme/" => ¦"https://login.example.net\\realms"
        write an https URL: http is for loopback hosts only
            "https://login.example.net/realms/acme/" => ¦"http://login.example.net"
            "https://login.example.net/realms/acme/" => ¦"http://10.0.0.1"
            "https://login.example.net/realms/acme/" => ¦"http://localhost.example.net"
        write the URL without user, query and fragment
            "https://login.example.net/realms/acme/" => ¦"https://login.example.net?"
            "https://login.example.net/realms/acme/" => ¦"https://login.example.net#"
            "https://login.example.net/realms/acme/" => ¦"https://acme@login.example.net"
        write "rfc9068" or "keycloak"
            "rfc9068" => ¦"Keycloak"
        write "salted", "signature" or "phantom"
            "salted" => ¦"opaque"
        write "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384" or "HS512"
            ["EdDSA"] => ["EdDSA", ¦"eddsa"]
            ["EdDSA"] => ["EdDSA", ¦"none"]
        in square brackets, write "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384" or "HS512"
            ["EdDSA"] => ¦[]
            ["EdDSA"] => ¦"EdDSA"
        leave it out: it stands in this list already
            ["EdDSA"] => ["EdDSA", ¦"EdDSA"]
        write a duration from "1s" to "8760h", in ms, s, m or h
            "1h" => ¦"0s"
            "1h" => ¦"8761h"
        "#,
    );
}

#[test]
fn an_issuer_stands_there_once() {
    let start = FULL.find("[[issuers]]\nissuer = \"https://login").unwrap();
    let issuer = FULL[start..].split_inclusive("\n\n").next().unwrap();
    let again = format!("{issuer}{}", issuer.replace("\"https", "¦\"https"));
    Folder::new().refuses_one(
        FULL,
        issuer,
        &again,
        "write each issuer once: this one is there already",
    );
}

#[test]
fn an_issuer_may_be_plain_http_on_this_machine() {
    let folder = Folder::new();
    for host in ["localhost", "127.0.0.1:8080", "127.8.8.8", "[::1]:8080"] {
        let url = format!("http://{host}/realms/acme/");
        let text = FULL.replace("https://login.example.net/realms/acme/", &url);
        assert_eq!(folder.parse(&text).unwrap().issuers[1].issuer, url);
    }
}

#[test]
fn keys_of_issuers() {
    Folder::new().refuses(
        r#"
        name a file that can be read, as seen from the folder of this one: No such file or directory (os error 2)
            "jwks.json" => ¦"gone.json"
        name the file of a JWK Set: this is not a JWK Set in strict JSON
            "jwks.json" => ¦"ca.pem"
        name a JWK Set with a key for one of the `algorithms`
            "jwks.json" => ¦"none.json"
        name a JWK Set with a key for one of the `algorithms`; key 0: no allowed algorithm uses its type
            "jwks.json" => ¦"other.json"
        leave it out: the token service mints for this issuer
            tokens = "salted" => tokens = "salted"⏎jwks = ¦{ file = "jwks.json" }
        write one of ES256, EdDSA, RS256 first: the token service signs with it
            ["ES256", "RS256"] => [¦"ES384", "ES256"]
            ["ES256", "RS256"] => [¦"HS256"]
        leave it out: its key would stand in a file, and this issuer has none
            ["ES256", "RS256"] => ["ES256", ¦"HS256"]
        "#,
    );
}

#[test]
fn keys_that_stand_in_no_file_are_fetched() {
    let folder = Folder::new();
    let keys = |text: &str, jwks: &str| {
        let text = text.replacen("algorithms", &format!("{jwks}\nalgorithms"), 1);
        folder.parse(&text).unwrap().issuers.remove(0).keys
    };
    let at = |base: Option<&str>| {
        let base = base.map(|base| base.parse().unwrap());
        keys::Source::Fetched(Location::Metadata { base })
    };
    let url = |url: &str| keys::Source::Fetched(Location::Url(url.parse().unwrap()));
    assert_eq!(
        keys(ORIGIN, ""),
        at(Some("http://keycloak:8080")),
        "the issuer is reached there"
    );
    let under_its_name = ENDPOINT.replace("authorization_server = \"http://10.0.0.7\"\n", "");
    assert_eq!(keys(&under_its_name, ""), at(None));
    let text = FULL.replace("jwks = { file = \"jwks.json\" }\n", "");
    assert_eq!(
        folder.parse(&text).unwrap().issuers[1].keys,
        at(None),
        "nobody stands before it"
    );
    for written in [
        "https://id.example.com/keys?v=1",
        "http://10.0.0.7/realms/acme/certs",
    ] {
        let jwks = format!("jwks = {{ url = \"{written}\" }}");
        assert_eq!(keys(ORIGIN, &jwks), url(written), "as written");
    }
    folder.refuses(
        r#"
        write { file = "…" } or { url = "https://…" }
            { file = "jwks.json" } => ¦{}
            { file = "jwks.json" } => ¦{ file = "jwks.json", url = "https://id.example.com/jwks" }
        write an http or https URL, as "https://id.example.com/jwks"
            { file = "jwks.json" } => { url = ¦"id.example.com/jwks" }
            { file = "jwks.json" } => { url = ¦"file:///etc/jwks.json" }
        write the URL without user and fragment
            { file = "jwks.json" } => { url = ¦"https://user:password@id.example.com" }
            { file = "jwks.json" } => { url = ¦"https://id.example.com/#jwks" }
        "#,
    );
}

// MD-07, OP-03
#[test]
fn symmetric_keys_stand_in_a_file_of_their_owner() {
    let text = FULL.replace("EdDSA", "HS256").replace("jwks.json", "shared.json");
    let config = Folder::new().parse(&text).unwrap();
    assert_eq!(config.issuers[1].algorithms, [Algorithm::Hs256]);
    let open = "others than the owner may use this file: chmod 600";
    Folder::new().refuses_one(&text, "\"shared.json\"", "¦\"open.json\"", open);
    let reason = "leave it out, or write jwks = { file = \"…\" }: such a key is never fetched";
    for elsewhere in ["", "jwks = { url = \"https://login.example.net/jwks\" }"] {
        let text = text.replace("jwks = { file = \"shared.json\" }", elsewhere);
        Folder::new().refuses_one(&text, "[\"HS256\"]", "[¦\"HS256\"]", reason);
    }
}

#[test]
fn token_service() {
    Folder::new().refuses(
        r#"
        write "mint", "endpoint" or "origin"
            "mint" => ¦"broker"
        write an IP address and a port, as "127.0.0.1:4600"
            "127.0.0.1:4601" => ¦"localhost:4601"
            "127.0.0.1:4601" => ¦"127.0.0.1"
            "127.0.0.1:4601" => ¦4601
        write a duration from "1s" to "1h", in ms, s, m or h
            "5m" => ¦"61m"
            "5m" => ¦300
        write a client identifier of printable ASCII without ":"
            "reports" => ¦"a:b"
            "reports" => ¦"réports"
            "reports" => ¦""
        write another `id`: a client has this one already
            "reports" => ¦"orders-app"
        write the SHA-256 in base64url that `symbolon keys client` prints, 43 characters
            "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA" => ¦"Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQB"
            "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA" => ¦"Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMC"
        write an audience without white space, as "https://api.example.com/orders"
            "https://api.example.com/orders", "https://api.example.com/bills" => ¦""
            "https://api.example.com/orders", "https://api.example.com/bills" => ¦"orders bills"
        write one scope of printable ASCII without space, " and \
            "orders:write" => ¦"orders:write orders:list"
            "orders:write" => ¦"a\\b"
            "orders:write" => ¦"a\"b"
            "orders:write" => ¦"é"
            "orders:write" => ¦""
        leave it out: it stands in this list already
            "orders:write" => ¦"orders:read"
        "#,
    );
}

#[test]
fn the_token_service_mints_for_one_of_the_issuers() {
    let folder = Folder::new();
    let unlisted = "write the `issuer` of one of the [[issuers]]";
    let line = "issuer = \"https://id.example.com\"\nlifetime";
    for other in ["https://login.example.com", "https://id.example.com/"] {
        let text = FULL.replace(line, &format!("issuer = \"{other}\"\nlifetime"));
        assert_eq!(folder.reasons(&text), [unlisted]);
    }
    // An issuer with a mistake may be the one.
    let no_url = "write an https URL, as \"https://id.example.com\"";
    assert_eq!(folder.reasons(&MINIMAL.replacen("http:", "ftp:", 1)), [no_url]);
    assert_eq!(
        folder.reasons(&MINIMAL.replace("http:", "ftp:")),
        [no_url, no_url]
    );
}

#[test]
fn the_issuer_of_the_token_service_is_its_own_address() {
    let folder = Folder::new();
    let reason = "write the URL as browsers show it: endpoints are named after it";
    for odd in [
        "https://ID.example.com",
        "https://id.example.com:443",
        "https://id.example.com/a/../b",
    ] {
        let text = FULL.replace("https://id.example.com", odd);
        let line = format!("issuer = \"{odd}\"\nlifetime");
        folder.refuses_one(&text, &line, &line.replace("\"https", "¦\"https"), reason);
    }
    for normal in [
        "https://id.example.com/",
        "https://id.example.com:8443/realms/acme",
    ] {
        let config = folder
            .parse(&FULL.replace("https://id.example.com", normal))
            .unwrap();
        assert_eq!(
            (&config.issuers[0].issuer[..], &config.issuers[0].keys),
            (normal, &keys::Source::Mint)
        );
    }
}

#[test]
fn every_field_of_a_broker_is_read() {
    let folder = Folder::new();
    let config = folder.parse(ORIGIN).unwrap();
    assert_eq!(config.issuers[0].profile, Profile::KEYCLOAK);
    let broker = broker(config);
    assert_eq!(broker.issuer, "https://id.example.com/realms/acme");
    assert_eq!(broker.authorization_server.as_str(), "http://keycloak:8080/");
    let Mode::Origin { public_url } = broker.mode else {
        panic!("at the origin")
    };
    assert_eq!(public_url.as_str(), "https://id.example.com/");
    assert_eq!(
        (broker.unsplittable, broker.id_token),
        (Unsplittable::Pass, IdToken::Drop)
    );
    assert!(broker.allows_password);
    assert_eq!(broker.max_grant_lifetime, Duration::from_secs(48 * 3600));
    assert_eq!(broker.trusted_proxies, ["10.0.0.0/8".parse().unwrap()]);

    let broker = self::broker(folder.parse(ENDPOINT).unwrap());
    assert_eq!(broker.issuer, "https://login.example.net/");
    assert_eq!(broker.authorization_server.as_str(), "http://10.0.0.7/");
    assert_eq!(
        places(&broker),
        ["/oauth/token", "/oauth/revoke", "/oauth/me", "/oauth/ask"]
    );
}

#[test]
fn what_may_be_left_out_of_a_broker_has_a_default() {
    let folder = Folder::new();
    let without = |text: &str, keys: &[&str]| {
        let is_left = |line: &&str| !keys.iter().any(|key| line.starts_with(&format!("{key} = ")));
        let text: String = text.split_inclusive('\n').filter(is_left).collect();
        broker(folder.parse(&text).unwrap())
    };
    let broker = without(ENDPOINT, &["authorization_server", "paths"]);
    assert_eq!(broker.authorization_server.as_str(), "https://login.example.net/");
    assert_eq!(places(&broker), ["/token", "/revoke", "/userinfo", "/introspect"]);
    assert_eq!(
        (broker.unsplittable, broker.id_token),
        (Unsplittable::Refuse, IdToken::Pass)
    );
    assert!(!broker.allows_password && broker.trusted_proxies.is_empty());
    assert_eq!(broker.max_grant_lifetime, Duration::from_secs(720 * 3600));

    let broker = without(
        ORIGIN,
        &[
            "public_url",
            "unsplittable",
            "password_grant",
            "max_grant_lifetime",
            "trusted_proxies",
        ],
    );
    let Mode::Origin { public_url } = broker.mode else {
        panic!("at the origin")
    };
    assert_eq!(public_url.as_str(), "https://id.example.com/");
}

fn broker(config: Config) -> broker::Config {
    match config.token_service.unwrap().source {
        Source::Broker(settings) => settings,
        Source::Mint(_) => panic!("it mints"),
    }
}

fn places(broker: &broker::Config) -> [&str; 4] {
    let Mode::Endpoint(places) = &broker.mode else {
        panic!("at paths of its own")
    };
    [
        &places.token,
        &places.revocation,
        &places.userinfo,
        &places.introspection,
    ]
    .map(|path| path.as_deref().unwrap())
}

// IN-00
#[test]
fn callers_are_read_with_the_hash_of_their_secret() {
    let role = Folder::new().parse(ENDPOINT).unwrap().token_service.unwrap();
    let [orders, edge] = &role.callers[..] else {
        panic!("two callers")
    };
    let hash = symbolon_core::sha256(ADMIN_TOKEN.as_bytes());
    let in_environment = symbolon_core::sha256(environment("ADMIN_TOKEN").unwrap().as_bytes());
    assert_eq!(
        (orders.id.as_str(), orders.secret_sha256),
        ("orders-api", in_environment)
    );
    assert_eq!(orders.audiences, ["https://api.example.com/orders"]);
    assert_eq!((edge.id.as_str(), edge.secret_sha256), ("edge", hash));
    assert_eq!(edge.audiences, ["orders", "bills"]);
    assert_eq!((orders.jwt, edge.jwt), (false, true));
    assert!(!format!("{role:?}").contains("secret"));
    let role = Folder::new().parse(MINIMAL).unwrap().token_service.unwrap();
    assert!(role.callers.is_empty());
}

// IN-00
#[test]
fn callers() {
    let folder = Folder::new();
    folder.refuses_in(
        ENDPOINT,
        r#"
        write another `id`: a caller has this one already
            "edge" => ¦"orders-api"
        write another `id`: gateways are known by this one
            "edge" => ¦"gateway"
        write a client identifier of printable ASCII without ":"
            "edge" => ¦"edge:1"
        `id` is missing: write a client identifier of printable ASCII without ":"
            [[token_service.callers]]⏎id = "edge" => ¦[[token_service.callers]]
        `secret` is missing: write { file = "…" } or { env = "…" }
            [[token_service.callers]]⏎id = "edge"⏎secret = { file = "admin-token" } => ¦[[token_service.callers]]⏎id = "edge"
        write { file = "…" } or { env = "…" }
            { file = "admin-token" } => ¦"a secret in the file itself, which is long enough"
            { file = "admin-token" } => ¦{ file = "admin-token", env = "ADMIN_TOKEN" }
        others than the owner may use this file: chmod 600
            { file = "admin-token" } => { file = ¦"group" }
        put a secret of at least 32 printable characters there, as `symbolon keys client` makes them
            { file = "admin-token" } => { file = ¦"short" }
        write an audience without white space, as "https://api.example.com/orders"
            "bills" => ¦"b ills"
        leave it out: it stands in this list already
            "bills" => ¦"orders"
        in square brackets, write an audience without white space, as "https://api.example.com/orders"
            ["orders", "bills"] => ¦[]
            ["orders", "bills"] => ¦"*"
        write true or false
            jwt = true => jwt = ¦"yes"
        unknown key `scopes`: the keys here are `id`, `secret`, `audiences`, `jwt`
            jwt = true => ¦scopes = ["orders:read"]
        "#,
    );
    // Which secret it has would depend on the endpoint.
    let caller = "[[token_service.callers]]\nid = \"¦reports\"\nsecret = { file = \"admin-token\" }\naudiences = [\"a\"]\n";
    let of_a_client = format!("{caller}\n[gateway]");
    folder.refuses_one(
        FULL,
        "[gateway]",
        &of_a_client.replace("\"¦", "¦\""),
        "write another `id`: a client has this one already",
    );
}

#[test]
fn what_a_broker_needs() {
    let folder = Folder::new();
    folder.refuses_in(
        ORIGIN,
        r#"
        write an http or https URL, as "http://keycloak:8080"
            "http://keycloak:8080" => ¦"keycloak:8080"
            "http://keycloak:8080" => ¦"ldap://keycloak:8080"
        write the URL without user, query and fragment
            "http://keycloak:8080" => ¦"http://admin@keycloak:8080"
        write the URL without a path: the server's paths are those of its public URLs
            "http://keycloak:8080" => ¦"http://keycloak:8080/realms/acme"
        write where the server itself is reached: clients come to this token service there
            "http://keycloak:8080" => ¦"https://id.example.com"
            "http://keycloak:8080" => ¦"https://id.example.com:443/"
        write another port here or in `listen`: the token service would ask itself
            "http://keycloak:8080" => ¦"http://127.0.0.1:4601"
            "http://keycloak:8080" => ¦"http://localhost:4601"
        write an https URL, as "https://id.example.com"
            "https://id.example.com"⏎unsplittable => ¦"id.example.com"⏎unsplittable
        write an https URL: http is for loopback hosts only
            "https://id.example.com"⏎unsplittable => ¦"http://id.example.com"⏎unsplittable
        write the URL without a path: every path there is the authorization server's
            "https://id.example.com"⏎unsplittable => ¦"https://id.example.com/realms"⏎unsplittable
        write the origin that `issuer` begins with: clients know the server under it
            "https://id.example.com"⏎unsplittable => ¦"https://login.example.com"⏎unsplittable
            "https://id.example.com"⏎unsplittable => ¦"https://id.example.com:8443"⏎unsplittable
        write "refuse" or "pass"
            "pass" => ¦"split"
        write "pass" or "drop"
            "drop" => ¦"resign"
        write true or false
            = true => = ¦"yes"
        write a duration from "1m" to "8760h", in ms, s, m or h
            "48h" => ¦"59s"
        write a `max_grant_lifetime` of at least the issuer's `max_lifetime`
            "48h" => ¦"23h"
        write a network by its first address and prefix length, as "10.0.0.0/8"
            "10.0.0.0/8" => ¦"10.0.0.1"
        `authorization_server` is missing: write where the server behind this one is reached
            [token_service]⏎mode = "origin"⏎listen = "127.0.0.1:4601"⏎issuer = "https://id.example.com/realms/acme"⏎authorization_server = "http://keycloak:8080" => ¦[token_service]⏎mode = "origin"⏎listen = "127.0.0.1:4601"⏎issuer = "https://id.example.com/realms/acme"
        "#,
    );
    folder.refuses_in(
        ENDPOINT,
        r#"
        write { token = "/token", revocation = "/revoke", userinfo = "/userinfo", introspection = "/introspect" }
            { token = "/oauth/token", revocation = "/oauth/revoke", userinfo = "/oauth/me", introspection = "/oauth/ask" } => ¦"/oauth"
        write another path: an endpoint has this one already
            "/oauth/me" => ¦"/oauth/token"
            "/oauth/ask" => ¦"/oauth/revoke"
        unknown key `metadata`: the keys here are `token`, `revocation`, `userinfo`, `introspection`
            userinfo = "/oauth/me" => ¦metadata = "/oauth/me"
        write another port here or in `listen`: the token service would ask itself
            "http://10.0.0.7" => ¦"http://127.0.0.1:4601"
        "#,
    );
    let itself = ENDPOINT
        .replace("https://login.example.net", "http://127.0.0.1:4601")
        .replace("authorization_server = \"http://10.0.0.7\"\n", "");
    let reason = "write another port here or in `listen`: the token service would ask itself";
    let line = "issuer = \"http://127.0.0.1:4601/\"\npaths";
    folder.refuses_one(&itself, line, &line.replace("\"http", "¦\"http"), reason);
}

#[test]
fn the_keys_of_one_mode_are_refused_in_the_others() {
    let folder = Folder::new();
    let keys_of = |text: &str| {
        let (_, role) = text.split_once("[token_service]\nmode = ").unwrap();
        let lines = role.lines().take_while(|line| !line.is_empty()).skip(3);
        lines.map(|line| format!("\n{line}")).collect::<Vec<_>>()
    };
    let mint = "leave it out: with mode = \"mint\" there is no server behind this one";
    for line in [keys_of(ORIGIN), keys_of(ENDPOINT)].concat() {
        let to = format!("lifetime = \"5m\"{}", line.replace(" = ", " = ¦"));
        folder.refuses_one(FULL, "lifetime = \"5m\"", &to, mint);
    }
    let lifetime = "leave it out: the authorization server says how long its tokens live";
    let clients = "leave it out: the authorization server knows its clients";
    let origin = "leave it out: it is for mode = \"origin\"";
    let endpoint = "leave it out: with mode = \"origin\" every path is the authorization server's own";
    for (text, line, reason) in [
        (ORIGIN, "lifetime = ¦\"5m\"", lifetime),
        (ENDPOINT, "lifetime = ¦\"5m\"", lifetime),
        (ORIGIN, "clients = ¦[]", clients),
        (ENDPOINT, "clients = ¦[]", clients),
        (ENDPOINT, "public_url = ¦\"https://login.example.net\"", origin),
        (ORIGIN, "paths = ¦{ token = \"/token\" }", endpoint),
    ] {
        folder.refuses_one(
            text,
            "[token_service]",
            &format!("[token_service]\n{line}"),
            reason,
        );
    }
}

#[test]
fn an_issuer_overrides_single_settings_of_its_profile() {
    let folder = Folder::new();
    let with = |setting: &str| {
        let text = ORIGIN.replace("tokens =", &format!("{setting}\ntokens ="));
        folder.parse(&text).unwrap().issuers.remove(0).profile
    };
    let names = |names: &[&str]| Names::Written(names.iter().map(|&name| name.to_owned()).collect());
    let keycloak = || Profile::KEYCLOAK;
    for (setting, profile) in [
        ("", keycloak()),
        (
            "typ = [\"JWT\"]",
            Profile {
                typ: vec![Typ::Jwt].into(),
                ..keycloak()
            },
        ),
        (
            "jwt_claim = {}",
            Profile {
                jwt_claim: None,
                ..keycloak()
            },
        ),
        (
            "jwt_claim = { name = \"use\", value = \"access token\" }",
            Profile {
                jwt_claim: Some(("use".into(), "access token".into())),
                ..keycloak()
            },
        ),
        (
            "client_claims = [\"azp\"]",
            Profile {
                client_claims: names(&["azp"]),
                ..keycloak()
            },
        ),
        (
            "scope_claims = [\"scp\"]",
            Profile {
                scope_claims: names(&["scp"]),
                ..keycloak()
            },
        ),
        (
            "jti_claims = [\"uti\"]",
            Profile {
                jti_claims: names(&["uti"]),
                ..keycloak()
            },
        ),
        (
            "required = []",
            Profile {
                required: vec![].into(),
                ..keycloak()
            },
        ),
        (
            "at_hash = false",
            Profile {
                at_hash: false,
                ..keycloak()
            },
        ),
        // The claim that is asked of a JWT stays where there is none to ask it of.
        (
            "typ = [\"at+jwt\"]",
            Profile {
                typ: vec![Typ::AtJwt].into(),
                ..keycloak()
            },
        ),
    ] {
        assert_eq!(with(setting), profile, "{setting}");
    }
}

#[test]
fn overridden_settings_say_something_that_can_be() {
    let folder = Folder::new();
    folder.refuses(
        r#"
        in square brackets, write "at+jwt" or "JWT"
            ["JWT", "at+jwt"] => ¦"JWT"
            ["JWT", "at+jwt"] => ¦[]
        write "at+jwt" or "JWT"
            ["JWT", "at+jwt"] => [¦"logout+jwt", "JWT"]
            ["JWT", "at+jwt"] => [¦"jwt", "JWT"]
        leave it out: it stands in this list already
            ["JWT", "at+jwt"] => ["JWT", ¦"JWT"]
        leave it out, or write "JWT" in `typ`: it is asked of nothing else
            typ = ["JWT", "at+jwt"]⏎jwt_claim = { => typ = ["at+jwt"]⏎jwt_claim = ¦{
        write { name = "typ", value = "Bearer" }, or {} for none
            { name = "token_use", value = "access" } => ¦"token_use"
        `value` is missing: write the claim's value, as "Bearer"
            { name = "token_use", value = "access" } => ¦{ name = "token_use" }
        `name` is missing: write the name of a claim, as "azp"; not one of iss, sub, aud, exp, nbf, iat
            { name = "token_use", value = "access" } => ¦{ value = "access" }
        write the claim's value, as "Bearer"
            value = "access" => value = ¦""
            value = "access" => value = ¦true
        unknown key `values`: did you mean `value`?
            { name = "token_use", value = "access" } => { ¦values = "x" }
        write the name of a claim, as "azp"; not one of iss, sub, aud, exp, nbf, iat
            "cid" => ¦"sub"
            "cid" => ¦"a claim"
            "cid" => ¦1
            "uti" => ¦"exp"
            "scope"] => ¦"aud"]
        in square brackets, write the name of a claim, as "azp"; not one of iss, sub, aud, exp, nbf, iat
            ["cid"] => ¦"cid"
            ["cid"] => ¦[]
            ["uti"] => ¦[]
            ["scp", "scope"] => ¦[]
        write "aud", "sub", "client" or "jti"
            ["sub", "jti"] => [¦"client_id", "jti"]
            ["sub", "jti"] => [¦"exp", "jti"]
        write "jti" here too, or tokens = "salted": without one, two tokens may be the same
            ["sub", "jti"] => ¦["sub"]
            ["sub", "jti"] => ¦[]
        write true or false
            at_hash = true => at_hash = ¦"true"
        "#,
    );
    for setting in [
        "typ = [\"JWT\"]",
        "jwt_claim = {}",
        "client_claims = [\"azp\"]",
        "scope_claims = [\"scp\"]",
        "jti_claims = [\"uti\"]",
        "required = []",
        "at_hash = true",
    ] {
        let (key, value) = setting.split_once(" = ").unwrap();
        let to = format!("{key} = ¦{value}\ntokens = \"salted\"");
        let reason = "leave it out: the token service mints for this issuer, by RFC 9068";
        folder.refuses_one(MINIMAL, "tokens = \"salted\"", &to, reason);
    }
}

#[test]
fn where_id_tokens_have_an_at_hash_it_is_said_what_becomes_of_them() {
    let folder = Folder::new();
    let missing = |text: &str| folder.reasons(text);
    let silent = ENDPOINT.replace("tokens =", "at_hash = true\ntokens =");
    assert_eq!(missing(&silent), [issuers::ID_TOKEN_MISSING]);
    assert!(
        folder
            .parse(&silent.replace("mode", "id_token = \"pass\"\nmode"))
            .is_ok()
    );
    let keycloak = ORIGIN.replace("id_token = \"drop\"\n", "");
    assert_eq!(missing(&keycloak), [issuers::ID_TOKEN_MISSING]);
    assert!(
        folder
            .parse(&keycloak.replace("tokens =", "at_hash = false\ntokens ="))
            .is_ok()
    );
}

#[test]
fn keys_that_come_in_clear_are_told_of() {
    let folder = Folder::new();
    for (url, told) in [
        ("http://keys.example.com/jwks", true),
        ("https://keys.example.com/jwks", false),
        ("http://127.0.0.1:8080/jwks", false),
    ] {
        let text = FULL.replace("{ file = \"jwks.json\" }", &format!("{{ url = \"{url}\" }}"));
        let advice = folder.parse(&text).unwrap().advice();
        let said = format!("keys of https://login.example.net/realms/acme/ come from {url} in clear");
        assert_eq!(
            advice.iter().any(|advice| advice.starts_with(&said)),
            told,
            "{url}"
        );
    }
}

#[test]
fn what_is_laxer_than_the_profile_is_said_and_nothing_else() {
    let folder = Folder::new();
    let laxer = |text: &str, settings: &str| {
        let text = text.replace("tokens =", &format!("{settings}\ntokens ="));
        let advice = folder.parse(&text).unwrap().advice();
        advice
            .iter()
            .filter_map(|said| said.split_once(": laxer than the profile "))
            .map(|(_, said)| said.to_owned())
            .collect::<Vec<_>>()
    };
    for (text, settings, said) in [
        (
            ENDPOINT,
            "typ = [\"at+jwt\", \"JWT\"]",
            "rfc9068: a JWT of type JWT is an access token whatever",
        ),
        (
            ORIGIN,
            "jwt_claim = {}",
            "keycloak: a JWT of type JWT is an access token whatever",
        ),
        (
            ORIGIN,
            "jwt_claim = { name = \"use\", value = \"at\" }",
            "keycloak: a JWT of type JWT is an access token by its claim use = \"at\" alone",
        ),
        (
            ENDPOINT,
            "client_claims = [\"client_id\", \"cid\"]",
            "rfc9068: the claim cid is believed to hold the client",
        ),
        (
            ENDPOINT,
            "scope_claims = [\"scp\"]",
            "rfc9068: the claim scp is believed to hold the scopes",
        ),
        (
            ENDPOINT,
            "jti_claims = [\"uti\"]",
            "rfc9068: the claim uti is believed to hold the jti",
        ),
        (
            ORIGIN,
            "required = [\"sub\", \"client\", \"jti\"]",
            "keycloak: a token without `aud`",
        ),
        (
            ORIGIN,
            "required = [\"aud\", \"client\", \"jti\"]",
            "keycloak: a token may have no `sub`",
        ),
        (
            ORIGIN,
            "required = [\"aud\", \"sub\", \"jti\"]",
            "keycloak: a token may name no client",
        ),
        (
            ORIGIN,
            "required = [\"aud\", \"sub\", \"client\"]",
            "keycloak: a token may have no `jti`",
        ),
        (
            ORIGIN,
            "at_hash = false",
            "keycloak: ID tokens pass without a word",
        ),
    ] {
        let found = laxer(text, settings);
        assert_eq!(found.len(), 1, "{settings}: {found:?}");
        assert!(found[0].starts_with(said), "{settings}: {found:?}");
    }
    for stricter in [
        "",
        "typ = [\"at+jwt\"]",
        "typ = [\"JWT\"]",
        "client_claims = [\"azp\"]",
        "required = [\"jti\", \"client\", \"sub\", \"aud\"]",
        "at_hash = true",
    ] {
        assert_eq!(laxer(ORIGIN, stricter), [""; 0], "{stricter}");
    }
}

#[test]
fn before_a_keycloak_it_is_said_what_becomes_of_id_tokens() {
    let folder = Folder::new();
    let silent = ORIGIN.replace("id_token = \"drop\"\n", "");
    let reason = issuers::ID_TOKEN_MISSING;
    folder.refuses_one(&silent, "[token_service]", "¦[token_service]", reason);
    let passing = ORIGIN.replace("\"drop\"", "\"pass\"");
    assert_eq!(broker(folder.parse(&passing).unwrap()).id_token, IdToken::Pass);
    let other = silent.replace("keycloak\"\nalg", "rfc9068\"\nalg");
    assert_eq!(broker(folder.parse(&other).unwrap()).id_token, IdToken::Pass);
}

#[test]
fn minted_tokens_live_no_longer_than_their_issuer_allows() {
    let within = "write a `lifetime` within the issuer's `max_lifetime`";
    let short = FULL.replace("max_lifetime = \"1h\"", "max_lifetime = \"299s\"");
    Folder::new().refuses_one(&short, "\"5m\"", "¦\"5m\"", within);
    let by_default = MINIMAL.replace("tokens", "max_lifetime = \"9m\"\ntokens");
    Folder::new().refuses_one(&by_default, "[token_service]", "¦[token_service]", within);
}

#[test]
fn gateway() {
    Folder::new().refuses(
        r#"
        write an IP address and a port, as "127.0.0.1:4600"
            "0.0.0.0:4600" => ¦"*:4600"
        write printable ASCII without " and \
            "acme's API" => ¦"\"api\""
            "acme's API" => ¦"a\\b"
            "acme's API" => ¦"a\tb"
            "acme's API" => ¦"é"
            "acme's API" => ¦""
        in square brackets, write a network by its first address and prefix length, as "10.0.0.0/8"
            ["10.0.0.0/8", "::1/128"] => ¦"10.0.0.0/8"
        write a network by its first address and prefix length, as "10.0.0.0/8"
            "10.0.0.0/8" => ¦"10.0.0.0"
            "10.0.0.0/8" => ¦"10.0.0.1/8"
            "10.0.0.0/8" => ¦"10.0.0.0/33"
        write the IPv4 network, as "10.0.0.0/8"
            "10.0.0.0/8" => ¦"::ffff:10.0.0.0/104"
        write a field name, as "x-tenant"
            "X-Tenant" => ¦"x tenant"
            "X-Tenant" => ¦"x-tenant:"
            "X-Tenant" => ¦""
            "X-Tenant" => ¦1
        leave it out: it stands in this list already
            "X-Tenant" => "X-Tenant", ¦"x-tenant"
        write a number from 1 to 1000000
            = 500 => = ¦0
            = 500 => = ¦-1
            = 500 => = ¦"500"
        write a duration from "100ms" to "60s", in ms, s, m or h
            "500ms" => ¦"99ms"
            "500ms" => ¦"61s"
        write a duration from "0s" to "1h", in ms, s, m or h
            "0s" => ¦"61m"
            "0s" => ¦0
        "#,
    );
}

#[test]
fn routes() {
    Folder::new().refuses(
        r#"
        write one host in lower case without port, as "api.example.com"
            "api.example.com" => ¦"API.example.com"
            "api.example.com" => ¦"api.example.com:443"
            "api.example.com" => ¦"*.example.com"
            "api.example.com" => ¦"api.example.com/"
            "api.example.com" => ¦"münchen.example"
            "api.example.com" => ¦"api.example.com."
            "api.example.com" => ¦"127.1"
            "api.example.com" => ¦""
        write an http or https URL, as "http://orders:3000"
            "http://[::1]:3000" => ¦"orders:3000"
            "http://[::1]:3000" => ¦"unix:/run/orders"
            "http://[::1]:3000" => ¦"http://"
        write the URL without user, query and fragment
            "http://[::1]:3000" => ¦"http://user:password@orders"
            "http://[::1]:3000" => ¦"http://orders?"
            "http://[::1]:3000" => ¦"http://orders#"
        write the path in the route, and the URL without one
            "http://[::1]:3000" => ¦"http://orders/v1"
        name a file that can be read, as seen from the folder of this one: No such file or directory (os error 2)
            "ca.pem" => ¦"gone.pem"
        name a PEM file with at least one certificate
            "ca.pem" => ¦"jwks.json"
        write a number from 256 to 131072
            = 16000 => = ¦255
            = 16000 => = ¦131073
        write a duration from "10ms" to "1h", in ms, s, m or h
            "10s" => ¦"9ms"
        write one exact origin, as "https://app.example.com"
            "http://localhost:5173" => ¦"*"
            "http://localhost:5173" => ¦"null"
            "http://localhost:5173" => ¦"app.example.com"
            "http://localhost:5173" => ¦"https://*.example.com"
            "http://localhost:5173" => ¦"https://app.example.com/"
            "http://localhost:5173" => ¦"https://app.example.com:443"
        "#,
    );
}

#[test]
fn paths_of_routes_have_one_spelling() {
    Folder::new().refuses(
        r#"
        write a path that starts with "/" and does not end with it, of letters, digits and -._~!$&'()+,=:@, without empty segments and dots at the end of one
            "/orders" => ¦""
            "/orders" => ¦"orders"
            "/orders" => ¦"//"
            "/orders" => ¦"/orders/"
            "/orders" => ¦"/a//b"
            "/orders" => ¦"/."
            "/orders" => ¦"/a/../b"
            "/orders" => ¦"/a/."
            "/orders" => ¦"/a./b"
            "/orders" => ¦"/%6frders"
            "/orders" => ¦"/a;b"
            "/orders" => ¦"/a?b"
            "/orders" => ¦"/a#b"
            "/orders" => ¦"/a b"
            "/orders" => ¦"/a\\b"
            "/orders" => ¦"/é"
            "/orders" => ¦"/orders/*"
            "/orders" => ¦"https://orders/a"
        "#,
    );
    for path in [
        "/a/b/c",
        "/v1.2/~me/a:b@c,d=e",
        "/..a/B..c",
        "/.well-known/orders",
    ] {
        let text = FULL.replace("\"/orders\"", &format!("\"{path}\""));
        assert_eq!(
            Folder::new().parse(&text).unwrap().gateway.unwrap().routes[0].path,
            path
        );
    }
}

#[test]
fn a_route_is_one_host_and_path() {
    let folder = Folder::new();
    let reason = "write another path: a route has this `host` and `path` already, but perhaps for case";
    let without_host = FULL.replace("host = \"api.example.com\"\n", "");
    folder.refuses_one(&without_host, "path = \"/\"", "path = ¦\"/orders\"", reason);
    folder.refuses_one(&without_host, "path = \"/\"", "path = ¦\"/Orders\"", reason);
    let with_host = FULL.replace("path = \"/\"", "path = \"/orders\"");
    assert_eq!(
        folder.parse(&with_host).unwrap().gateway.unwrap().routes[1].path,
        "/orders"
    );
}

#[test]
fn certificates_are_for_https() {
    let http = FULL.replace("https://orders", "http://orders");
    let reason = "leave it out, or write an https `resource_server`";
    Folder::new().refuses_one(&http, "\"ca.pem\"", "¦\"ca.pem\"", reason);
}

#[test]
fn an_audience_may_be_left_out_where_no_jwt_holds_an_opaque_token() {
    let salted = FULL.replace("\"signature\"", "\"salted\"");
    let text = salted.replace("audience = \"https://api.example.com/bills\"\n", "");
    let gateway = Folder::new().parse(&text).unwrap().gateway.unwrap();
    assert_eq!(gateway.routes[1].audience, None);
}

#[test]
fn on_a_shared_listener_no_route_meets_the_token_service() {
    let folder = Folder::new();
    let shared = FULL.replace("127.0.0.1:4601", "0.0.0.0:4600");
    let with_path = shared.replace("https://id.example.com", "https://id.example.com/realms/acme");
    for (text, path, endpoint) in [
        (&shared, "/token", "token endpoint"),
        (&shared, "/introspect", "introspection endpoint"),
        (&shared, "/jwks/old", "JWK Set"),
        (&shared, "/.well-known", "metadata"),
        (&with_path, "/realms", "token endpoint"),
        (&with_path, "/realms/acme/revoke", "revocation endpoint"),
        (&with_path, "/.well-known/oauth-authorization-server", "metadata"),
    ] {
        let to = format!("¦\"{path}\"");
        let reason = format!("write another path or `listen`: this one meets the token service's {endpoint}");
        folder.refuses_one(text, "\"/orders\"", &to, &reason);
        let apart = text.replacen("0.0.0.0:4600", "127.0.0.1:4601", 1);
        assert!(
            folder
                .parse(&apart.replace("\"/orders\"", &format!("\"{path}\"")))
                .is_ok(),
            "{path}"
        );
    }
    for path in ["/orders", "/tokens", "/realms/acme/other", "/.well-known/other"] {
        let text = with_path.replace("\"/orders\"", &format!("\"{path}\""));
        assert!(folder.parse(&text).is_ok(), "{path}");
    }
    let broker = format!(
        "{}\n[[gateway.routes]]\npath = \"/orders\"\nresource_server = \"http://orders\"",
        ENDPOINT.replace("4601", "4600")
    );
    for (path, endpoint) in [
        ("/oauth", "token endpoint"),
        ("/oauth/revoke", "revocation endpoint"),
        ("/oauth/me/pictures", "userinfo endpoint"),
        ("/oauth/ask", "introspection endpoint"),
    ] {
        let reason = format!("write another path or `listen`: this one meets the token service's {endpoint}");
        folder.refuses_one(&broker, "\"/orders\"", &format!("¦\"{path}\""), &reason);
    }
    assert!(folder.parse(&broker.replace("\"/orders\"", "\"/\"")).is_ok());
}

#[test]
fn before_a_server_at_its_origin_routes_win_and_leave_it_something() {
    let folder = Folder::new();
    let shared = ORIGIN.replace("4601", "4600");
    for path in ["/orders", "/realms/acme/orders", "/realm"] {
        let text = shared.replace("\"/orders\"", &format!("\"{path}\""));
        assert!(folder.parse(&text).is_ok(), "{path}");
    }
    let reason =
        "write a `host`, another path or `listen`: this one takes the paths of the authorization server";
    for path in ["/", "/realms", "/realms/acme"] {
        folder.refuses_one(&shared, "\"/orders\"", &format!("¦\"{path}\""), reason);
        let apart = shared.replace(
            "path = \"/orders\"",
            &format!("host = \"api.example.com\"\npath = \"{path}\""),
        );
        assert!(folder.parse(&apart).is_ok(), "{path}");
        let same = apart.replace("api.example.com", "id.example.com");
        assert_eq!(folder.reasons(&same), [reason]);
    }
}

#[test]
fn listeners_do_not_take_ports_from_each_other() {
    let folder = Folder::new();
    folder.refuses(
        r#"
        write the token service's address to share its listener, or another port
            "0.0.0.0:4600" => ¦"0.0.0.0:4601"
            "0.0.0.0:4600" => ¦"[::]:4601"
        write another port: one of the roles listens there
            "[::1]:4609" => ¦"127.0.0.1:4601"
            "[::1]:4609" => ¦"127.0.0.1:4600"
        "#,
    );
    let everywhere = FULL.replace("0.0.0.0:4600", "[::]:4609");
    let reason = "write another port: one of the roles listens there";
    folder.refuses_one(&everywhere, "\"[::1]:4609\"", "¦\"[::1]:4609\"", reason);
    let any_port = FULL
        .replace("0.0.0.0:4600", "[::1]:0")
        .replace("[::1]:4609", "[::1]:0");
    assert!(folder.parse(&any_port).is_ok());
    for free in ["[::1]:4601", "10.0.0.1:4601", "0.0.0.0:4609"] {
        assert!(
            folder.parse(&FULL.replace("0.0.0.0:4600", free)).is_ok(),
            "{free}"
        );
    }
}

// OP-04
#[test]
fn operators_are_on_this_machine_and_have_a_token() {
    let folder = Folder::new();
    folder.refuses(
        r#"
        write a loopback address, as "127.0.0.1:4609"
            "[::1]:4609" => ¦"0.0.0.0:4609"
            "[::1]:4609" => ¦"[::]:4609"
            "[::1]:4609" => ¦"10.0.0.1:4609"
        write { file = "…" } or { env = "…" }
            { file = "admin-token" } => ¦{}
        set this environment variable: it is not there, or not text
            { file = "admin-token" } => { env = ¦"UNSET" }
        others than the owner may use this file: chmod 600
            { file = "admin-token" } => { file = ¦"group" }
        put a token of at least 32 letters, digits and -._~+/ there
            { file = "admin-token" } => { file = ¦"short" }
            { file = "admin-token" } => { file = ¦"odd" }
            { file = "admin-token" } => { file = ¦"padding" }
            { file = "admin-token" } => { env = ¦"BAD_TOKEN" }
        "#,
    );
    let token = |text: &str| folder.parse(text).unwrap().admin.unwrap().token;
    let variable = FULL.replace(r#"file = "admin-token""#, r#"env = "ADMIN_TOKEN""#);
    assert!(token(&variable).unwrap().0.ends_with("=="));
    assert!(token(&FULL.replace("token = { file = \"admin-token\" }\n", "")).is_none());
}

// OP-01
#[test]
fn no_reason_quotes_what_was_written() {
    let folder = Folder::new();
    for file in [FULL, ORIGIN, ENDPOINT] {
        let quotes: Vec<_> = file.match_indices('"').map(|(at, _)| at).collect();
        for quotes in quotes.chunks(2) {
            for canary in [
                "7.CANARY",
                "\"7.CANARY\"",
                "\"CANARY CANARY CANARY CANARY CANARY\"",
                "{ file = \"CANARY\" }",
            ] {
                let text = format!("{}{canary}{}", &file[..quotes[0]], &file[quotes[1] + 1..]);
                if let Err(mistakes) = folder.parse(&text) {
                    let told = format!("{mistakes} {mistakes:?}");
                    assert!(!told.contains("CANARY"), "{mistakes}");
                }
            }
        }
    }
}

// OP-01
#[test]
fn debug_prints_no_secret() {
    let config = format!("{:?}", Folder::new().parse(FULL).unwrap());
    for secret in [&SECRET[2..], &NEXT_SECRET[2..], ADMIN_TOKEN] {
        assert!(!config.contains(secret), "{config}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,200}") {
        check_any(&text);
    }

    #[test]
    fn any_text_of_our_words_is_read_or_refused(words in proptest::collection::vec(word(), 0..60)) {
        check_any(&words.concat());
    }

    #[test]
    fn any_change_of_a_file_is_read_or_refused(
        text in proptest::sample::select(vec![FULL, ORIGIN, ENDPOINT]),
        cut in any::<proptest::sample::Index>(),
        length in 0..40_usize,
        word in word(),
    ) {
        let cut = cut.index(text.len());
        let end = (cut + length).min(text.len());
        check_any(&format!("{}{word}{}", &text[..cut], &text[end..]));
    }
}

/// Whatever is read has the roles that are written; whatever is refused has a place for each mistake.
fn check_any(text: &str) {
    match Config::parse(text, "no-such-folder/symbolon.toml", &environment) {
        Ok(config) => {
            let root = toml_span::parse(text).unwrap();
            assert_eq!(root.has_key("gateway"), config.gateway.is_some());
            assert_eq!(root.has_key("token_service"), config.token_service.is_some());
            assert_eq!(root.has_key("admin"), config.admin.is_some());
            assert_eq!(root.has_key("secret"), config.secrets.is_some());
        }
        Err(mistakes) => {
            let mistakes = mistakes.to_string();
            let (each, count) = mistakes.rsplit_once('\n').unwrap();
            let places = each
                .lines()
                .filter(|line| line.starts_with("no-such-folder/symbolon.toml:"))
                .count();
            assert_eq!(count.split(' ').next().unwrap(), places.to_string(), "{mistakes}");
            assert!(places > 0 && each.lines().count() == places, "{mistakes}");
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    let words: Vec<_> = FULL
        .split_inclusive(|character: char| !character.is_ascii_alphanumeric())
        .collect();
    let lines: Vec<_> = [FULL, ORIGIN, ENDPOINT]
        .iter()
        .flat_map(|text| text.split_inclusive('\n'))
        .collect();
    prop_oneof![
        proptest::sample::select(words).prop_map(str::to_owned),
        proptest::sample::select(lines).prop_map(str::to_owned),
        "[\\[\\]{}=.,\"'\n #\\\\a-z0-9_é-]{1,3}",
    ]
}

// Issue 6
#[test]
fn phantom_tokens_and_whom_the_gateway_asks() {
    use crate::introspect::{Budget, Caller};

    let config = Folder::new().parse(PHANTOM).unwrap();
    let [_, sso, other] = &config.issuers[..] else {
        panic!("three issuers")
    };
    let asked = sso.introspection.as_ref().unwrap();
    assert_eq!(sso.tokens, TokenKind::Phantom);
    assert_eq!(
        asked.endpoint.as_ref().unwrap().as_str(),
        "http://sso:8080/introspect"
    );
    assert_eq!(asked.max_age, Duration::from_secs(10));
    let budget = |in_flight, per_second, millis| Budget {
        in_flight,
        per_second,
        timeout: Duration::from_millis(millis),
    };
    assert_eq!(asked.budget, budget(20, 50, 800));
    let Caller::Client { id, secret } = &asked.caller else {
        panic!("a client")
    };
    assert_eq!((id.as_str(), secret.0.as_str()), ("gw", ADMIN_TOKEN));
    assert!(!format!("{config:?}").contains(ADMIN_TOKEN));

    let asked = other.introspection.as_ref().unwrap();
    assert!(asked.endpoint.is_none() && matches!(asked.caller, Caller::Gateway));
    assert_eq!(
        (asked.max_age, asked.budget),
        (Duration::from_secs(30), Budget::DEFAULT)
    );

    let gateway = config.gateway.unwrap();
    let fallback = gateway.fallback.unwrap();
    assert_eq!(fallback.endpoint.as_str(), "https://id.example.com/introspect");
    assert_eq!(fallback.budget, budget(30, 90, 700));
    assert_eq!(
        gateway.routes[0].issuers,
        ["https://id.example.com", "https://sso.example.org"]
    );
}

#[test]
fn mistakes_about_phantom_tokens() {
    let folder = Folder::new();
    folder.refuses_in(
        PHANTOM,
        r#"
        write `client_id` and `client_secret`, or neither to ask a token service of this deployment
            client_id = "gw",  => client_id = ¦"gw" } #
            client_id = "gw", client_secret = { file => client_secret = ¦{ file
        put the client's secret there
            { file = "admin-token" } => { env = ¦"EMPTY" }
        write an http or https URL, as "https://id.example.com/introspect"
            "http://sso:8080/introspect" => ¦"sso:8080"
        write the URL without user and fragment
            "http://sso:8080/introspect" => ¦"http://a:b@sso:8080"
        write a duration from "1s" to "30s", in ms, s, m or h
            "10s" => ¦"31s"
            "10s" => ¦"500ms"
        write a number from 1 to 10000
            in_flight = 20 => in_flight = ¦0
        write the `issuer` of one of the [[issuers]]
            ["https://id.example.com", => [¦"https://id.example.org",
        write `issuers` with one of tokens = "phantom" at most: a route asks one authorization server
            ["https://id.example.com", => ¦["https://other.example.org",
        in square brackets, write an https URL, as "https://id.example.com"
            issuers = [ => issuers = ¦[] #
        leave it out: it is for tokens = "phantom"
            algorithms = ["ES256"] => algorithms = ["ES256"]⏎introspection = ¦{}
        "#,
    );
    let of_all = PHANTOM.replace("issuers = [\"", "# [\"");
    let [reason] = &folder.reasons(&of_all)[..] else {
        panic!("one reason")
    };
    assert!(reason.starts_with("write `issuers` with one"), "{reason}");
    let phantom_alone = PHANTOM.replace("tokens = \"salted\"", "tokens = \"phantom\"\nintrospection = {}");
    let reasons = folder.reasons(&phantom_alone);
    assert_eq!(reasons[0], "leave it out: no issuer's tokens are in a store");
    let lacking = PHANTOM.replace("introspection = {}\n", "");
    let [reason] = &folder.reasons(&lacking)[..] else {
        panic!("one reason")
    };
    assert!(reason.starts_with("`introspection` is missing"), "{reason}");
    let split = ORIGIN.replace("\"salted\"", "\"phantom\"\nintrospection = {}");
    let [reason] = &folder.reasons(&split)[..] else {
        panic!("one reason")
    };
    assert!(
        reason.starts_with("write \"salted\" or \"signature\""),
        "{reason}"
    );
}

/// A gateway that asks other servers about all its tokens shares nothing with another process.
#[test]
fn a_gateway_of_phantom_tokens_alone_needs_no_store_and_no_secret() {
    let text = r#"
[[issuers]]
issuer = "https://sso.example.org"
algorithms = ["ES256"]
tokens = "phantom"
introspection = { client_id = "gw", client_secret = { file = "admin-token" } }

[gateway]
listen = "127.0.0.1:4600"
"#;
    let folder = Folder::new();
    let config = folder.parse(text).unwrap();
    assert!(config.secrets.is_none() && matches!(config.store, store::Config::Memory { .. }));
    // As a gateway of a token service it has to know that one's secret.
    let of_ours = text.replace(
        "{ client_id = \"gw\", client_secret = { file = \"admin-token\" } }",
        "{}",
    );
    let [reason] = &folder.reasons(&of_ours)[..] else {
        panic!("one reason")
    };
    assert!(reason.starts_with("write `secret`"), "{reason}");
    let config = folder.parse(&format!("secret = {{ file = \"secret\" }}\n{of_ours}"));
    assert!(matches!(config.unwrap().store, store::Config::Memory { .. }));
}

#[test]
fn what_is_worth_a_thought_about_phantom_tokens() {
    let folder = Folder::new();
    let advice = folder
        .parse(&PHANTOM.replace(
            "https://id.example.com/introspect",
            "http://id.example.com/introspect",
        ))
        .unwrap()
        .advice();
    for said in [
        "tokens of https://sso.example.org and the gateway's secret go to http://sso:8080/introspect in clear: that link \
         must be private",
        "tokens and the gateways' secret go to http://id.example.com/introspect in clear: that link must be private",
    ] {
        assert!(advice.iter().any(|line| line == said), "{said}\n{advice:?}");
    }
    let alone = r#"
[[issuers]]
issuer = "https://sso.example.org"
algorithms = ["ES256"]
tokens = "phantom"
introspection = { client_id = "gw", client_secret = { file = "admin-token" } }

[gateway]
listen = "127.0.0.1:4600"
"#;
    let advice = folder.parse(alone).unwrap().advice();
    let said = "the store is in memory: a restart forgets what operators revoked";
    assert!(advice.iter().any(|line| line == said), "{advice:?}");
}
