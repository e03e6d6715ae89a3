//! Keys that an issuer publishes: fetched, kept, refreshed on an unknown `kid`.
//!
//! No request waits for a refresh that another one caused, and none causes more than one in 30 seconds (MD-06). The
//! last good set is kept on disk, so that a start while the issuer is away serves what was known (MD-05): of that issuer
//! and from that place, whatever else the settings have named before.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hyper::header::{ACCEPT, CACHE_CONTROL, HOST, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use serde_json::json;
use symbolon_core::{JwkSet, Provenance, UnixTime, base64url, json as strict, sha256};
use tokio::sync::OwnedMutexGuard;
use url::Url;

use super::{CLOCKS_DIFFER, Config, Issuers, KeySource, log_skipped};
use crate::clock::Clock;
use crate::forward::{Forwarder, RequestBody, Roots};
use crate::private_file;

/// Where a set is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// At that URL, used as written.
    Url(Url),
    /// Where the issuer's metadata say. `base` is where the issuer is reached, if not under its own name.
    Metadata {
        /// The URL that stands in the place of the issuer identifier.
        base: Option<Url>,
    },
}

impl Location {
    /// The same as one text, for telling what came from where.
    fn text(&self, issuer: &str) -> String {
        match self {
            Self::Url(url) => format!("{url} for {issuer}"),
            Self::Metadata { base: Some(base) } => format!("metadata of {issuer} at {base}"),
            Self::Metadata { base: None } => format!("metadata of {issuer}"),
        }
    }

    /// What is needed to reach it.
    pub fn roots(&self, issuer: &str) -> Result<Roots, url::ParseError> {
        match self {
            Self::Url(url) | Self::Metadata { base: Some(url) } => Ok(Roots::of(url, None)),
            Self::Metadata { base: None } => Ok(Roots::of(&Url::parse(issuer)?, None)),
        }
    }
}

/// The keys of one issuer, kept current.
pub struct Fetched {
    issuer: Config,
    location: Location,
    http: Forwarder,
    clock: Arc<dyn Clock>,
    file: PathBuf,
    known: Mutex<Option<Known>>,
    /// Held by whoever asks the issuer.
    asking: Arc<tokio::sync::Mutex<()>>,
    /// When an unknown `kid` last caused an attempt, in milliseconds of [`Clock::elapsed`], and one more; zero before
    /// the first. Attempts that come by themselves do not count: a key may be made when it is first used.
    attempted_at: AtomicU64,
}

#[derive(Clone)]
struct Known {
    set: Arc<JwkSet>,
    fetched_at: UnixTime,
}

/// Why no set was had.
#[derive(Debug)]
pub struct FetchError(String);

/// Longest use of a set that cannot be renewed.
const USABLE: Duration = Duration::from_secs(24 * 3600);
/// Least time between two attempts that an unknown `kid` causes.
const BETWEEN: Duration = Duration::from_secs(30);
/// How long a set counts as fresh where the answer does not say.
const FRESH: Duration = Duration::from_secs(600);
const FRESHEST: Duration = Duration::from_secs(60);
const LONGEST_FRESH: Duration = Duration::from_secs(3600);
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request waits for an attempt, which goes on without it.
const WAIT: Duration = Duration::from_secs(3);
/// The same of a request that cannot be repeated.
const PATIENT_WAIT: Duration = Duration::from_secs(15);
const MAX_OCTETS: usize = 256 * 1024;
const RETRY: Duration = Duration::from_secs(5);

impl Fetched {
    /// Starts with the set that is kept in the data folder, if it is not too old.
    pub fn new(
        issuer: Config,
        location: Location,
        http: Forwarder,
        clock: Arc<dyn Clock>,
        data: &Path,
    ) -> Self {
        let name = base64url::encode(&sha256(issuer.issuer.as_bytes())[..12]);
        let file = data.join(format!("jwks-{name}.json"));
        let known = read_kept(&file, &issuer, &location, clock.now());
        Self {
            issuer,
            location,
            http,
            clock,
            file,
            known: Mutex::new(known),
            asking: Arc::default(),
            attempted_at: AtomicU64::new(0),
        }
    }

