//! `symbolon init`: the files of a common set-up, to start from.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::Value;
use symbolon::config::Config;
use symbolon::private_file;
use symbolon_core::{Algorithm, Profile, Secret, base64url, random, sha256};
use zeroize::Zeroizing;

use super::{Outcome, a_profile, show};

#[derive(Args)]
pub(super) struct Arguments {
    /// Where tokens come from: a server that is there already, whose token endpoint is another path here (endpoint) or
    /// whose public origin this is to be (origin), or this token service itself (mint)
    #[arg(long, value_enum, default_value = "endpoint")]
    mode: Mode,
    /// How the server's access tokens look: rfc9068 or keycloak
    #[arg(long, value_name = "NAME", default_value = "rfc9068", value_parser = a_profile)]
    profile: Profile,
    /// The issuer identifier, as it stands in `iss`
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// Where the server is reached, if not under its own name
    #[arg(long, value_name = "URL", required_if_eq("mode", "origin"))]
    authorization_server: Option<String>,
    /// What tokens are signed with [default: RS256; with mode mint ES256]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = algorithm)]
    algorithms: Vec<Algorithm>,
    /// An API: its path, or a name that is its path and audience, and its URL
    #[arg(long = "api", value_name = "NAME=URL", required = true, value_parser = api)]
    apis: Vec<Api>,
    /// The folder for the files
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Endpoint,
    Origin,
    Mint,
}

#[derive(Clone)]
struct Api {
    path: String,
    audience: String,
    url: String,
}

/// The secrets of a set-up.
struct Secrets {
    deployment: Secret,
    operator: Zeroizing<String>,
    client: Zeroizing<String>,
}

/// The store to start with: on disk, in a build that has one there.
const STORE: &str = if cfg!(feature = "disk") {
    "kind = \"disk\" ¦ for one process; \"memory\": what it holds is gone with it"
} else {
    "kind = \"memory\" ¦ for one process; what it holds is gone with it"
};
/// Who may introspect, for those who want it.
const CALLERS: &str = r#"
# [[token_service.callers]]           # an API that asks what a token says, at the introspection endpoint
# id = "orders-api"
# secret = { file = "orders-api-secret" }
# audiences = ["orders"]              # it hears of tokens that are for it

"#;
const FILE: &str = "symbolon.toml";
const SECRET: &str = "secret";
const ADMIN_TOKEN: &str = "admin-token";
const CLIENT_SECRET: &str = "client-secret";

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let secrets = Secrets {
        deployment: Secret::generate(NonZeroU8::MIN),
        operator: Zeroizing::new(base64url::encode(&random::<32>())),
        client: Zeroizing::new(base64url::encode(&random::<32>())),
    };
    let text = arguments.text(&secrets);
    check(&text, &secrets)?;

    let mut files = vec![
        (SECRET, secrets.deployment.expose()),
        (ADMIN_TOKEN, secrets.operator),
    ];
    if arguments.mode == Mode::Mint {
        files.push((CLIENT_SECRET, secrets.client));
    }
    let at = |name: &str| arguments.out.join(name);
    let names = || [FILE].into_iter().chain(files.iter().map(|(name, _)| *name));
    if let Some(there) = names().map(at).find(|path| path.symlink_metadata().is_ok()) {
        return Err(format!("{} is there already, and nothing was written", there.display()).into());
    }
    for (name, content) in &files {
        private_file::write(&at(name), content.as_bytes())
            .map_err(|error| format!("{}: {error}", at(name).display()))?;
    }
    write_new(&at(FILE), &text).map_err(|error| format!("{}: {error}", at(FILE).display()))?;
    show(&arguments.next(&names().collect::<Vec<_>>().join(", ")))?;
    Ok(())
}

/// The file is held against its reader before anything is written.
fn check(text: &str, secrets: &Secrets) -> Outcome {
    let environment = |name: &str| match name {
        SECRET => Some(secrets.deployment.expose().to_string()),
        ADMIN_TOKEN => Some(secrets.operator.to_string()),
        _ => None,
    };
    let in_environment = text.replace("{ file = ", "{ env = ");
    match Config::parse(&in_environment, FILE, &environment) {
        Ok(_) => Ok(()),
        Err(mistakes) => Err(format!("what is asked for makes no right file\n{mistakes}").into()),
    }
}

