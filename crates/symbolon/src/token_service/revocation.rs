//! Revocation endpoint (RFC 7009).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body as RequestBody;
use axum::extract::State;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};

use super::TokenService;
use super::token::Refusal;
use crate::form::Form;
use crate::http::{self, Body};
use crate::resolve::Outage;
use crate::revocations::Asker;
use crate::revoke::{Bucket, Found};

/// How much each client may still revoke: whoever repeats himself grows the log, which everybody reads.
#[derive(Default)]
pub(super) struct Limits(Mutex<HashMap<String, Buckets>>);

struct Buckets {
    all: Bucket,
    unknown: Bucket,
}

/// PROTOCOL §5.
const PER_SECOND: f64 = 10.0;
const BURST: f64 = 100.0;
/// PROTOCOL rule 3: these records are kept for the longest life that a token can have.
const UNKNOWN_PER_SECOND: f64 = 1.0;
const UNKNOWN_BURST: f64 = 20.0;

pub(super) async fn endpoint(
    State(service): State<Arc<TokenService>>,
    headers: HeaderMap,
    body: RequestBody,
) -> Response<Body> {
    match service.revoke(&headers, body).await {
        Ok(()) => http::json(StatusCode::OK, &serde_json::json!({})),
        Err(refusal) => refusal.into_response(),
    }
}

impl TokenService {
    async fn revoke(&self, headers: &HeaderMap, body: RequestBody) -> Result<(), Refusal> {
        let form = Form::read(headers, body).await?;
        let client = self.authenticate(headers, &form)?;
        let text = form.one("token").ok_or(Refusal::InvalidRequest("no token"))?;
        // What is no token of ours is as good as revoked (RFC 7009 §2.2); the hint changes nothing.
        let Some(token) = self.revoker.parse(text) else {
            return Ok(());
        };
        let found = self.revoker.find(&token).await?;
        if let Found::Live(jwt) = &found
            && !jwt.is_of_client(&client.id)
        {
            return Err(Refusal::InvalidGrant("the token was issued to another client"));
        }
        if !self.limits.allow(&client.id, &found, self.clock.elapsed()) {
            tracing::warn!("a client revokes faster than it may");
            return Err(Refusal::Unavailable);
        }
        self.revoker.revoke(&token, &found, Asker::Client).await?;
        tracing::info!(token = self.revoker.correlation_id(&token), "revoked by a client");
        Ok(())
    }
}

/// Clients that are counted. Another server's may be many, and whoever registers them there decides their names.
const MAX_CLIENTS: usize = 10_000;

impl Limits {
    /// Whether that client may revoke what was found.
    pub(super) fn allow(&self, client: &str, found: &Found, now: Duration) -> bool {
        match found {
            // Nothing is written.
            Found::Expired => true,
            Found::Unknown => self.of(client, now, |buckets| {
                buckets.unknown.take(now, UNKNOWN_PER_SECOND, UNKNOWN_BURST)
            }),
            Found::Live(_) | Found::Revoked(_) => self.allow_one(client, now),
        }
    }

    /// Whether that client may write one more record.
    pub(super) fn allow_one(&self, client: &str, now: Duration) -> bool {
        self.of(client, now, |buckets| buckets.all.take(now, PER_SECOND, BURST))
    }

    /// Bounded: clients that have been quiet are forgotten, and if all have been busy there is no room for another.
    fn of(&self, client: &str, now: Duration, take: impl FnOnce(&mut Buckets) -> bool) -> bool {
        let mut limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if limits.len() >= MAX_CLIENTS && !limits.contains_key(client) {
            limits.retain(|_, buckets| {
                !buckets.all.is_full(now, PER_SECOND, BURST)
                    || !buckets.unknown.is_full(now, UNKNOWN_PER_SECOND, UNKNOWN_BURST)
            });
            if limits.len() >= MAX_CLIENTS {
                return false;
            }
        }
        take(limits.entry(client.to_owned()).or_insert_with(|| Buckets {
            all: Bucket::full(BURST),
            unknown: Bucket::full(UNKNOWN_BURST),
        }))
    }
}

impl From<Outage> for Refusal {
    fn from(outage: Outage) -> Self {
        tracing::warn!(?outage, "a request cannot be answered now");
        Self::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use symbolon_core::{RecordId, Tombstone, UnixTime};

    use super::*;

    /// How many of 200 at once are allowed, after so many seconds.
    fn allowed(limits: &Limits, client: &str, found: &Found, at: u64) -> usize {
        (0..200)
            .filter(|_| limits.allow(client, found, Duration::from_secs(at)))
            .count()
    }

    // PROTOCOL rule 3
    #[test]
    fn unknown_tokens_are_limited_for_each_client() {
        let limits = Limits::default();
        let unknown = |client, at| allowed(&limits, client, &Found::Unknown, at);
        assert_eq!((unknown("a", 100), unknown("b", 100)), (20, 20));
        assert_eq!((unknown("a", 103), unknown("a", 103)), (3, 0));
        assert_eq!(unknown("a", 1000), 20);
    }

    // PROTOCOL §5
    #[test]
    fn repeated_revocations_are_limited_for_each_client() {
        let limits = Limits::default();
        let revoked = Found::Revoked(Tombstone {
            secret: 1,
            expires_at: UnixTime::from_secs(1),
            jti: RecordId::default(),
        });
        let repeated = |client, at| allowed(&limits, client, &revoked, at);
        assert_eq!((repeated("a", 100), repeated("b", 100)), (100, 100));
        assert_eq!((repeated("a", 103), repeated("a", 103)), (30, 0));
        assert_eq!(
            allowed(&limits, "a", &Found::Expired, 103),
            200,
            "nothing is written"
        );
    }

    #[test]
    fn clients_are_forgotten_when_they_have_been_quiet_and_counted_no_further_when_none_was() {
        let limits = Limits::default();
        let client = |at: usize| format!("client {at}");
        for at in 0..MAX_CLIENTS {
            assert!(limits.allow_one(&client(at), Duration::from_secs(100)));
        }
        let another = |at| limits.allow_one("another", Duration::from_secs(at));
        assert!(!another(100), "there is no room");
        assert!(limits.allow_one(&client(1), Duration::from_secs(100)));
        assert!(another(101));
        assert_eq!(
            limits.0.lock().unwrap().len(),
            1,
            "the others have been quiet for long enough"
        );
    }
}
