//! `symbolon dev --authorization-server`: the pattern before a server that is there already, with its own clients.
//!
//! Token endpoint and API share the gateway's origin. What stays at the server, and what that means, is said at start.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use symbolon::config::{CLIENTS_THAT_CHECK_AT_HASH, Config};
use symbolon::forward::{Forwarder, Roots};
use symbolon::keys::{self, Location, Metadata, is_loopback};
use symbolon::token_service::broker::{self, IdToken, Mode, Places, Unsplittable};
use symbolon::token_service::{self, Paths, Source};
use symbolon_core::{Algorithm, Profile};
use url::Url;

use super::{Common, READ_TOKEN, held, loopback, program, quoted};
use crate::commands::{Failure, a_profile};

#[derive(Args)]
pub(super) struct Before {
    /// Stand before this authorization server: its issuer identifier. It needs a client of yours
    #[arg(long, value_name = "URL", value_parser = issuer)]
    authorization_server: Option<String>,
    /// What that server signs access tokens with
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        requires = "authorization_server"
    )]
    #[arg(default_value = "RS256,PS256,ES256,EdDSA", value_parser = algorithm)]
    issuer_algorithms: Vec<Algorithm>,
    /// How that server's access tokens look: rfc9068 or keycloak
    #[arg(long, value_name = "NAME", requires = "authorization_server")]
    #[arg(default_value = "rfc9068", value_parser = a_profile)]
    profile: Profile,
    /// What the demo API is called in `aud`; without it, it takes tokens for every API
    #[arg(long, value_name = "VALUE", requires = "authorization_server")]
    audience: Option<String>,
}

/// The server, as far as it had to be asked.
pub(super) struct Server<'a> {
    arguments: &'a Before,
    issuer: String,
    url: Url,
    revokes: bool,
}

const TOKEN: &str = Paths::TOKEN;
const REVOCATION: &str = Paths::REVOCATION;
const USERINFO: &str = "/userinfo";
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

impl Before {
    /// Asks the server that is named, if one is.
    pub(super) async fn server(&self) -> Result<Option<Server<'_>>, Failure> {
        let Some(issuer) = &self.authorization_server else {
            return Ok(None);
        };
        symbolon::install_crypto();
        let url = Url::parse(issuer)?;
        let http = Forwarder::new(&Roots::of(&url, None))?;
        let metadata = Metadata::fetch(&http, issuer, None).await;
        let metadata = metadata.map_err(|error| {
            format!("{issuer} does not answer as the issuer of that name (mind a slash at its end): {error}")
        })?;
        Ok(Some(Server {
            arguments: self,
            issuer: issuer.clone(),
            url,
            revokes: metadata.text("revocation_endpoint").is_some(),
        }))
    }
}

impl Common<'_> {
    /// Settings with a token service before that server.
    pub(super) fn before(self, server: &Server<'_>) -> Result<Config, url::ParseError> {
        let issuer = keys::Config {
            issuer: server.issuer.clone(),
            profile: server.arguments.profile.clone(),
            algorithms: server.arguments.issuer_algorithms.clone(),
            tokens: self.arguments.kind(),
            introspection: None,
            max_lifetime: MAX_LIFETIME,
            keys: keys::Source::Fetched(Location::Metadata { base: None }),
        };
        let source = Source::Broker(broker::Config {
            issuer: server.issuer.clone(),
            authorization_server: server.url.clone(),
            mode: Mode::Endpoint(Places {
                token: Some(TOKEN.into()),
                revocation: Some(REVOCATION.into()),
                userinfo: Some(USERINFO.into()),
                introspection: None,
            }),
            unsplittable: Unsplittable::Refuse,
            id_token: IdToken::Pass,
            allows_password: false,
            max_grant_lifetime: MAX_LIFETIME,
            trusted_proxies: Vec::new(),
        });
        let listen = loopback(self.arguments.gateway);
        let token_service = token_service::Config {
            listen,
            source,
            callers: Vec::new(),
        };
        self.settings(issuer, token_service, server.audience(), Vec::new())
    }
}

impl Server<'_> {
    /// What the demo API asks for in `aud`.
    pub(super) fn audience(&self) -> Option<String> {
        self.arguments.audience.clone()
    }

    /// What there is to try, and what it cannot do.
    pub(super) fn to_try(&self, arguments: &super::Arguments, operator_file: &Path) -> String {
        let here = format!("http://{}", loopback(arguments.gateway));
        let revoke = if self.revokes {
            format!("curl -iw '\\n' -u CLIENT:SECRET -d token=$TOKEN {here}{REVOCATION}\n")
        } else {
            String::new()
        };
        format!(
            "
Symbolon before {issuer}

Clients ask for tokens at {here}{TOKEN}. The server's answer passes as it is, but for its access
token: that JWT is verified, split and published, and the client gets {held}.
The demo API gets the JWT.

Try it, in another terminal, with a client of yours for CLIENT and SECRET: get a token, call the API, revoke the token
(then call again: 401)

TOKEN=$(curl -s -u CLIENT:SECRET -d grant_type=client_credentials {here}{TOKEN} | {READ_TOKEN})
curl -iw '\\n' -H \"Authorization: Bearer $TOKEN\" {here}/hello
{revoke}
A client that sends users to log in goes to the server for that, as ever, brings the code to
{here}{TOKEN}, and asks about the user at {here}{USERINFO}.

Its limits
- Authorization, introspection and logout stay the server's business: there an opaque token means nothing, and nothing
  is translated. What revokes a token at the server itself is not heard of here.
- A token is refused (502, the reason is in this log) unless it is a JWT, has an `aud`, lives {hours} hours at most, and is
  signed with {algorithms}. Keycloak names an audience if the client has an audience mapper.
- ID tokens pass. An `at_hash` in them is made of the JWT, and clients that check it refuse them:
  {CLIENTS_THAT_CHECK_AT_HASH}.
- A proof of possession or a client's assertion that is made for this token endpoint is none for the server's.
- grant_type=password is refused. All that is held here is gone with this process.

An operator revokes with: echo $TOKEN | {program} revoke --admin http://{admin} --token-file {operator}

Token service and gateway {gateway}, demo API 127.0.0.1:{api}. Ctrl-C ends it.
",
            issuer = self.issuer,
            program = program(),
            held = held(arguments.kind()),
            algorithms = self.algorithms(),
            hours = MAX_LIFETIME.as_secs() / 3600,
            admin = loopback(arguments.admin),
            operator = quoted(operator_file),
            gateway = loopback(arguments.gateway),
            api = arguments.api,
        )
    }

    fn algorithms(&self) -> String {
        let names: Vec<_> = self
            .arguments
            .issuer_algorithms
            .iter()
            .map(|algorithm| algorithm.name())
            .collect();
        match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => names.concat(),
        }
    }
}

/// An issuer identifier that may be asked, as text: it is compared so (RFC 8414 §3.3).
fn issuer(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url) {
        Ok(text.to_owned())
    } else {
        Err("an https URL is needed: http is for loopback hosts only".to_owned())
    }
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    let known = Algorithm::from_name(name).filter(|algorithm| !algorithm.is_symmetric());
    known.ok_or_else(|| "no algorithm with public keys has that name".to_owned())
}
