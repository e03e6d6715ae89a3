//! One server that is asked about tokens: where it is, who asks, and what it may be asked at most.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use quick_cache::sync::Cache;
use symbolon_core::{EntryKey, OpaqueToken, Secrets, UnverifiedJwt};
use url::Url;
use zeroize::Zeroizing;

use super::gate::Gate;
use super::{AskError, Budget, Caller, GATEWAY, VIEW_AGE, answer};
use crate::clock::Clock;
use crate::forward::{ForwardError, Forwarder, RequestBody, Roots};
use crate::http;
use crate::keys::{self, FetchError, Metadata};
use crate::metrics::{Kind, Metrics};
use crate::shared::Shared;

/// A server, asked one thing at a time.
pub(super) struct Server {
    /// What it is asked about.
    kind: Kind,
    place: Place,
    http: Forwarder,
    authorization: HeaderValue,
    timeout: Duration,
    gate: Gate,
    /// Tokens that stand for nothing, and until when that is believed (IN-09).
    inactive: Cache<EntryKey, Inactive>,
    told: Mutex<LastTold>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// Where it is asked.
enum Place {
    Url(Url),
    /// Where the issuer's metadata say, and since when that is known.
    Metadata {
        issuer: String,
        known: Mutex<Option<(Url, Duration)>>,
    },
}

/// What was last wrong with it, as the log has it, and since when.
#[derive(Default)]
struct LastTold {
    error: Option<AskError>,
    at: Option<Duration>,
}

/// A token that stands for nothing.
#[derive(Clone, Copy)]
struct Inactive {
    since: Duration,
    until: Duration,
    view_age: Option<Duration>,
}

/// What is needed to ask.
pub(super) struct Around<'a> {
    pub(super) secrets: Option<&'a Secrets>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
}

impl<'a> Around<'a> {
    pub(super) fn of(shared: &'a Shared) -> Self {
        Self {
            secrets: Some(&shared.secrets),
            clock: shared.clock.clone(),
            metrics: shared.metrics.clone(),
        }
    }
}

/// What it said of a token.
pub(super) struct Told {
    /// The JWT that it stands for, which nobody has verified; none if it stands for nothing.
    pub(super) jwt: Option<UnverifiedJwt>,
    /// How old the view of the log is that the answer rests on, where the server says so.
    pub(super) view_age: Option<Duration>,
}

const MAX_ANSWER: usize = 128 * 1024;
const MOST_INACTIVE: usize = 10_000;
const INACTIVE_FOR: Duration = Duration::from_secs(1);
/// How far apart two lines in the log are at least: what differs with the token would fill it.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long what the metadata say is taken for true.
const PLACE_FOR: Duration = Duration::from_secs(600);

impl Server {
    /// A server at that endpoint, or where the metadata of the issuer say.
    pub(super) fn new(
        kind: Kind,
        endpoint: Result<&Url, &str>,
        caller: &Caller,
        budget: Budget,
        around: Around<'_>,
    ) -> Result<Self, String> {
        let (place, roots) = match endpoint {
            Ok(url) => (Place::Url(url.clone()), Roots::of(url, None)),
            Err(issuer) => {
                let url = Url::parse(issuer).map_err(|error| error.to_string())?;
                let (issuer, known) = (issuer.to_owned(), Mutex::default());
                (Place::Metadata { issuer, known }, Roots::of(&url, None))
            }
        };
        Ok(Self {
            kind,
            place,
            http: Forwarder::new(&roots).map_err(|error| error.to_string())?,
            authorization: caller
                .authorization(around.secrets)
                .ok_or("the caller's id or secret cannot be written into a field")?,
            timeout: budget.timeout,
            gate: Gate::new(budget),
            inactive: Cache::new(MOST_INACTIVE),
            told: Mutex::default(),
            clock: around.clock,
            metrics: around.metrics,
        })
    }

    /// The one of an issuer of phantom tokens.
    pub(super) fn of_issuer(issuer: &keys::Config, around: Around<'_>) -> Option<Result<Self, String>> {
        let settings = issuer.introspection.as_ref()?;
        let endpoint = settings.endpoint.as_ref().ok_or(issuer.issuer.as_str());
        Some(Self::new(
            Kind::Phantom,
            endpoint,
            &settings.caller,
            settings.budget,
            around,
        ))
    }

