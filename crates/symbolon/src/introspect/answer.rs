//! What a server says of a token: one of several dialects, read in one way or not at all.

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use symbolon_core::json::{self, Value};
use zeroize::Zeroizing;

use super::AskError;

/// What is asked for. Nothing beside it: Keycloak compares the whole field, and puts the JWT into its answer in JSON for
/// this one alone.
pub(super) const ACCEPT: &str = "application/jwt";

/// The members of an answer in JSON that hold the JWT: Keycloak's, and that of Curity's token procedures.
const MEMBERS: [&str; 2] = ["jwt", "phantom_token"];

/// The JWT that the token stands for; none if it stands for nothing. Whatever else is said is a fault of the server or
/// of its settings, and no word on the token.
pub(super) fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<Zeroizing<String>>, AskError> {
    match status {
        StatusCode::OK => {}
        // Curity's word for a token that is none.
        StatusCode::NO_CONTENT => return Ok(None),
        status => return Err(AskError::Status(status.as_u16())),
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (types.next(), types.next()) else {
        return Err(AskError::Malformed(
            "its answer does not say once of what type it is",
        ));
    };
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    match kind.to_ascii_lowercase().as_str() {
        "application/jwt" => bare(body).map(Some),
        "application/json" => in_json(body),
        // RFC 9701: what the server says of the token, signed for the one who asked. No API may get that as a token.
        "application/token-introspection+jwt" => Err(AskError::Malformed(
            "its answer is signed, and no access token (RFC 9701)",
        )),
        _ => Err(AskError::Malformed("its answer is neither a JWT nor JSON")),
    }
}

fn bare(body: &[u8]) -> Result<Zeroizing<String>, AskError> {
    let text = std::str::from_utf8(body).map_err(|_| AskError::Malformed("its answer is no text"))?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn in_json(body: &[u8]) -> Result<Option<Zeroizing<String>>, AskError> {
    let members =
        json::parse_object(body).map_err(|_| AskError::Malformed("its answer is no strict JSON"))?;
    match members.get("active") {
        Some(Value::Bool(false)) => return Ok(None),
        Some(Value::Bool(true)) => {}
        _ => {
            return Err(AskError::Malformed(
                "its answer does not say whether the token is active",
            ));
        }
    }
    let mut jwts = MEMBERS.iter().filter_map(|name| members.get(*name));
    match (jwts.next(), jwts.next()) {
        (None, _) => Err(AskError::ClaimsOnly),
        (Some(Value::String(jwt)), None) => Ok(Some(Zeroizing::new(jwt.clone()))),
        (Some(_), None) => Err(AskError::Malformed("the JWT in its answer is no text")),
        (Some(_), Some(_)) => Err(AskError::Malformed("its answer has two JWTs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = "application/json";

    fn read_of(status: u16, kinds: &[&str], body: &str) -> Result<Option<String>, AskError> {
        let mut headers = HeaderMap::new();
        for kind in kinds {
            headers.append(CONTENT_TYPE, kind.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let jwt = read(status, &headers, body.as_bytes())?;
        Ok(jwt.map(|jwt| jwt.to_string()))
    }

    // peers.md §1.3: the dialects
    #[test]
    fn every_dialect_gives_the_jwt() {
        for (kind, body) in [
            ("application/jwt", "a.b.c"),
            ("Application/JWT; charset=utf-8", "a.b.c\r\n"),
            (JSON, r#"{"active":true,"jwt":"a.b.c"}"#),
            (
                "application/json;charset=UTF-8",
                r#"{"sub":"x","jwt":"a.b.c","active":true}"#,
            ),
            (JSON, r#"{"active":true,"phantom_token":"a.b.c"}"#),
        ] {
            assert_eq!(
                read_of(200, &[kind], body),
                Ok(Some("a.b.c".to_owned())),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_token_that_stands_for_nothing() {
        assert_eq!(read_of(204, &[], ""), Ok(None));
        assert_eq!(read_of(200, &[JSON], r#"{"active":false}"#), Ok(None));
        assert_eq!(
            read_of(200, &[JSON], r#"{"active":false,"jwt":"a.b.c"}"#),
            Ok(None)
        );
    }

    #[test]
    fn claims_alone_are_told_apart() {
        let body = r#"{"active":true,"sub":"x","exp":1}"#;
        assert_eq!(read_of(200, &[JSON], body), Err(AskError::ClaimsOnly));
    }

    #[test]
    fn nothing_else_is_a_word_on_the_token() {
        for status in [201, 301, 302, 400, 401, 403, 404, 429, 500, 503] {
            let refused = read_of(status, &[JSON], r#"{"active":false}"#);
            assert_eq!(refused, Err(AskError::Status(status)));
        }
        for (kinds, body) in [
            (&[][..], r#"{"active":false}"#),
            (&[JSON, JSON], r#"{"active":false}"#),
            (&["text/html"], "<html>"),
            (&["application/token-introspection+jwt"], "a.b.c"),
            (&[JSON], ""),
            (&[JSON], "[]"),
            (&[JSON], "{}"),
            (&[JSON], r#"{"active":"false"}"#),
            (&[JSON], r#"{"active":null}"#),
            (&[JSON], r#"{"active":false,"active":true}"#),
            (&[JSON], r#"{"active":true,"jwt":"a.b.c","jwt":"d.e.f"}"#),
            (
                &[JSON],
                r#"{"active":true,"jwt":"a.b.c","phantom_token":"d.e.f"}"#,
            ),
            (&[JSON], r#"{"active":true,"jwt":1}"#),
            (&[JSON], r#"{"active":true,"jwt":null}"#),
            (&[JSON], r#"{"active":false} {}"#),
        ] {
            let refused = read_of(200, kinds, body);
            assert!(
                matches!(refused, Err(AskError::Malformed(_))),
                "{body}: {refused:?}"
            );
        }
    }
}
