//! `symbolon dev`: the whole pattern on loopback, with nothing to install and no file.
//!
//! It shows real values, tokens included: that is what it is for. Nothing of it goes into the log.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use form_urlencoded::Serializer;
use http_body_util::BodyExt as _;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use symbolon::clock::SystemClock;
use symbolon::config::Config;
use symbolon::demo::DemoApi;
use symbolon::forward::{Forwarder, RequestBody, Roots};
use symbolon::private_file;
use symbolon::process::{Endpoints, Process};
use symbolon::store::EntryStore;
use symbolon::token_service::{Client, Paths, Source, mint};
use symbolon::{admin, gateway, introspect, keys, l1, revocations, store, telemetry, token_service};
use symbolon_core::{
    Algorithm, OpaqueToken, Profile, Stored, TokenKind, UnverifiedJwt, base64url, random, sha256,
};
use url::Url;
use zeroize::Zeroizing;

use super::token::pretty;
use super::{Failure, Outcome, StopSignal, drain, show, take_all_descriptors};

mod broker;

#[derive(Args)]
pub(super) struct Arguments {
    /// Split into signature and salt, as a deployment should, rather than the signature alone
    #[arg(long)]
    salted: bool,
    /// Hand out a random token that has nothing of the JWT in it, and that the gateway asks about
    #[arg(long, conflicts_with_all = ["salted", "authorization_server"])]
    phantom: bool,
    #[command(flatten)]
    before: broker::Before,
    /// Port of the token service
    #[arg(long, value_name = "PORT", default_value_t = 4601, value_parser = a_port())]
    #[arg(conflicts_with = "authorization_server")]
    token_service: u16,
    /// Port of the gateway
    #[arg(long, value_name = "PORT", default_value_t = 4600, value_parser = a_port())]
    gateway: u16,
    /// Port of the demo API
    #[arg(long, value_name = "PORT", default_value_t = 4602, value_parser = a_port())]
    api: u16,
    /// Port of the admin listener
    #[arg(long, value_name = "PORT", default_value_t = 4609, value_parser = a_port())]
    admin: u16,
}

const CLIENT: &str = "demo";
const SCOPE: &str = "hello:read";
/// Takes the token out of the answer, in a shell.
const READ_TOKEN: &str = r#"sed 's/.*"access_token" *: *"\([^"]*\)".*/\1/'"#;

pub(super) async fn run(arguments: Arguments) -> Outcome {
    telemetry::start(telemetry::Format::Text);
    take_all_descriptors();
    // Before there is a folder to leave behind.
    let mut stop = StopSignal::listen()?;
    let data = Folder::fresh()?;
    let (process, shown) = tokio::select! {
        started = start(&arguments, &data.0) => started?,
        () = stop.received() => return Ok(()),
    };
    // If nobody reads it any more, the roles go on without having been shown.
    show(&shown)?;
    stop.received().await;
    drain(process, &mut stop).await;
    Ok(())
}

/// Starts everything, and tells what there is to see and to try.
async fn start(arguments: &Arguments, data: &Path) -> Result<(Process, String), Failure> {
    let operator = Zeroizing::new(base64url::encode(&random::<32>()));
    let operator_file = data.join("admin-token");
    private_file::write(&operator_file, operator.as_bytes())?;
    let common = Common {
        arguments,
        data,
        operator,
    };
    if let Some(server) = arguments.before.server().await? {
        let running = Running::start(common.before(&server)?, arguments, server.audience()).await?;
        return Ok((running.process, server.to_try(arguments, &operator_file)));
    }
    let client_secret = Zeroizing::new(base64url::encode(&random::<24>()));
    let settings = common.minting(&client_secret)?;
    let running = Running::start(settings, arguments, Some(audience(arguments.api))).await?;
    let pattern = show_one_token(arguments, &client_secret, &running).await?;
    let to_try = to_try(arguments, &client_secret, &operator_file);
    Ok((running.process, format!("{pattern}\n{to_try}")))
}

/// The roles and the demo API.
struct Running {
    process: Process,
    store: Arc<dyn EntryStore>,
    api: Arc<DemoApi>,
}

impl Running {
    async fn start(config: Config, arguments: &Arguments, audience: Option<String>) -> Result<Self, Failure> {
        let clock = Arc::new(SystemClock::start());
        let store = store::open(&config.store, clock.clone()).await?;
        let mut process = Process::start(config, store.clone(), clock.clone()).await?;
        let api = Arc::new(DemoApi::new(audience, process.issuers.clone(), clock));
        let endpoints = Endpoints::everywhere(api.clone().router());
        process.listen(loopback(arguments.api), endpoints, 1_000).await?;
        Ok(Self { process, store, api })
    }
}