    /// Asks about a token, unless it is known to stand for nothing, or more has been asked than may be.
    pub(super) async fn ask(&self, token: &OpaqueToken) -> Result<Told, AskError> {
        let key = token.entry_key();
        if let Some(told) = self.known_inactive(key) {
            self.metrics.asked(self.kind, "known_inactive");
            return Ok(told);
        }
        let told = self.ask_within_budget(token).await;
        self.metrics.asked(self.kind, outcome(&told));
        match &told {
            Ok(Told { jwt: Some(_), .. }) => drop(self.inactive.remove(&key)),
            Ok(Told { view_age, .. }) => self.keep_inactive(key, *view_age),
            Err(_) => {}
        }
        told
    }

    fn known_inactive(&self, key: EntryKey) -> Option<Told> {
        let now = self.clock.elapsed();
        let known = self.inactive.get(&key).filter(|known| now < known.until)?;
        Some(Told {
            jwt: None,
            view_age: known.view_age.map(|age| age + now.saturating_sub(known.since)),
        })
    }

    fn keep_inactive(&self, key: EntryKey, view_age: Option<Duration>) {
        let since = self.clock.elapsed();
        let known = Inactive {
            since,
            // An answer that was a moment old is no longer good for as long.
            until: since + INACTIVE_FOR.saturating_sub(view_age.unwrap_or_default()),
            view_age,
        };
        self.inactive.insert(key, known);
    }

    async fn ask_within_budget(&self, token: &OpaqueToken) -> Result<Told, AskError> {
        let pass = self.gate.enter(self.clock.elapsed())?;
        let asked = tokio::time::timeout(self.timeout, self.exchange(token)).await;
        let told = asked.unwrap_or(Err(AskError::Timeout));
        match &told {
            Err(error) if is_of_server(error) => pass.failed(self.clock.elapsed()),
            _ => pass.answered(),
        }
        self.tell(told.as_ref().err());
        told
    }

    async fn exchange(&self, token: &OpaqueToken) -> Result<Told, AskError> {
        let request = self.request(&self.url().await?, token)?;
        let (head, body) = self.send(request).await?.into_parts();
        let jwt = answer::read(head.status, &head.headers, &body)?;
        let jwt = jwt.map(|jwt| UnverifiedJwt::introspected(jwt, token)).transpose();
        Ok(Told {
            jwt: jwt.map_err(|_| AskError::Malformed("what it gives is no signed JWT of that token"))?,
            view_age: view_age(&head.headers),
        })
    }

    fn request(&self, url: &Url, token: &OpaqueToken) -> Result<Request<RequestBody>, AskError> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", token.expose());
        let form = form.finish();
        Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header(AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, answer::ACCEPT)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(RequestBody::full(form.into()))
            .map_err(|_| AskError::Unreachable("its address is no URL".to_owned()))
    }

    async fn send(&self, request: Request<RequestBody>) -> Result<Response<Bytes>, AskError> {
        let answer = self.http.forward(request, self.timeout).await;
        let (head, body) = answer
            .map_err(|error| match error {
                ForwardError::Timeout => AskError::Timeout,
                error => AskError::Unreachable(error.to_string()),
            })?
            .into_parts();
        let body = http::read(axum::body::Body::new(body), MAX_ANSWER).await;
        let body = body.ok_or(AskError::Malformed("its answer broke off or is too large"))?;
        Ok(Response::from_parts(head, body))
    }

    async fn url(&self) -> Result<Url, AskError> {
        let (issuer, known) = match &self.place {
            Place::Url(url) => return Ok(url.clone()),
            Place::Metadata { issuer, known } => (issuer, known),
        };
        let known = || known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.elapsed();
        let last = match &mut *known() {
            Some((url, since)) if now.saturating_sub(*since) < PLACE_FOR => return Ok(url.clone()),
            // One looks whether it is still true, while the others go on.
            Some((url, since)) => {
                *since = now;
                Some(url.clone())
            }
            None => None,
        };
        match (self.named(issuer).await, last) {
            (Ok(url), _) => {
                *known() = Some((url.clone(), now));
                Ok(url)
            }
            (Err(_), Some(url)) => Ok(url),
            (Err(error), None) => Err(AskError::Metadata(error.to_string())),
        }
    }

    /// Where the issuer's metadata say.
    async fn named(&self, issuer: &str) -> Result<Url, FetchError> {
        let all = Metadata::fetch_all(&self.http, issuer, None).await?;
        // One document may leave out what another has.
        let named = all
            .iter()
            .map(|metadata| metadata.endpoint("introspection_endpoint", issuer));
        named
            .reduce(Result::or)
            .unwrap_or_else(|| Err(FetchError::new("no metadata")))
    }

    /// What is wrong is told when it begins and changes, not with every token.
    fn tell(&self, error: Option<&AskError>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.is_news(error, self.clock.elapsed()) {
            return;
        }
        let server = match &self.place {
            Place::Url(url) => url.as_str(),
            Place::Metadata { issuer, .. } => issuer,
        };
        match error {
            Some(error @ (AskError::ClaimsOnly | AskError::Status(400..=404))) => {
                tracing::error!(server, %error, "tokens cannot be introspected: `symbolon check --live` says what to change");
            }
            Some(error) => tracing::warn!(server, %error, "tokens cannot be introspected"),
            None => tracing::info!(server, "tokens are introspected again"),
        }
    }
}

