//! Who is asking (RFC 6749 §2.3.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use symbolon_core::{equal_in_constant_time, sha256};
use zeroize::Zeroizing;

use super::form::Form;
use super::{Client, TokenService};

/// The client could not be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unauthenticated {
    /// Two ways of authentication at once, or a field that cannot be read.
    Malformed(&'static str),
    /// No such client, or not its secret. `challenge` if it tried with `Authorization`.
    Refused { challenge: bool },
}

struct Credentials {
    id: String,
    secret: Zeroizing<String>,
    in_header: bool,
}

impl TokenService {
    /// The client that sent the request.
    pub(super) fn authenticate(&self, headers: &HeaderMap, form: &Form) -> Result<&Client, Unauthenticated> {
        let Credentials {
            id,
            secret,
            in_header,
        } = Credentials::read(headers, form)?;
        let client = self.clients.iter().find(|client| client.id == id);
        // The comparison is made for unknown clients too, so that its time does not tell them.
        let expected = client.map_or([0; 32], |client| client.secret_sha256);
        let secret_is_right = equal_in_constant_time(&sha256(secret.as_bytes()), &expected);
        client
            .filter(|_| secret_is_right)
            .ok_or(Unauthenticated::Refused { challenge: in_header })
    }
}

impl Credentials {
    fn read(headers: &HeaderMap, form: &Form) -> Result<Self, Unauthenticated> {
        let in_body = (form.one("client_id"), form.one("client_secret"));
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let header = fields.next();
        if fields.next().is_some() {
            return Err(Unauthenticated::Malformed("more than one Authorization field"));
        }
        match (header, in_body) {
            (Some(_), (_, Some(_))) => Err(Unauthenticated::Malformed(
                "client credentials in Authorization and in the body",
            )),
            (Some(header), (id, None)) => {
                let basic = header.to_str().ok().and_then(Self::from_basic);
                let credentials = basic.ok_or(Unauthenticated::Refused { challenge: true })?;
                if id.is_some_and(|id| id != credentials.id) {
                    return Err(Unauthenticated::Malformed("two different client ids"));
                }
                Ok(credentials)
            }
            (None, (Some(id), Some(secret))) => {
                let secret = Zeroizing::new(secret.to_owned());
                Ok(Self {
                    id: id.to_owned(),
                    secret,
                    in_header: false,
                })
            }
            (None, _) => Err(Unauthenticated::Refused { challenge: false }),
        }
    }

    /// Id and secret are form-encoded before they are joined and put into base64.
    fn from_basic(field: &str) -> Option<Self> {
        let (scheme, value) = field.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let joined = Zeroizing::new(STANDARD.decode(value.trim()).ok()?);
        let (id, secret) = std::str::from_utf8(&joined).ok()?.split_once(':')?;
        let decode = |text: &str| -> Option<String> {
            // As the value of a form of one parameter: `+` is a space, `%` an octet.
            if text.contains('&') {
                return None;
            }
            let form = Zeroizing::new(format!("v={text}"));
            form_urlencoded::parse(form.as_bytes())
                .next()
                .map(|(_, value)| value.into_owned())
        };
        Some(Self {
            id: decode(id)?,
            secret: Zeroizing::new(decode(secret)?),
            in_header: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_form_encoded_inside() {
        let field = format!("bAsIc {}", STANDARD.encode("a%3Ab:se%2Bc+ret"));
        let credentials = Credentials::from_basic(&field).unwrap();
        assert_eq!(
            (credentials.id.as_str(), credentials.secret.as_str()),
            ("a:b", "se+c ret")
        );
        for field in ["Basic", "Basic !", "Bearer YTpi", "Basic YQ=="] {
            assert!(Credentials::from_basic(field).is_none(), "{field}");
        }
    }
}
