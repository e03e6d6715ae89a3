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

impl Limits {
    /// Bounded by the number of clients, which the configuration bounds.
    pub(super) fn allow(&self, client: &str, found: &Found, now: Duration) -> bool {
        let mut limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = limits.entry(client.to_owned()).or_insert_with(|| Buckets {
            all: Bucket::full(BURST),
            unknown: Bucket::full(UNKNOWN_BURST),
        });
        match found {
            // Nothing is written.
            Found::Expired => true,
            Found::Unknown => buckets.unknown.take(now, UNKNOWN_PER_SECOND, UNKNOWN_BURST),
            Found::Live(_) | Found::Revoked(_) => buckets.all.take(now, PER_SECOND, BURST),
        }
    }
}

impl From<Outage> for Refusal {
    fn from(outage: Outage) -> Self {
        tracing::warn!(?outage, "nothing revoked");
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
}
