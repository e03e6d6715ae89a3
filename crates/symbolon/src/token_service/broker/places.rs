//! Which paths the broker acts at, and where the authorization server has its own endpoints.

use std::fmt;
use std::sync::Arc;

use symbolon_core::json::Value;
use url::Url;

use super::{Broker, Mode};
use crate::keys::{FetchError, Metadata, is_loopback, map_to};
use crate::paths;
use crate::token_service::Paths;
use crate::token_service::token::Refusal;

/// The paths of the endpoints that a broker has beside its server.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Token endpoint.
    pub token: Option<String>,
    /// Revocation endpoint.
    pub revocation: Option<String>,
    /// Where clients ask about the user.
    pub userinfo: Option<String>,
    /// Introspection endpoint.
    pub introspection: Option<String>,
}

impl Places {
    /// Where they stand unless somebody says otherwise.
    pub fn usual() -> Self {
        Self {
            token: Some(Paths::TOKEN.into()),
            revocation: Some(Paths::REVOCATION.into()),
            userinfo: Some("/userinfo".into()),
            introspection: Some(Paths::INTROSPECTION.into()),
        }
    }

    /// Whether that is one of them, or could be read as one.
    pub(super) fn have(&self, path: &str) -> bool {
        place_of(path, &self.named()) != Some(Place::Elsewhere)
    }

    fn named(&self) -> impl Iterator<Item = (&str, Place)> + Clone {
        [
            (&self.token, Place::Token),
            (&self.revocation, Place::Revocation),
            (&self.userinfo, Place::Userinfo),
            (&self.introspection, Place::Introspection),
        ]
        .into_iter()
        .filter_map(|(path, place)| Some((path.as_deref()?, place)))
    }
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Token,
    Revocation,
    Userinfo,
    Introspection,
    /// A metadata document.
    Metadata,
    /// The authorization endpoint, and where requests for it are pushed.
    Authorization,
    /// What is the server's alone.
    Elsewhere,
}

/// What the broker knows of its server.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Endpoints {
    known: Vec<Endpoint>,
    /// Whether the server may be asked for a `response_type` that hands out access tokens through the browser.
    pub(super) has_front_channel: bool,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Endpoint {
    path: String,
    place: Place,
    /// Where the server itself has it, if it does.
    url: Option<Url>,
}

impl Endpoints {
    /// What is known besides; of what stands at one path, what was known first.
    fn add(&mut self, other: Self) {
        for further in other.known {
            if !self.known.iter().any(|known| known.path == further.path) {
                self.known.push(further);
            }
        }
        self.known.sort_unstable();
        self.has_front_channel |= other.has_front_channel;
    }

    /// Which place a path is; none if a server could read it as another one.
    pub(super) fn place_of(&self, path: &str) -> Option<Place> {
        let known = self.known.iter();
        place_of(path, &known.map(|known| (known.path.as_str(), known.place)))
    }

    /// Where the server has what stands at that path.
    pub(super) fn at(&self, path: &str) -> Option<&Url> {
        let known = self.known.iter().find(|known| known.path == path);
        known.and_then(|known| known.url.as_ref())
    }

    /// Where introspection stands: where the server has it, else where it is beside it.
    pub(super) fn introspection(&self) -> Option<&str> {
        let here = self
            .known
            .iter()
            .filter(|known| known.place == Place::Introspection);
        let first = here.clone().find(|known| known.url.is_some());
        first
            .or_else(|| here.clone().next())
            .map(|known| known.path.as_str())
    }
}

/// The authorization server names its endpoints under another origin than the one that this broker stands at.
#[derive(Debug)]
pub struct Mismatch {
    member: &'static str,
    url: String,
    public_url: Url,
}

/// The members of the metadata that name what is acted upon.
const ENDPOINTS: [(&str, Place); 6] = [
    INTROSPECTION,
    ("token_endpoint", Place::Token),
    ("revocation_endpoint", Place::Revocation),
    ("userinfo_endpoint", Place::Userinfo),
    ("authorization_endpoint", Place::Authorization),
    ("pushed_authorization_request_endpoint", Place::Authorization),
];
/// Servers have this one for others than clients, and so perhaps elsewhere.
const INTROSPECTION: (&str, Place) = ("introspection_endpoint", Place::Introspection);

impl Broker {
    /// Holds what the server says of itself against the settings (BR-06). A server that does not answer says nothing.
    pub async fn self_test(&self) -> Result<(), Box<Mismatch>> {
        let base = &self.config.authorization_server;
        match Metadata::fetch(&self.http, &self.config.issuer, Some(base)).await {
            Ok(metadata) => self.compare(&metadata),
            Err(error) => {
                tracing::warn!(%error, "the authorization server does not answer yet");
                Ok(())
            }
        }
    }