impl LastTold {
    /// Whether that has to be told, which counts as done.
    fn is_news(&mut self, error: Option<&AskError>, now: Duration) -> bool {
        let is_soon = |at: Duration| now.saturating_sub(at) < TELL_EVERY;
        if self.error.as_ref() == error || self.at.is_some_and(is_soon) {
            return false;
        }
        (self.error, self.at) = (error.cloned(), Some(now));
        true
    }
}

impl Caller {
    /// By HTTP Basic, each part encoded as in a form (RFC 6749 §2.3.1).
    fn authorization(&self, secrets: Option<&Secrets>) -> Option<HeaderValue> {
        let (id, secret) = match self {
            Self::Gateway => (GATEWAY, secrets?.newest().fallback()),
            Self::Client { id, secret } => (id.as_str(), secret.0.clone()),
        };
        let encode = |text: &str| -> Zeroizing<String> {
            Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect())
        };
        let pair = Zeroizing::new(format!("{}:{}", *encode(id), *encode(&secret)));
        let field = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        let mut field = HeaderValue::from_str(&field).ok()?;
        field.set_sensitive(true);
        Some(field)
    }
}

/// How old the view is, if that is said once and as a number.
fn view_age(headers: &HeaderMap) -> Option<Duration> {
    let mut said = headers.get_all(VIEW_AGE).iter();
    let (Some(age), None) = (said.next(), said.next()) else {
        return None;
    };
    let age = age.to_str().ok()?;
    let is_number = age.bytes().all(|octet| octet.is_ascii_digit());
    is_number.then(|| age.parse().ok().map(Duration::from_millis))?
}

/// Whether the server itself fails, whichever token it is asked about. Everything else is an answer, though none that
/// is of use: who brings a token that the server chokes on takes it from nobody else.
fn is_of_server(error: &AskError) -> bool {
    matches!(
        error,
        AskError::Unreachable(_)
            | AskError::Timeout
            | AskError::Metadata(_)
            | AskError::Status(401 | 429 | 500..)
    )
}

/// What came of it, as the metrics call it.
fn outcome(told: &Result<Told, AskError>) -> &'static str {
    match told {
        Ok(Told { jwt: Some(_), .. }) => "active",
        Ok(Told { jwt: None, .. }) => "inactive",
        Err(AskError::OverBudget) => "over_budget",
        Err(AskError::Resting) => "resting",
        Err(AskError::ClaimsOnly) => "claims_only",
        Err(_) => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_with_every_token_does_not_fill_the_log() {
        let mut told = LastTold::default();
        let millis = Duration::from_millis;
        let errors = [Some(&AskError::ClaimsOnly), None];
        let lines = |told: &mut LastTold, from: u64| {
            let times = (from..from + 900).zip(errors.into_iter().cycle());
            times
                .filter(|(at, error)| told.is_news(*error, millis(*at)))
                .count()
        };
        assert!(!told.is_news(None, millis(0)), "it works from the start");
        assert_eq!((lines(&mut told, 1), lines(&mut told, 1001)), (1, 1));
        // The last word is told, if it stays.
        let last = told.error.clone();
        let other = errors.into_iter().find(|error| *error != last.as_ref()).unwrap();
        assert!(told.is_news(other, millis(3000)));
        assert!(!told.is_news(other, millis(5000)));
    }
}