    /// Keeps the set current for as long as the process lives, and tells `issuers` of every new one.
    pub async fn keep(self: Arc<Self>, issuers: Arc<Issuers>) {
        loop {
            let wait = self.look(&issuers).await;
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks for the set, tells `issuers` of it, and says how long that will do.
    pub async fn look(&self, issuers: &Issuers) -> Duration {
        let attempt = {
            let _alone = self.asking.lock().await;
            self.refresh().await
        };
        // Also what has become too old.
        issuers.refresh();
        match attempt {
            Ok(fresh_for) => fresh_for * 2 / 3,
            Err(error) => {
                tracing::warn!(issuer = self.issuer.issuer, %error, "keys were not fetched");
                RETRY
            }
        }
    }

    async fn refresh(&self) -> Result<Duration, FetchError> {
        let (set, headers, text) = self.fetch().await?;
        log_skipped(&set, &self.issuer.issuer);
        if set.is_empty() {
            return Err(FetchError::new("none of its keys can be used"));
        }
        let fresh_for = fresh_for(&headers);
        let fetched_at = self.clock.now();
        *self.known() = Some(Known {
            set: Arc::new(set),
            fetched_at,
        });
        let (file, from) = (self.file.clone(), self.location.text(&self.issuer.issuer));
        // It waits for the disk, which nobody else here has to.
        let kept = tokio::task::spawn_blocking(move || keep_on_disk(&file, &text, &from, fetched_at));
        let _ = kept.await;
        Ok(fresh_for)
    }

    /// Asks for the set, and keeps nothing.
    pub async fn ask(&self) -> Result<JwkSet, FetchError> {
        Ok(self.fetch().await?.0)
    }

    async fn fetch(&self) -> Result<(JwkSet, HeaderMap, Vec<u8>), FetchError> {
        let (url, public) = self.url().await?;
        let (headers, text) = get(&self.http, &url, public.as_ref()).await?;
        let set =
            JwkSet::parse(&text, &self.issuer.algorithms, Provenance::Fetched).map_err(FetchError::new)?;
        Ok((set, headers, text))
    }

    /// Where the set is, and under which name it is asked for there if not under that one.
    async fn url(&self) -> Result<(Url, Option<Url>), FetchError> {
        match &self.location {
            Location::Url(url) => Ok((url.clone(), None)),
            Location::Metadata { base } => {
                let metadata = Metadata::fetch(&self.http, &self.issuer.issuer, base.as_ref()).await?;
                metadata.jwks_uri(&self.issuer.issuer, base.as_ref())
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeySource for Fetched {
    fn jwk_set(&self) -> Option<Arc<JwkSet>> {
        let known = self.known();
        let known = known
            .as_ref()
            .filter(|known| self.clock.now().since(known.fetched_at) <= USABLE)?;
        Some(Arc::clone(&known.set))
    }

    fn fetched_at(&self) -> Option<UnixTime> {
        Some(
            self.known()
                .as_ref()
                .map(|known| known.fetched_at)
                .unwrap_or_default(),
        )
    }

    async fn renew(self: Arc<Self>, patient: bool) {
        let wait = if patient { PATIENT_WAIT } else { WAIT };
        let attempt = async {
            let alone = match Arc::clone(&self.asking).try_lock_owned() {
                Ok(alone) => alone,
                Err(_) if patient => Arc::clone(&self.asking).lock_owned().await,
                Err(_) => return,
            };
            if self.may_attempt() {
                // A task of its own: a client that does not wait would spoil the attempt for everybody.
                let _ = tokio::spawn(self.clone().attempt(alone)).await;
            }
        };
        let _ = tokio::time::timeout(wait, attempt).await;
    }
}

impl Fetched {
    /// Whether the last attempt was long enough ago; then this is one.
    fn may_attempt(&self) -> bool {
        let now = millis(self.clock.elapsed()) + 1;
        let attempted_at = self.attempted_at.load(Ordering::Acquire);
        let may = attempted_at == 0 || now >= attempted_at + millis(BETWEEN);
        if may {
            self.attempted_at.store(now, Ordering::Release);
        }
        may
    }

    async fn attempt(self: Arc<Self>, _alone: OwnedMutexGuard<()>) {
        if let Err(error) = self.refresh().await {
            let issuer = &self.issuer.issuer;
            tracing::warn!(issuer, %error, "keys were not fetched on an unknown kid");
        }
    }
}

/// An issuer's metadata document (RFC 8414, OpenID Connect Discovery 1.0).
#[derive(Clone)]
pub struct Metadata(pub strict::Object);

impl Metadata {
    /// Fetches it from the well-known places, the OAuth one first. The `issuer` in it must be the one that was asked
    /// for (RFC 8414 §3.3).
    pub async fn fetch(http: &Forwarder, issuer: &str, base: Option<&Url>) -> Result<Self, FetchError> {
        let mut all = Self::fetch_some(http, issuer, base, 1).await?;
        Ok(all.swap_remove(0))
    }

    /// Every document that is there: what one leaves out another may have. At least one.
    pub async fn fetch_all(
        http: &Forwarder,
        issuer: &str,
        base: Option<&Url>,
    ) -> Result<Vec<Self>, FetchError> {
        Self::fetch_some(http, issuer, base, usize::MAX).await
    }

    /// The first documents, so many and at least one.
    async fn fetch_some(
        http: &Forwarder,
        issuer: &str,
        base: Option<&Url>,
        most: usize,
    ) -> Result<Vec<Self>, FetchError> {
        let public = Url::parse(issuer).map_err(FetchError::new)?;
        let base = base.unwrap_or(&public);
        let mut all = Vec::new();
        let (mut wrong, mut absent) = (None, FetchError::new("no metadata"));
        for well_known in Self::paths(issuer)? {
            let mut url = base.clone();
            url.set_path(&well_known);
            match get(http, &url, Some(&public)).await {
                Ok((_, text)) => match Self::read(&text, issuer) {
                    Ok(metadata) => all.push(metadata),
                    // Some servers answer every path with something.
                    Err(reason) => wrong = Some(FetchError(format!("the metadata at {url} are {reason}"))),
                },
                Err(error) => absent = error,
            }
            if all.len() == most {
                break;
            }
        }
        if all.is_empty() {
            return Err(wrong.unwrap_or(absent));
        }
        Ok(all)
    }

    fn read(text: &[u8], issuer: &str) -> Result<Self, String> {
        let members = strict::parse_object(text).map_err(|error| error.to_string())?;
        match members.get("issuer").and_then(strict::Value::as_str) {
            Some(named) if named == issuer => Ok(Self(members)),
            _ => Err("another issuer's".to_owned()),
        }
    }

    /// The paths of an issuer's metadata: RFC 8414 §3.1 puts its well-known part before the issuer's path, OpenID
    /// Connect Discovery §4 behind it.
    pub fn paths(issuer: &str) -> Result<[String; 2], FetchError> {
        let url = Url::parse(issuer).map_err(FetchError::new)?;
        let path = url.path().trim_end_matches('/');
        Ok([
            format!("/.well-known/oauth-authorization-server{path}"),
            format!("{path}/.well-known/openid-configuration"),
        ])
    }

    /// A member that is a URL, as text.
    pub fn text(&self, member: &str) -> Option<&str> {
        self.0.get(member).and_then(strict::Value::as_str)
    }

    fn jwks_uri(&self, issuer: &str, base: Option<&Url>) -> Result<(Url, Option<Url>), FetchError> {
        if let Some(base) = base {
            let learnt = self.url("jwks_uri")?;
            if let Some(mapped) = map_to(base, issuer, &learnt) {
                return Ok((mapped, Some(learnt)));
            }
        }
        Ok((self.endpoint("jwks_uri", issuer)?, None))
    }

    /// A place that is believed to be the issuer's: https, on its host.
    pub fn endpoint(&self, member: &str, issuer: &str) -> Result<Url, FetchError> {
        let learnt = self.url(member)?;
        let issuer = Url::parse(issuer).map_err(FetchError::new)?;
        let is_safe = learnt.scheme() == "https" || (is_loopback(&issuer) && is_loopback(&learnt));
        if learnt.host() != issuer.host() || !is_safe {
            let reason = format!("the {member} of the metadata is not https on the issuer's host");
            return Err(FetchError(reason));
        }
        Ok(learnt)
    }

    fn url(&self, member: &str) -> Result<Url, FetchError> {
        let absent = || FetchError(format!("the metadata name no {member}"));
        Url::parse(self.text(member).ok_or_else(absent)?).map_err(FetchError::new)
    }
}

/// The same place at `base`, of a URL under the origin of `public`.
pub fn map_to(base: &Url, public: &str, url: &Url) -> Option<Url> {
    let public = Url::parse(public).ok()?;
    if public.origin() != url.origin() {
        return None;
    }
    let mut mapped = base.clone();
    mapped.set_path(url.path());
    mapped.set_query(url.query());
    Some(mapped)
}

/// Whether it names this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// What is at a URL. Where that stands in the place of a `public` one, the server is told the public name.
async fn get(http: &Forwarder, url: &Url, public: Option<&Url>) -> Result<(HeaderMap, Vec<u8>), FetchError> {
    let mut request = Request::builder()
        .uri(url.as_str())
        .header(ACCEPT, "application/json")
        .body(RequestBody::empty())
        .map_err(FetchError::new)?;
    if let Some(public) = public.filter(|public| public.origin() != url.origin()) {
        let field = |text: &str| HeaderValue::from_str(text).map_err(FetchError::new);
        let host = field(public.authority())?;
        let headers = request.headers_mut();
        headers.insert("x-forwarded-host", host.clone());
        headers.insert("x-forwarded-proto", field(public.scheme())?);
        headers.insert(HOST, host);
    }
    let response = http.forward(request, TIMEOUT).await.map_err(FetchError::new)?;
    let status = response.status();
    if status != StatusCode::OK {
        return Err(FetchError(format!("{url} answered {status}")));
    }
    let (parts, body) = response.into_parts();
    let body = crate::http::read_within(TIMEOUT, axum::body::Body::new(body), MAX_OCTETS).await;
    let body = body.ok_or_else(|| FetchError(format!("{url} answered too much, or too slowly")))?;
    Ok((parts.headers, body.to_vec()))
}

fn fresh_for(headers: &HeaderMap) -> Duration {
    let max_age = |directive: &str| {
        let (name, seconds) = directive.split_once('=')?;
        let is_max_age = name.trim().eq_ignore_ascii_case("max-age");
        is_max_age.then(|| seconds.trim().trim_matches('"').parse().ok())?
    };
    let said = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(|value| value.split(',').find_map(max_age));
    said.map_or(FRESH, Duration::from_secs)
        .clamp(FRESHEST, LONGEST_FRESH)
}

fn keep_on_disk(file: &Path, set: &[u8], from: &str, fetched_at: UnixTime) {
    let Ok(set) = serde_json::from_slice::<serde_json::Value>(set) else {
        return;
    };
    let kept = json!({ "fetched_at": fetched_at.as_secs(), "from": from, "set": set }).to_string();
    if let Err(error) = private_file::replace(file, kept.as_bytes()) {
        tracing::warn!(%error, "keys could not be kept on disk");
    }
}

/// What was kept, whatever its age: [`Fetched::jwk_set`] asks how old it is. Nothing that others can have written, that
/// came from elsewhere, or that a clock which was ahead has dated: it would never grow old.
fn read_kept(file: &Path, issuer: &Config, location: &Location, now: UnixTime) -> Option<Known> {
    let text = match private_file::read(file) {
        Ok(text) => text,
        Err(error) if error.is_missing() => return None,
        Err(error) => {
            tracing::warn!(issuer = issuer.issuer, %error, "keys that were kept are not used");
            return None;
        }
    };
    let members = strict::parse_object(text.as_bytes()).ok()?;
    let fetched_at = match members.get("fetched_at")? {
        strict::Value::Integer(seconds) => UnixTime::from_secs(*seconds),
        _ => return None,
    };
    let from = members.get("from").and_then(strict::Value::as_str);
    if from != Some(&location.text(&issuer.issuer)) || fetched_at > now.plus(CLOCKS_DIFFER) {
        return None;
    }
    let kept: serde_json::Value = serde_json::from_str(&text).ok()?;
    let set = JwkSet::parse(
        kept["set"].to_string().as_bytes(),
        &issuer.algorithms,
        Provenance::Fetched,
    )
    .ok()?;
    (!set.is_empty()).then(|| Known {
        set: Arc::new(set),
        fetched_at,
    })
}

impl FetchError {
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FetchError {}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    // MD-06, RFC 9111 §5.2
    #[test]
    fn a_set_is_fresh_for_as_long_as_the_answer_says_within_bounds() {
        for (fields, seconds) in [
            (&[][..], 600),
            (&["max-age=900"], 900),
            (&["public, Max-Age = \"900\", immutable"], 900),
            (&["no-transform", "s-maxage=5, max-age=900"], 900),
            (&["max-age=0"], 60),
            (&["max-age=18446744073709551615"], 3600),
            (&["max-age=18446744073709551616"], 600),
            (&["max-age=-1"], 600),
            (&["no-store"], 600),
            (&["x-max-age=900"], 600),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(field));
            }
            assert_eq!(fresh_for(&headers), Duration::from_secs(seconds), "{fields:?}");
        }
    }
}