/// What is the same with every source of JWTs.
struct Common<'a> {
    arguments: &'a Arguments,
    data: &'a Path,
    operator: Zeroizing<String>,
}

impl Common<'_> {
    /// Settings with a token service that signs, and a client of its own.
    fn minting(self, client_secret: &str) -> Result<Config, url::ParseError> {
        let listen = loopback(self.arguments.token_service);
        let issuer = format!("http://{listen}");
        let api = audience(self.arguments.api);
        let source = Source::Mint(mint::Config {
            issuer: Url::parse(&issuer)?,
            lifetime: Duration::from_secs(600),
            clients: vec![Client {
                id: CLIENT.into(),
                secret_sha256: sha256(client_secret.as_bytes()),
                audiences: vec![api.clone()],
                scopes: vec![SCOPE.into()],
            }],
        });
        let introspection = self.arguments.phantom.then(|| {
            let endpoint = format!("{issuer}{}", Paths::INTROSPECTION);
            Url::parse(&endpoint).map(|endpoint| introspect::Config {
                endpoint: Some(endpoint),
                caller: introspect::Caller::Gateway,
                max_age: introspect::MAX_AGE,
                budget: introspect::Budget::DEFAULT,
            })
        });
        let issuer = keys::Config {
            issuer,
            profile: Profile::RFC9068,
            algorithms: vec![Algorithm::Es256],
            tokens: self.arguments.kind(),
            introspection: introspection.transpose()?,
            max_lifetime: Duration::from_secs(3600),
            keys: keys::Source::Mint,
        };
        let token_service = token_service::Config {
            listen,
            source,
            callers: Vec::new(),
        };
        self.settings(issuer, token_service, Some(api), vec![SCOPE.into()])
    }

    fn settings(
        self,
        issuer: keys::Config,
        token_service: token_service::Config,
        audience: Option<String>,
        scopes: Vec<String>,
    ) -> Result<Config, url::ParseError> {
        Ok(Config {
            secrets: None,
            data: self.data.to_owned(),
            store: store::Config::Memory {
                max_bytes: 256 * 1024 * 1024,
            },
            cache: l1::Config::DEFAULT,
            revocations: revocations::Config {
                max_bytes: 64 * 1024 * 1024,
                detect: Duration::from_secs(2),
                tolerate: Duration::from_secs(30),
            },
            issuers: vec![issuer],
            token_service: Some(token_service),
            gateway: Some(gateway::Config {
                listen: loopback(self.arguments.gateway),
                realm: "demo".into(),
                trusted_proxies: Vec::new(),
                strip: Vec::new(),
                max_connections: 1_000,
                fallback: None,
                routes: vec![gateway::Route {
                    host: None,
                    path: "/".into(),
                    resource_server: Url::parse(&self::audience(self.arguments.api))?,
                    ca: None,
                    issuers: Vec::new(),
                    audience,
                    scopes,
                    max_authorization: 8_000,
                    timeout: Duration::from_secs(10),
                    cors_origins: Vec::new(),
                }],
            }),
            admin: Some(admin::Config {
                listen: loopback(self.arguments.admin),
                token: Some(admin::Token(self.operator)),
            }),
            log: telemetry::Format::Text,
        })
    }
}

impl Arguments {
    fn kind(&self) -> TokenKind {
        match (self.salted, self.phantom) {
            (true, _) => TokenKind::Salted,
            (_, true) => TokenKind::Phantom,
            _ => TokenKind::Signature,
        }
    }
}

/// Runs the flow once, as a client would, and tells what was where.
async fn show_one_token(
    arguments: &Arguments,
    client_secret: &str,
    running: &Running,
) -> Result<String, Failure> {
    let http = Forwarder::new(&Roots::None)?;
    let form = Serializer::new(String::new())
        .extend_pairs([
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("client_secret", client_secret),
        ])
        .finish();
    let issue = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{}/token", loopback(arguments.token_service)))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(RequestBody::full(form.into()))?;
    let answer = send(&http, issue).await?;
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    let token: OpaqueToken = answer["access_token"]
        .as_str()
        .ok_or("no access_token")?
        .parse()?;

    let call = Request::builder()
        .uri(format!("http://{}/hello", loopback(arguments.gateway)))
        .header(AUTHORIZATION, format!("Bearer {}", token.expose()))
        .body(RequestBody::empty())?;
    send(&http, call).await?;
    let received = running.api.received().ok_or("the demo API received nothing")?;
    let jwt = UnverifiedJwt::parse(Zeroizing::new(received.trim_start_matches("Bearer ").to_owned()))?;
    let Stored::Live(entry) = running.store.get(token.entry_key()).await? else {
        return Err("the store lost the entry".into());
    };
    let number = running.process.secrets.newest().number();
    pattern(arguments.kind(), &jwt, &token, entry.as_bytes(), number.get())
}