    fn compare(&self, metadata: &Metadata) -> Result<(), Box<Mismatch>> {
        let Mode::Origin { public_url } = &self.config.mode else {
            return Ok(());
        };
        // What clients find in the metadata and have to find here.
        let of_clients = ENDPOINTS
            .into_iter()
            .filter(|endpoint| *endpoint != INTROSPECTION);
        for member in ["issuer"].into_iter().chain(of_clients.map(|(member, _)| member)) {
            let Some(url) = metadata.text(member) else {
                continue;
            };
            if Url::parse(url).map(|url| url.origin()).ok() != Some(public_url.origin()) {
                return Err(Box::new(Mismatch {
                    member,
                    url: url.to_owned(),
                    public_url: public_url.clone(),
                }));
            }
        }
        Ok(())
    }

    /// What is known of the server; asked for once, when it is there.
    pub(super) async fn endpoints(&self) -> Result<Arc<Endpoints>, Refusal> {
        let learnt = self.endpoints.or_ask(async {
            let base = &self.config.authorization_server;
            let asked = Metadata::fetch_all(&self.http, &self.config.issuer, Some(base)).await;
            let learnt = asked.and_then(|documents| self.learn(&documents));
            learnt
                .inspect_err(|error| {
                    tracing::warn!(%error, "the authorization server's metadata are not to be had");
                })
                .ok()
        });
        learnt.await.ok_or(Refusal::Unavailable)
    }

    /// Acts from now on at what these documents name besides what is known. Nothing is forgotten: one document may
    /// leave out what another one has.
    pub(super) fn learn(&self, documents: &[Metadata]) -> Result<Arc<Endpoints>, FetchError> {
        let known = self.endpoints.now();
        let mut learnt = Endpoints::default();
        for metadata in documents {
            learnt.add(self.endpoints_of(metadata)?);
        }
        if !learnt.known.iter().any(|known| known.place == Place::Token) {
            return Err(FetchError::new("the metadata name no token_endpoint"));
        }
        if let Some(known) = &known {
            learnt.add(Endpoints::clone(known));
        }
        // What the server does not have is ours alone.
        if learnt.introspection().is_none() && matches!(self.config.mode, Mode::Origin { .. }) {
            learnt.add(self.own_introspection()?);
        }
        if let Some(known) = &known {
            if **known == learnt {
                return Ok(known.clone());
            }
            tracing::warn!("the authorization server names further endpoints than before");
        }
        let is_news = known.is_none_or(|known| !known.has_front_channel);
        if learnt.has_front_channel && is_news && matches!(self.config.mode, Mode::Origin { .. }) {
            tracing::info!(
                "the authorization server knows response types with token: requests for them are refused here, and so \
                 are request objects that cannot be read"
            );
        }
        let learnt = Arc::new(learnt);
        self.endpoints.set(learnt.clone());
        Ok(learnt)
    }

    fn endpoints_of(&self, metadata: &Metadata) -> Result<Endpoints, FetchError> {
        self.compare(metadata).map_err(FetchError::new)?;
        let known = match &self.config.mode {
            Mode::Endpoint(places) => self.beside(places, metadata)?,
            Mode::Origin { public_url } => self.at_origin(public_url, metadata)?,
        };
        let types = metadata.0.get("response_types_supported");
        let has_front_channel = types.and_then(Value::as_array).is_none_or(|types| {
            types
                .iter()
                .filter_map(Value::as_str)
                .any(super::passthrough::names_token)
        });
        Ok(Endpoints {
            known,
            has_front_channel,
        })
    }

    /// Each place that is wanted here, if the server has the like of it.
    fn beside(&self, places: &Places, metadata: &Metadata) -> Result<Vec<Endpoint>, FetchError> {
        let mut known = Vec::new();
        for (path, place) in places.named() {
            let member = ENDPOINTS.iter().find(|(_, named)| *named == place);
            let url = member.and_then(|(member, _)| Url::parse(metadata.text(member)?).ok());
            let url = url.map(|url| self.reached(url)).transpose()?;
            // Callers of ours need no server to ask.
            if url.is_some() || place == Place::Introspection {
                known.push(Endpoint {
                    path: path.to_owned(),
                    place,
                    url,
                });
            }
        }
        Ok(known)
    }

    /// Every endpoint under its own path: also where clients with a certificate are to ask (RFC 8705 §5), and the
    /// metadata themselves.
    fn at_origin(&self, public_url: &Url, metadata: &Metadata) -> Result<Vec<Endpoint>, FetchError> {
        let aliases = match metadata.0.get("mtls_endpoint_aliases") {
            Some(Value::Object(aliases)) => Some(aliases),
            _ => None,
        };
        let mut named: Vec<(Url, Place)> = Vec::new();
        for (member, place) in ENDPOINTS {
            let alias = aliases.and_then(|aliases| aliases.get(member)?.as_str());
            let urls = metadata.text(member).into_iter().chain(alias);
            let here = urls.filter_map(|url| Url::parse(url).ok());
            named.extend(
                here.filter(|url| url.origin() == public_url.origin())
                    .map(|url| (url, place)),
            );
        }
        for path in documents(&self.config.issuer)? {
            let url = public_url.join(&path).map_err(FetchError::new)?;
            named.push((url, Place::Metadata));
        }
        let known = named.into_iter().map(|(url, place)| {
            Ok(Endpoint {
                path: url.path().to_owned(),
                place,
                url: Some(self.reached(url)?),
            })
        });
        known.collect()
    }

