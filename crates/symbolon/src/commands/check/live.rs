//! `symbolon check --live`: is what the file names there, and does it fit?

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use symbolon::clock::{Clock, SystemClock};
use symbolon::config::{Config, route_name};
use symbolon::forward::{Forwarder, Roots};
use symbolon::keys::{self, Fetched, Location, Metadata, map_to};
use symbolon::store;
use symbolon::token_service::Source;
use symbolon::token_service::broker::{self, Mode};
use symbolon_core::{Algorithm, JwkSet, Provenance, SkipReason, json};
use url::Url;

use super::introspection;
use super::token::{self, Client};
use crate::commands::{Failure, Outcome, show};

/// What was found, a line each.
#[derive(Default)]
pub(super) struct Findings {
    lines: String,
    wrong: usize,
}

/// What it is asked with.
pub(super) struct Asking<'a> {
    pub(super) config: &'a Config,
    pub(super) clock: Arc<dyn Clock>,
}

/// An issuer that was asked.
pub(super) struct Asked<'a> {
    pub(super) issuer: &'a keys::Config,
    pub(super) metadata: Option<Metadata>,
    pub(super) keys: Option<JwkSet>,
    /// Where its server is reached, if the token service stands before it.
    pub(super) broker: Option<&'a broker::Config>,
}

pub(super) async fn run(config: &Config, client: &Client) -> Outcome {
    symbolon::install_crypto();
    let mut findings = Findings::default();
    let asking = Asking {
        config,
        clock: Arc::new(SystemClock::start()),
    };
    // Shown part by part, since some of it may take its time.
    let mut issuers = Vec::new();
    for issuer in &config.issuers {
        issuers.push(asking.issuer(issuer, &mut findings).await?);
        findings.show()?;
    }
    asking.store(&mut findings).await;
    asking.resource_servers(&mut findings).await;
    findings.show()?;
    token::check(&asking, client, issuers, &mut findings).await?;
    findings.show()?;
    match findings.wrong {
        0 => Ok(()),
        1 => Err("1 thing is wrong".into()),
        wrong => Err(format!("{wrong} things are wrong").into()),
    }
}

impl Findings {
    /// As it should be.
    pub(super) fn fine(&mut self, what: impl AsRef<str>) {
        self.line("fine", what.as_ref());
    }

    /// Not as everybody would have it.
    pub(super) fn note(&mut self, what: impl AsRef<str>) {
        self.line("note", what.as_ref());
    }

    /// It will not work, and what to change.
    pub(super) fn wrong(&mut self, what: impl AsRef<str>) {
        self.wrong += 1;
        self.line("wrong", what.as_ref());
    }

    fn line(&mut self, kind: &str, what: &str) {
        // Servers say what stands in some of them.
        let what = what.replace(char::is_control, " ");
        let _ = writeln!(self.lines, "{kind:<6} {what}");
    }

    fn show(&mut self) -> io::Result<()> {
        show(&std::mem::take(&mut self.lines))
    }
}

