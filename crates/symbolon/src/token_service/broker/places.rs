//! Which paths the broker acts at, and where the authorization server has its own endpoints.

use std::fmt;

use url::Url;

use super::{Broker, Mode};
use crate::keys::{FetchError, Metadata, map_to};
use crate::paths;
use crate::token_service::token::Refusal;

/// The paths that a broker acts at; every other one is the server's.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Token endpoint.
    pub token: Option<String>,
    /// Revocation endpoint.
    pub revocation: Option<String>,
    /// Where clients ask about the user.
    pub userinfo: Option<String>,
    /// The metadata documents.
    pub metadata: Vec<String>,
    /// Authorization endpoint, and where requests for it are pushed.
    pub authorization: Vec<String>,
}

/// Where the authorization server's own endpoints are, and which paths are ours.
pub(super) struct Endpoints {
    pub(super) token: Url,
    pub(super) revocation: Option<Url>,
    pub(super) userinfo: Option<Url>,
    pub(super) places: Places,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Token,
    Revocation,
    Userinfo,
    Metadata,
    Authorization,
    Elsewhere,
}

/// The authorization server names its endpoints under another origin than the one that this broker stands at.
#[derive(Debug)]
pub struct Mismatch {
    member: &'static str,
    url: String,
    public_url: Url,
}

/// What clients find in the metadata and have to find here.
const AT_ORIGIN: [&str; 5] = [
    "issuer",
    "token_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
    "authorization_endpoint",
];

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
        for member in AT_ORIGIN {
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

    /// Where the server's endpoints are, as its metadata say; asked once, when it is there.
    pub(super) async fn endpoints(&self) -> Result<&Endpoints, Refusal> {
        let found = self.endpoints.get_or_try_init(|| async {
            let base = &self.config.authorization_server;
            let metadata = Metadata::fetch(&self.http, &self.config.issuer, Some(base)).await?;
            self.endpoints_of(&metadata)
        });
        found.await.map_err(|error| {
            tracing::warn!(%error, "the authorization server's metadata are not to be had");
            Refusal::Unavailable
        })
    }

    fn endpoints_of(&self, metadata: &Metadata) -> Result<Endpoints, FetchError> {
        self.compare(metadata).map_err(FetchError::new)?;
        let public = |member: &str| Url::parse(metadata.text(member)?).ok();
        let at = |member: &str| {
            let url = public(member)?;
            Some(map_to(&self.config.authorization_server, &self.config.issuer, &url).unwrap_or(url))
        };
        let path = |member: &str| public(member).map(|url| url.path().to_owned());
        let places = match &self.config.mode {
            Mode::Endpoint(places) => places.clone(),
            Mode::Origin { .. } => Places {
                token: path("token_endpoint"),
                revocation: path("revocation_endpoint"),
                userinfo: path("userinfo_endpoint"),
                metadata: Metadata::paths(&self.config.issuer)?.to_vec(),
                authorization: ["authorization_endpoint", "pushed_authorization_request_endpoint"]
                    .into_iter()
                    .filter_map(path)
                    .collect(),
            },
        };
        Ok(Endpoints {
            token: at("token_endpoint")
                .ok_or_else(|| FetchError::new("the metadata name no token_endpoint"))?,
            revocation: at("revocation_endpoint"),
            userinfo: at("userinfo_endpoint"),
            places,
        })
    }
}

impl Places {
    /// Which place a path is; none if a server could read it as another one (`//token`, `%74oken`, …): there a client
    /// would get what was meant to be split.
    pub(super) fn of(&self, path: &str) -> Option<Place> {
        let place = self.named(|named| named == path);
        let is_same = |reading: &String| {
            let folded = paths::fold_case(reading);
            self.named(|named| named == reading) == place
                && self.named(|named| paths::fold_case(named) == folded) == place
        };
        paths::readings(path)?.iter().all(is_same).then_some(place)
    }

    fn named(&self, is: impl Fn(&str) -> bool) -> Place {
        let one = |place: &Option<String>| place.as_deref().is_some_and(&is);
        let among = |places: &[String]| places.iter().any(|place| is(place));
        match () {
            () if one(&self.token) => Place::Token,
            () if one(&self.revocation) => Place::Revocation,
            () if one(&self.userinfo) => Place::Userinfo,
            () if among(&self.metadata) => Place::Metadata,
            () if among(&self.authorization) => Place::Authorization,
            () => Place::Elsewhere,
        }
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