    /// An introspection endpoint that the server does not have, below the issuer.
    fn own_introspection(&self) -> Result<Endpoints, FetchError> {
        let issuer = Url::parse(&self.config.issuer).map_err(FetchError::new)?;
        let known = vec![Endpoint {
            path: Paths::of(&issuer).introspection,
            place: Place::Introspection,
            url: None,
        }];
        Ok(Endpoints {
            known,
            has_front_channel: false,
        })
    }

    /// Where the server is asked for what has that URL in public. Clients' secrets go there: over TLS, unless it is
    /// the server that was configured, or this machine.
    fn reached(&self, url: Url) -> Result<Url, FetchError> {
        let server = &self.config.authorization_server;
        if let Some(mapped) = map_to(server, &self.config.issuer, &url) {
            return Ok(mapped);
        }
        if url.scheme() == "https" || (is_loopback(&url) && is_loopback(server)) {
            return Ok(url);
        }
        Err(FetchError::new(
            "the metadata name an endpoint that is neither at the server nor https",
        ))
    }
}

/// The paths of the metadata: those that are standardized, and the other way round, in which servers have them as well.
fn documents(issuer: &str) -> Result<Vec<String>, FetchError> {
    let [oauth, openid] = Metadata::paths(issuer)?;
    let issuer = Url::parse(issuer).map_err(FetchError::new)?;
    let path = issuer.path().trim_end_matches('/');
    Ok(vec![
        oauth,
        openid,
        format!("{path}/.well-known/oauth-authorization-server"),
        format!("/.well-known/openid-configuration{path}"),
    ])
}

/// Which of the known places a path is; none if a server could read it as another one (`//token`, `%74oken`,
/// `/token/`, …): there a client would get what was meant to be split.
fn place_of<'a>(path: &str, known: &(impl Iterator<Item = (&'a str, Place)> + Clone)) -> Option<Place> {
    let named = |is: &dyn Fn(&str) -> bool| {
        let found = known.clone().find(|(known, _)| is(known));
        found.map_or(Place::Elsewhere, |(_, place)| place)
    };
    let place = named(&|known| known == path);
    let is_token = |stem: &str| {
        let mut tokens = known.clone().filter(|(_, place)| *place == Place::Token);
        tokens.any(|(known, _)| without_format(&without_slash(known)) == stem)
    };
    let is_same = |reading: &String| {
        let bare = without_slash(reading);
        named(&|known| known == reading) == place
            && named(&|known| without_slash(known) == bare) == place
            && (place != Place::Elsewhere || !is_token(without_format(&bare)))
    };
    let readings = if paths::has_other_readings(path) {
        paths::readings(path)?
    } else {
        vec![path.to_owned()]
    };
    readings.iter().all(is_same).then_some(place)
}

/// As servers compare paths that take no notice of case, nor of slashes at the end.
fn without_slash(path: &str) -> String {
    paths::fold_case(path).trim_end_matches('/').to_owned()
}

/// As servers do that take an ending for the wish for a format: `/token.json`.
fn without_format(path: &str) -> &str {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    match path[name..].find('.') {
        Some(dot) if dot > 0 => &path[..name + dot],
        _ => path,
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            member,
            url,
            public_url,
        } = self;
        write!(
            f,
            "the authorization server says that its {member} is {url}, which is not under public_url {public_url}: \
             give the server its public name (Keycloak: --hostname={public_url} --proxy-headers=xforwarded), or \
             correct public_url"
        )
    }
}

impl std::error::Error for Mismatch {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_place_or_not_or_could_be_one() {
        let known = [
            ("/o/token", Place::Token),
            ("/o/revoke/", Place::Revocation),
            ("/o/authorize", Place::Authorization),
        ];
        let place = |path: &str| place_of(path, &known.into_iter());
        assert_eq!(place("/o/token"), Some(Place::Token));
        assert_eq!(place("/o/revoke/"), Some(Place::Revocation));
        for elsewhere in [
            "/",
            "/o",
            "/o/token2",
            "/o/token/x",
            "/o/.well-known/x",
            "/assets/token.js",
            "/token",
            "/o/authorize.css",
        ] {
            assert_eq!(place(elsewhere), Some(Place::Elsewhere), "{elsewhere}");
        }
        for path in [
            "/o/token/",
            "/o/token//",
            "/o/TOKEN",
            "/o/tok%65n",
            "/o/token;x=1",
            "/o/x/../token",
            "/o/token.json",
            "/o/token/.",
            "/O/Token.JSON/",
            "/o/token%2f",
            "/o\\token",
            "/o/revoke",
            "/o/token%00",
        ] {
            assert_eq!(place(path), None, "{path}");
        }
    }
}