async fn send(http: &Forwarder, request: Request<RequestBody>) -> Result<Vec<u8>, Failure> {
    let response = http.forward(request, Duration::from_secs(10)).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes().to_vec();
    if status == StatusCode::OK {
        Ok(body)
    } else {
        Err(format!("the flow ended with {status}").into())
    }
}

/// The five steps.
fn pattern(
    kind: TokenKind,
    jwt: &UnverifiedJwt,
    token: &OpaqueToken,
    entry: &[u8],
    secret: u8,
) -> Result<String, Failure> {
    let signing_input = jwt.signing_input();
    let (header, payload) = signing_input.split_once('.').ok_or("no JWT")?;
    let signature = &jwt.expose()[signing_input.len() + 1..];
    let held = held(kind);
    let (divided, stored, found) = if kind == TokenKind::Phantom {
        (
            "It makes up a token that has nothing of the JWT in it".to_owned(),
            "whole JWT",
            "asked the token service what the token stands for, verified the answer",
        )
    } else {
        (
            format!(
                "It splits the JWT\n   header     {}\n   payload    {}\n   signature  {signature}",
                shorten(header),
                shorten(payload)
            ),
            "rest",
            "looked the entry up, opened it, glued the halves, verified the whole",
        )
    };
    Ok(format!(
        "
Symbolon: one access token, from the token service to the API

1  The token service signs a JWT ({octets} characters)
{claims}

2  {divided}

3  The client holds {held}: an opaque token that says nothing
   {opaque}

4  The store holds the {stored}, sealed, under the SHA-256 of that token
   entry key  {key}
   entry      {sealed}
              {length} octets: AES-256-GCM, the key made of the opaque token and deployment secret {secret}

5  The gateway {found}; the API received
   Authorization: Bearer {whole}
",
        octets = jwt.expose().len(),
        claims = indent(&format!("{}\n{}", pretty(header)?, pretty(payload)?)),
        opaque = token.expose(),
        key = token.entry_key(),
        sealed = shorten(&base64url::encode(entry)),
        length = entry.len(),
        whole = jwt.expose(),
    ))
}

fn to_try(arguments: &Arguments, client_secret: &str, operator_file: &Path) -> String {
    let token_service = loopback(arguments.token_service);
    let gateway = loopback(arguments.gateway);
    let admin = loopback(arguments.admin);
    let program = program();
    format!(
        "Try it, in another terminal: get a token, call the API, revoke the token (then call again: 401)

TOKEN=$(curl -s -u {CLIENT}:{client_secret} -d grant_type=client_credentials http://{token_service}/token | {READ_TOKEN})
curl -iw '\\n' -H \"Authorization: Bearer $TOKEN\" http://{gateway}/hello
curl -iw '\\n' -u {CLIENT}:{client_secret} -d token=$TOKEN http://{token_service}/revoke

An operator revokes with: echo $TOKEN | {program} revoke --admin http://{admin} --token-file {operator}

Token service {token_service}, gateway {gateway}, demo API 127.0.0.1:{api}. Ctrl-C ends it.
",
        api = arguments.api,
        operator = quoted(operator_file),
    )
}

/// This program, as a shell finds it: in the build's folder, most of the time, and not where the shell looks.
fn program() -> String {
    std::env::current_exe().map_or_else(|_| "symbolon".into(), |path| quoted(&path))
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// What the client holds of a JWT.
fn held(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Signature => "the JWS Signature",
        TokenKind::Salted => "the JWS Signature, a dot, 16 random octets",
        TokenKind::Phantom => "32 random octets",
    }
}

/// One that can be written into the lines to try.
fn a_port() -> impl clap::builder::TypedValueParser<Value = u16> {
    clap::value_parser!(u16).range(1..)
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn audience(port: u16) -> String {
    format!("http://{}", loopback(port))
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("   {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn shorten(text: &str) -> String {
    match text.get(..72) {
        Some(start) => format!("{start}…"),
        None => text.to_owned(),
    }
}

/// A folder of this process's own, readable by its owner alone, gone when it ends.
struct Folder(std::path::PathBuf);

impl Folder {
    fn fresh() -> Result<Self, String> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = format!("symbolon-dev-{}", base64url::encode(&random::<12>()));
        let path = std::env::temp_dir().join(name);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
