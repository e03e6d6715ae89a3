//! `[issuers.introspection]` and `[gateway.fallback]`: whom the gateway asks about tokens.

use toml_span::Spanned;

use super::secret_source;
use super::table::Table;
use super::values;
use crate::introspect::{Budget, Caller, Config, Fallback, MAX_AGE};

/// How the phantom tokens of an issuer are introspected.
pub(super) fn of_issuer(table: &mut Table<'_, '_>) -> Option<Config> {
    let endpoint = table.or("endpoint", None, |value| values::endpoint(value).map(Some));
    let caller = caller(table);
    let max_age = table.or("max_age", MAX_AGE, values::duration("1s", "30s"));
    let budget = budget(table);
    Some(Config {
        endpoint: endpoint?.value,
        caller: caller?,
        max_age: max_age?.value,
        budget: budget?,
    })
}

/// Which token service is asked in the store's place.
pub(super) fn fallback(table: &mut Table<'_, '_>) -> Option<Fallback> {
    let endpoint = table.required("endpoint", values::endpoint);
    let budget = budget(table);
    Some(Fallback {
        endpoint: endpoint?.value,
        budget: budget?,
    })
}

/// A client of the server's, or else this deployment's own gateway.
fn caller(table: &mut Table<'_, '_>) -> Option<Caller> {
    let (id_at, secret_at) = (table.place("client_id"), table.place("client_secret"));
    let id = table.optional("client_id", values::client_id).map(Spanned::take);
    let secret = table
        .table(
            "client_secret",
            secret_source::WRITE_SOURCE,
            secret_source::client_secret,
        )
        .flatten();
    match (id_at, secret_at) {
        (None, None) => Some(Caller::Gateway),
        (Some(_), Some(_)) => Some(Caller::Client {
            id: id?,
            secret: secret?,
        }),
        (Some(at), None) | (None, Some(at)) => {
            table.note(at, WRITE_CALLER);
            None
        }
    }
}

fn budget(table: &mut Table<'_, '_>) -> Option<Budget> {
    let default = Budget::DEFAULT;
    let in_flight = table.or("in_flight", default.in_flight, values::count(1..=10_000));
    let per_second = table.or("per_second", default.per_second, values::count(1..=1_000_000));
    let timeout = table.or("timeout", default.timeout, values::duration("10ms", "10s"));
    Some(Budget {
        in_flight: in_flight?.value,
        per_second: per_second?.value,
        timeout: timeout?.value,
    })
}

const WRITE_CALLER: &str =
    "write `client_id` and `client_secret`, or neither to ask a token service of this deployment";
pub(super) const WRITE_INTROSPECTION: &str =
    "write { client_id = \"…\", client_secret = { file = \"…\" } }: how the gateway asks about its tokens";
pub(super) const WRITE_FALLBACK: &str = "write { endpoint = \"https://…\" }";