impl Arguments {
    fn text(&self, secrets: &Secrets) -> String {
        let mut text = format!(
            r#"# Written by `symbolon init`. `symbolon check --config {FILE} --live` says whether it fits.

secret = {{ file = "{SECRET}" }} ¦ what the store holds is sealed with it; `symbolon keys secret` makes one
data = "data" ¦ what must outlive the process, readable by its owner alone

[store]
{store}

[[issuers]]
issuer = {issuer}
profile = "{profile}" ¦ how its access tokens look; `symbolon check` shows each setting
algorithms = [{algorithms}] ¦ nothing else is accepted
tokens = "salted" ¦ so that a JWT at an API does not hold the client's token
max_lifetime = "24h" ¦ a longer token is neither published nor accepted

"#,
            store = STORE,
            issuer = quoted(&self.issuer),
            profile = self.profile.name,
            algorithms = self.algorithms(),
        );
        self.token_service(&mut text, secrets);
        text += r#"[gateway]
listen = "127.0.0.1:4600" ¦ HTTP/1.1 without TLS: put it behind something that ends TLS
# trusted_proxies = ["127.0.0.1/32"]  # … and name that here: its X-Forwarded-* is believed
"#;
        for Api { path, audience, url } in &self.apis {
            let (path, url, audience) = (quoted(path), quoted(url), quoted(audience));
            let _ = write!(
                text,
                r#"
[[gateway.routes]]
path = {path}
resource_server = {url}
audience = {audience} ¦ what its tokens carry in `aud`
# scopes = ["read"]                 # what they must allow, all of it
"#
            );
        }
        let _ = write!(
            text,
            r#"
[admin]
listen = "127.0.0.1:4609" ¦ loopback only
token = {{ file = "{ADMIN_TOKEN}" }} ¦ for `symbolon revoke` and `lookup`
"#
        );
        aligned(&text)
    }

    fn token_service(&self, text: &mut String, secrets: &Secrets) {
        let issuer = quoted(&self.issuer);
        let (mode, listen) = match self.mode {
            // Token endpoint and APIs have one origin.
            Mode::Endpoint => ("endpoint", "127.0.0.1:4600"),
            Mode::Origin => ("origin", "127.0.0.1:4601"),
            Mode::Mint => ("mint", "127.0.0.1:4601"),
        };
        let _ = write!(
            text,
            "[token_service]\nmode = \"{mode}\"\nlisten = \"{listen}\"\nissuer = {issuer}\n"
        );
        if self.mode == Mode::Mint {
            let audiences: Vec<_> = self.apis.iter().map(|api| quoted(&api.audience)).collect();
            let _ = write!(
                text,
                r#"lifetime = "10m"

[[token_service.clients]]
id = "app"
secret_sha256 = "{hash}" ¦ of what stands in {CLIENT_SECRET}; `symbolon keys client` makes another
audiences = [{audiences}]
# scopes = ["read"]
{CALLERS}"#,
                hash = base64url::encode(&sha256(secrets.client.as_bytes())),
                audiences = audiences.join(", "),
            );
            return;
        }
        if let Some(server) = &self.authorization_server {
            let _ = writeln!(text, "authorization_server = {}", quoted(server));
        }
        if self.mode == Mode::Endpoint {
            *text += "# paths = { token = \"/token\", revocation = \"/revoke\", userinfo = \"/userinfo\", introspection = \"/introspect\" }\n";
        }
        *text += r#"unsplittable = "refuse"             # or "pass": what is no JWT reaches the client as it is
id_token = "pass" ¦ or "drop"; its `at_hash` is of the JWT, and clients that check it refuse it
# trusted_proxies = ["127.0.0.1/32"]
"#;
        *text += CALLERS;
    }

    fn algorithms(&self) -> String {
        let default = match self.mode {
            Mode::Mint => Algorithm::Es256,
            Mode::Endpoint | Mode::Origin => Algorithm::Rs256,
        };
        let algorithms = if self.algorithms.is_empty() {
            &[default][..]
        } else {
            &self.algorithms
        };
        let names: Vec<_> = algorithms
            .iter()
            .map(|algorithm| quoted(algorithm.name()))
            .collect();
        names.join(", ")
    }

    /// What was done, and what to do.
    fn next(&self, names: &str) -> String {
        let (folder, file) = (self.out.display(), self.out.join(FILE));
        let file = file.display();
        let audiences: Vec<_> = self.apis.iter().map(|api| api.audience.as_str()).collect();
        let audiences = audiences.join(", ");
        let is_keycloak = self.profile.name == Profile::KEYCLOAK.name;
        let server = match self.mode {
            Mode::Mint => String::new(),
            _ if is_keycloak => format!(
                "Keycloak: give each client an audience mapper for the APIs that it calls ({audiences}).\n"
            ),
            _ => format!("The server's tokens must carry the APIs' audiences ({audiences}).\n"),
        };
        let origin = if is_keycloak && self.mode == Mode::Origin {
            "Keycloak: start it with --hostname=<its public URL> --proxy-headers=xforwarded.\n"
        } else {
            ""
        };
        format!(
            "written to {folder}: {names}\n{server}{origin}\
             next: symbolon check --config {file} --live\nthen: symbolon serve --config {file}\n"
        )
    }
}

/// What stands behind a `¦`, as comments in one column.
fn aligned(text: &str) -> String {
    let line = |line: &str| match line.split_once(" ¦ ") {
        Some((setting, comment)) => format!("{setting:<35} # {comment}\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A text as TOML writes it; JSON's escapes are TOML's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn api(text: &str) -> Result<Api, String> {
    let write = "write NAME=URL or /PATH=URL, as orders=http://orders:3000";
    let (name, url) = text.split_once('=').ok_or(write)?;
    let path = if name.starts_with('/') {
        name.to_owned()
    } else {
        format!("/{name}")
    };
    let audience = match path.trim_start_matches('/') {
        "" => url,
        name => name,
    };
    Ok(Api {
        audience: audience.to_owned(),
        path,
        url: url.to_owned(),
    })
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::from_name(name).ok_or_else(|| "no algorithm has that name".to_owned())
}
