//! Secrets: never in the configuration itself, but in a file of their own or in the environment.

use std::io;

use symbolon_core::{Secret, SecretError, Secrets, sha256};
use toml_span::Spanned;
use zeroize::Zeroizing;

use super::table::Table;
use super::values;
use crate::admin;
use crate::introspect::ClientSecret;
use crate::private_file::{self, ReadError};

/// The deployment secrets, if any are written; the first seals.
pub(super) fn deployment_secrets(root: &mut Table<'_, '_>) -> Option<Secrets> {
    let at = root.place("secret");
    let secrets = root.table_or_tables("secret", WRITE_SOURCE, |table| {
        let Spanned { value: text, span } = secret_text(table)?;
        let secret = text.parse::<Secret>().map_err(|error| error.to_string());
        table.reader.keep(span, secret).map(Spanned::take)
    })?;
    let secrets: Option<Vec<_>> = secrets.into_iter().collect();
    let secrets = Secrets::new(secrets?).map_err(|error| match error {
        SecretError::None => WRITE_SOURCE.to_owned(),
        error => error.to_string(),
    });
    root.reader.keep(at?, secrets).map(Spanned::take)
}

/// The bearer token of operators (RFC 6750 §2.1), long enough that nobody guesses it.
pub(super) fn admin_token(table: &mut Table<'_, '_>) -> Option<admin::Token> {
    let text = secret_text(table)?;
    let token = text.value.trim_end_matches(['\r', '\n']);
    let is_allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~+/".contains(&octet);
    let unpadded = token.trim_end_matches('=');
    if unpadded.len() < 32 || !unpadded.bytes().all(is_allowed) {
        table.note(
            text.span,
            "put a token of at least 32 letters, digits and -._~+/ there",
        );
        return None;
    }
    Some(admin::Token(Zeroizing::new(token.to_owned())))
}

/// The hash of what a caller of the token service authenticates with, long enough that nobody guesses it from that.
pub(super) fn caller_secret(table: &mut Table<'_, '_>) -> Option<[u8; 32]> {
    let text = secret_text(table)?;
    let secret = text.value.trim_end_matches(['\r', '\n']);
    if secret.len() < 32 || !secret.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        table.note(
            text.span,
            "put a secret of at least 32 printable characters there, as `symbolon keys client` makes them",
        );
        return None;
    }
    Some(sha256(secret.as_bytes()))
}

/// What a client of an authorization server authenticates with.
pub(super) fn client_secret(table: &mut Table<'_, '_>) -> Option<ClientSecret> {
    let text = secret_text(table)?;
    let secret = text.value.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        table.note(text.span, "put the client's secret there");
        return None;
    }
    Some(ClientSecret(Zeroizing::new(secret.to_owned())))
}

/// What a store's server is given.
#[cfg(feature = "redis")]
pub(super) fn password(table: &mut Table<'_, '_>) -> Option<crate::store::redis::Password> {
    let text = secret_text(table)?;
    let password = text.value.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        table.note(text.span, "put a password there");
        return None;
    }
    Some(crate::store::redis::Password::new(password.to_owned()))
}

fn secret_text(table: &mut Table<'_, '_>) -> Option<Spanned<Zeroizing<String>>> {
    let both_or_none = table.place("file").is_some() == table.place("env").is_some();
    let (file, variable) = (
        table.optional("file", values::path),
        table.optional("env", values::variable),
    );
    if both_or_none {
        table.note(table.at, WRITE_SOURCE);
        return None;
    }
    if let Some(Spanned { value: name, span }) = file {
        let text = private_file::read(&table.reader.resolve(&name)).map_err(unusable);
        return table.reader.keep(span, text);
    }
    let Spanned { value: name, span } = variable?;
    let text = (table.reader.environment)(&name).map(Zeroizing::new);
    table.reader.keep(
        span,
        text.ok_or("set this environment variable: it is not there, or not text"),
    )
}

/// Why a file with a secret cannot be used.
pub(super) fn unusable(error: ReadError) -> String {
    match error {
        ReadError::Io(error) => unreadable(&error),
        ReadError::Shared => "others than the owner may use this file: chmod 600".to_owned(),
        ReadError::Foreign => {
            "this file is another user's than this process's: chown it, or run as that user".to_owned()
        }
    }
}

/// Why a file that is named cannot be used.
pub(super) fn unreadable(error: &io::Error) -> String {
    format!("name a file that can be read, as seen from the folder of this one: {error}")
}

/// How a secret is referred to.
pub(super) const WRITE_SOURCE: &str = "write { file = \"…\" } or { env = \"…\" }";