impl Asking<'_> {
    /// Asks for metadata and keys, as the roles will.
    async fn issuer<'a>(
        &'a self,
        issuer: &'a keys::Config,
        findings: &mut Findings,
    ) -> Result<Asked<'a>, Failure> {
        let name = &issuer.issuer;
        let broker = self.broker_of(issuer);
        let base = match (&issuer.keys, broker) {
            (_, Some(broker)) => Some(Some(&broker.authorization_server)),
            (keys::Source::Fetched(Location::Metadata { base }), None) => Some(base.as_ref()),
            // For its endpoints.
            (keys::Source::File(_) | keys::Source::Fetched(_), None) if issuer.introspection.is_some() => {
                Some(None)
            }
            _ => None,
        };
        let metadata = match base {
            Some(base) => metadata(name, base, findings).await?,
            None => None,
        };
        if let (Some(metadata), Some(broker)) = (&metadata, broker) {
            endpoints(metadata, broker, findings);
        }
        let keys = self.keys(issuer, findings).await?;
        // A token service of this process is asked when it runs.
        if issuer.introspection.is_some() && issuer.keys != keys::Source::Mint {
            introspection::check(self, issuer, findings).await?;
        }
        Ok(Asked {
            issuer,
            metadata,
            keys,
            broker,
        })
    }

    fn broker_of(&self, issuer: &keys::Config) -> Option<&broker::Config> {
        match self.config.token_service.as_ref().map(|role| &role.source) {
            Some(Source::Broker(broker)) if broker.issuer == issuer.issuer => Some(broker),
            _ => None,
        }
    }

    async fn keys(&self, issuer: &keys::Config, findings: &mut Findings) -> Result<Option<JwkSet>, Failure> {
        let name = &issuer.issuer;
        let set = match &issuer.keys {
            keys::Source::Mint => return Ok(None),
            keys::Source::File(path) => {
                let set = |text: Vec<u8>| JwkSet::parse(&text, &issuer.algorithms, Provenance::Configured);
                let text = std::fs::read(path).map_err(|error| error.to_string());
                text.and_then(|text| set(text).map_err(|error| error.to_string()))
            }
            keys::Source::Fetched(location) => {
                let http = Forwarder::new(&location.roots(name)?)?;
                let (issuer, location, clock) = (issuer.clone(), location.clone(), self.clock.clone());
                let source = Fetched::new(issuer, location, http, clock, &self.config.data);
                source.ask().await.map_err(|error| error.to_string())
            }
        };
        match set {
            Ok(set) => {
                describe(&set, name, findings);
                Ok(Some(set))
            }
            Err(error) => {
                findings.wrong(format!(
                    "keys of {name}: {error}; without them no token is accepted (jwks = {{ url = \"…\" }} says where else \
                     they are)"
                ));
                Ok(None)
            }
        }
    }

    async fn store(&self, findings: &mut Findings) {
        // Nothing is made by a check.
        #[cfg(feature = "disk")]
        if let store::Config::Disk { folder, .. } = &self.config.store
            && !store::DiskStore::is_in(folder)
        {
            findings.note(format!("the store will be made in {}", folder.display()));
            return;
        }
        let store = match store::open(&self.config.store, self.clock.clone()).await {
            Ok(store) => store,
            Err(error @ store::OpenError::InUse(_)) => {
                findings.note(format!("{error}: it runs already, and has not been asked"));
                return;
            }
            Err(error) => {
                findings.wrong(error.to_string());
                return;
            }
        };
        let begun = store.begin(None).await.map(drop);
        match begun.and(store.check_room().await) {
            Ok(()) => findings.fine("the store answers"),
            Err(error) => findings.wrong(error.to_string()),
        }
    }

    /// Connects to each, and sends nothing.
    async fn resource_servers(&self, findings: &mut Findings) {
        let routes = self.config.gateway.iter().flat_map(|role| &role.routes);
        for route in routes {
            let (name, server) = (route_name(route), &route.resource_server);
            let connected = match Forwarder::new(&Roots::of(server, route.ca.as_deref())) {
                Ok(http) => http.connect(server).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match connected {
                Ok(()) => findings.fine(format!("{name}: {server} takes connections")),
                Err(error) => {
                    let ca = if server.scheme() == "https" {
                        ", and `ca`, if its certificate is from your own"
                    } else {
                        ""
                    };
                    findings.wrong(format!(
                        "{name}: {server}: {error}; see that it runs, and `resource_server`{ca}"
                    ));
                }
            }
        }
    }
}

async fn metadata(
    issuer: &str,
    base: Option<&Url>,
    findings: &mut Findings,
) -> Result<Option<Metadata>, Failure> {
    let base_or_issuer = base.map_or_else(|| Url::parse(issuer), |base| Ok(base.clone()))?;
    let http = Forwarder::new(&Roots::of(&base_or_issuer, None))?;
    match Metadata::fetch(&http, issuer, base).await {
        Ok(metadata) => {
            findings.fine(format!("{issuer} answers with metadata of its own"));
            Ok(Some(metadata))
        }
        Err(error) => {
            let from = base.map_or("`issuer`", |_| "`issuer` and `authorization_server`");
            findings.wrong(format!(
                "metadata of {issuer}: {error}; see that {from} are right, and that it answers this machine"
            ));
            Ok(None)
        }
    }
}

