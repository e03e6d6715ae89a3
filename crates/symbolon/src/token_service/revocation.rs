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
use crate::revoke::{Asker, Bucket, Found};

/// Of each client, how many records for unknown tokens it may still cause (PROTOCOL rule 3): they are kept for the
/// longest life that a token can have.
#[derive(Default)]
pub(super) struct Limits(Mutex<HashMap<String, Bucket>>);

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
        match &found {
            Found::Live(jwt) if !jwt.is_of_client(&client.id) => {
                return Err(Refusal::InvalidGrant("the token was issued to another client"));
            }
            Found::Unknown if !self.limits.allow(&client.id, self.clock.elapsed()) => {
                tracing::warn!("a client revokes unknown tokens faster than it may");
                return Err(Refusal::Unavailable);
            }
            _ => {}
        }
        Ok(self.revoker.revoke(&token, &found, Asker::Client).await?)
    }
}

impl Limits {
    /// Bounded by the number of clients, which the configuration bounds.
    fn allow(&self, client: &str, now: Duration) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets
            .entry(client.to_owned())
            .or_insert_with(|| Bucket::full(UNKNOWN_BURST));
        bucket.take(now, UNKNOWN_PER_SECOND, UNKNOWN_BURST)
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
    use super::*;

    // PROTOCOL rule 3
    #[test]
    fn unknown_tokens_are_limited_for_each_client() {
        let limits = Limits::default();
        let allowed = |client: &str, at: u64| {
            (0..30)
                .filter(|_| limits.allow(client, Duration::from_secs(at)))
                .count()
        };
        assert_eq!((allowed("a", 100), allowed("b", 100)), (20, 20));
        assert_eq!((allowed("a", 103), allowed("a", 103)), (3, 0));
        assert_eq!(allowed("a", 1000), 20);
    }
}
