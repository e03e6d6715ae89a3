//! Asks an authorization server about a phantom token, or a token service in the store's place.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderName;
use symbolon_core::{OpaqueToken, Secrets, UnixTime, UnverifiedJwt};
use url::Url;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::keys;
use crate::metrics::Metrics;
use crate::shared::Shared;

mod answer;
mod fallback;
mod gate;
mod refusals;
mod server;

pub(crate) use fallback::{Lender, Lent};
use server::{Around, Server};

/// How an issuer's phantom tokens are introspected (RFC 7662).
#[derive(Clone, Debug)]
pub struct Config {
    /// Where; none: where the issuer's metadata say.
    pub endpoint: Option<Url>,
    /// Who asks.
    pub caller: Caller,
    /// How long an answer is good for.
    pub max_age: Duration,
    /// What the server is asked at most.
    pub budget: Budget,
}

/// Which token service is asked about split tokens while the store cannot be.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// Its introspection endpoint.
    pub endpoint: Url,
    /// What it is asked at most.
    pub budget: Budget,
}

/// Who asks, by HTTP Basic (RFC 6749 §2.3.1).
#[derive(Clone, Debug)]
pub enum Caller {
    /// A gateway of this deployment, known to its token service by the deployment secret.
    Gateway,
    /// A client of the authorization server.
    Client {
        /// Its identifier.
        id: String,
        /// Its secret.
        secret: ClientSecret,
    },
}

/// What a client authenticates with. No `Debug` prints it.
#[derive(Clone)]
pub struct ClientSecret(pub Zeroizing<String>);

/// How much a server is asked, whatever comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Requests under way at once.
    pub in_flight: usize,
    /// Requests a second; as many may come at once.
    pub per_second: usize,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Why a server said nothing of a token. It is never the token's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    /// More has been asked than the budget allows.
    OverBudget,
    /// It has failed too often, and is left alone for a moment.
    Resting,
    /// It cannot be reached, or broke off.
    Unreachable(String),
    /// It did not answer in time.
    Timeout,
    /// It answered with that status.
    Status(u16),
    /// It answered with what is no answer.
    Malformed(&'static str),
    /// It said that the token is active, and gave no JWT.
    ClaimsOnly,
    /// The issuer's metadata do not say where to ask.
    Metadata(String),
    /// It does not say how old its view of the revocation log is, or that is too old.
    OldView,
}

/// The authorization servers of all issuers of phantom tokens.
#[derive(Default)]
pub struct Introspection {
    phantom: Vec<Phantom>,
}

/// One of them.
pub(crate) struct Phantom {
    pub(crate) issuer: String,
    max_age: Duration,
    server: Server,
}

/// Whose phantom token it may be, as a place among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked(usize);

impl Introspection {
    /// Asks about the phantom tokens of these issuers. Fails if a server could never be asked.
    pub fn of<'a>(
        issuers: impl IntoIterator<Item = &'a keys::Config>,
        shared: &Shared,
    ) -> Result<Self, String> {
        let of_issuer = |issuer: &keys::Config| {
            let max_age = issuer.introspection.as_ref()?.max_age;
            let server = Server::of_issuer(issuer, Around::of(shared))?;
            Some(server.map(|server| Phantom {
                issuer: issuer.issuer.clone(),
                max_age,
                server,
            }))
        };
        let phantom = issuers
            .into_iter()
            .filter_map(of_issuer)
            .collect::<Result<_, _>>()?;
        Ok(Self { phantom })
    }

    /// The one that has the tokens of one of these issuers; of every one if there are none.
    pub(crate) fn of_issuers(&self, issuers: &[String]) -> Option<Asked> {
        let is_named = |phantom: &Phantom| issuers.is_empty() || issuers.contains(&phantom.issuer);
        self.phantom.iter().position(is_named).map(Asked)
    }

    pub(crate) fn at(&self, asked: Asked) -> &Phantom {
        &self.phantom[asked.0]
    }
}

impl Phantom {
    /// The JWT that a token stands for, which nobody has verified; none if it stands for nothing.
    pub(crate) async fn ask(&self, token: &OpaqueToken) -> Result<Option<UnverifiedJwt>, AskError> {
        Ok(self.server.ask(token).await?.jwt)
    }

    /// Until when an answer is good that was asked for at that time.
    pub(crate) fn good_until(&self, asked_at: UnixTime) -> UnixTime {
        asked_at.plus(self.max_age)
    }
}

/// A look at whether a server is set up for it, outside of a gateway.
pub struct Probe(Server);

impl Probe {
    /// Asks as a gateway with that deployment secret would; none if that issuer's tokens are not introspected.
    pub fn new(
        issuer: &keys::Config,
        secrets: Option<&Secrets>,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, String> {
        let around = Around {
            secrets,
            clock,
            metrics: Arc::new(Metrics::new()),
        };
        let server = Server::of_issuer(issuer, around).transpose()?;
        Ok(server.map(Self))
    }

    /// The JWT that a token stands for.
    pub async fn ask(&self, token: &OpaqueToken) -> Result<Option<UnverifiedJwt>, AskError> {
        Ok(self.0.ask(token).await?.jwt)
    }
}

/// The caller that every gateway of a deployment is, by a secret that the deployment secret yields.
pub const GATEWAY: &str = "gateway";
/// Of an answer: milliseconds since the view of the log was taken that it rests on.
pub const VIEW_AGE: HeaderName = HeaderName::from_static("symbolon-view-age");
/// Longest time for which an answer is good.
pub const MAX_AGE: Duration = Duration::from_secs(30);

impl Budget {
    /// What an authorization server can well take from a gateway.
    pub const DEFAULT: Self = Self {
        in_flight: 64,
        per_second: 500,
        timeout: Duration::from_secs(2),
    };
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(..)")
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverBudget => f.write_str("more tokens were to be introspected than the budget allows"),
            Self::Resting => f.write_str("the server failed too often, and is left alone for a moment"),
            Self::Unreachable(error) => write!(f, "the server cannot be asked: {error}"),
            Self::Timeout => f.write_str("the server did not answer in time"),
            Self::Status(status) => write!(f, "the server answered {status}"),
            Self::Malformed(what) => write!(f, "the server cannot be understood: {what}"),
            Self::ClaimsOnly => {
                f.write_str("the server says what the token says, and gives no JWT that could be forwarded")
            }
            Self::Metadata(error) => write!(f, "where to ask is not known: {error}"),
            Self::OldView => {
                f.write_str("the server does not say that its view of the revocation log is fresh")
            }
        }
    }
}

impl std::error::Error for AskError {}