/// What can be verified with the keys of an issuer.
fn describe(set: &JwkSet, issuer: &str, findings: &mut Findings) {
    for skipped in set.skipped() {
        let (index, reason) = (skipped.index, skipped.reason);
        let said = format!("keys of {issuer}: key {index} is not used: {reason}");
        match reason {
            SkipReason::Private => findings.wrong(format!("{said}; replace it: who reads the set can sign")),
            // Keys for encryption, and for algorithms that are not allowed, are no surprise.
            SkipReason::Use | SkipReason::KeyType | SkipReason::Algorithm => {}
            _ => findings.note(said),
        }
    }
    let mut algorithms: Vec<_> = set.algorithms().map(Algorithm::name).collect();
    let count = algorithms.len();
    algorithms.sort_unstable();
    algorithms.dedup();
    if set.is_empty() {
        findings.wrong(format!(
            "keys of {issuer}: none is for one of the `algorithms`; see what the server signs with"
        ));
    } else {
        let algorithms = algorithms.join(", ");
        findings.fine(format!(
            "keys of {issuer}: {count} to verify with, for {algorithms}"
        ));
    }
}

/// Whether the server's endpoints are where clients will look for them.
fn endpoints(metadata: &Metadata, broker: &broker::Config, findings: &mut Findings) {
    if metadata.text("token_endpoint").is_none() {
        findings.wrong("the server names no token_endpoint: there is nothing to stand before");
    }
    if metadata.text("revocation_endpoint").is_none() {
        findings.note("the server names no revocation_endpoint: clients cannot revoke, operators can");
    }
    if let Mode::Origin { public_url } = &broker.mode {
        at_origin(metadata, public_url, findings);
    }
    if let Some(url) = token_endpoint(metadata, Some(broker)) {
        findings.fine(format!("tokens are asked for at {url}"));
    }
}

/// Clients find the server's URLs in its metadata, and have to find the token service there.
fn at_origin(metadata: &Metadata, public_url: &Url, findings: &mut Findings) {
    let text = |value: &json::Value| value.as_str().map(str::to_owned);
    let urls = metadata
        .0
        .iter()
        .filter(|(name, _)| *name == "issuer" || name.ends_with("_endpoint"));
    let mut elsewhere = 0;
    for (name, url) in urls.filter_map(|(name, value)| Some((name, text(value)?))) {
        if Url::parse(&url).map(|url| url.origin()).ok() != Some(public_url.origin()) {
            elsewhere += 1;
            findings.wrong(format!(
                "the server says that its {name} is {url}, which is not under public_url {public_url}: give it its \
                 public name (Keycloak: --hostname={public_url} --proxy-headers=xforwarded), or correct public_url"
            ));
        }
    }
    if elsewhere == 0 {
        findings.fine(format!("all of the server's endpoints are under {public_url}"));
    }
    let hands_out = metadata
        .0
        .get("response_types_supported")
        .and_then(json::Value::as_array)
        .is_some_and(|types| {
            types
                .iter()
                .filter_map(json::Value::as_str)
                .any(|kind| kind.split(' ').any(|part| part == "token"))
        });
    if hands_out {
        findings.note("the server would send tokens through the browser; that is refused here");
    }
}

/// Where tokens are asked for, by the token service if one stands before the server.
pub(super) fn token_endpoint(metadata: &Metadata, broker: Option<&broker::Config>) -> Option<Url> {
    let url = Url::parse(metadata.text("token_endpoint")?).ok()?;
    let mapped = broker.and_then(|broker| map_to(&broker.authorization_server, &broker.issuer, &url));
    Some(mapped.unwrap_or(url))
}
