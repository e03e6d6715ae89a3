//! `symbolon keys`: keys and secrets.

use std::num::NonZeroU8;
use std::path::PathBuf;

use clap::Subcommand;
use symbolon::token_service::mint;
use symbolon_core::{Algorithm, Secret, SigningKey, base64url, random, sha256};
use zeroize::Zeroizing;

use super::{Outcome, show};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Makes a signing key in the data folder of a token service; replaces none
    Generate {
        /// The data folder
        #[arg(long, value_name = "FOLDER")]
        data: PathBuf,
        /// ES256, EdDSA or RS256
        #[arg(long, default_value = "ES256", value_parser = signing_algorithm)]
        algorithm: Algorithm,
    },
    /// Makes the key that is to follow the signing key; a token service that runs finds it, publishes it, and signs
    /// with it when whoever keeps the JWK Set has asked again
    Rotate {
        /// The data folder
        #[arg(long, value_name = "FOLDER")]
        data: PathBuf,
        /// ES256, `EdDSA` or RS256 [default: that of the key that signs]
        #[arg(long, value_parser = signing_algorithm)]
        algorithm: Option<Algorithm>,
    },
    /// Prints a fresh deployment secret
    Secret {
        /// Its number, 1 to 255; another one than the secret that it is to replace
        #[arg(long, default_value = "1", value_parser = a_number)]
        number: NonZeroU8,
    },
    /// Prints a fresh secret for a client, and the line for the token service's settings
    Client,
}

pub(super) fn run(command: Command) -> Outcome {
    let text = match command {
        Command::Generate { data, algorithm } => {
            let key = mint::generate_key(&data, algorithm)?;
            let file = mint::key_file(&data, algorithm);
            format!("{} with kid {}\n", file.display(), key.kid())
        }
        Command::Rotate { data, algorithm } => {
            let present = mint::signing_algorithm(&data)?.unwrap_or(Algorithm::Es256);
            let key = mint::make_next_key(&data, algorithm.unwrap_or(present))?;
            let begins = if key.algorithm() == present {
                "within a minute of the token service's running".to_owned()
            } else {
                format!(
                    "when the token service starts with {} first in `algorithms`",
                    key.algorithm()
                )
            };
            format!(
                "kid {} is published {begins}, and signs {} minutes later\n",
                key.kid(),
                mint::PUBLISHED_BEFORE_USE.as_secs() / 60
            )
        }
        Command::Secret { number } => format!("{}\n", *Secret::generate(number).expose()),
        Command::Client => {
            let secret = Zeroizing::new(base64url::encode(&random::<32>()));
            let hash = base64url::encode(&sha256(secret.as_bytes()));
            format!(
                "client_secret  {}\nsettings       secret_sha256 = \"{hash}\"\n",
                *secret
            )
        }
    };
    Ok(show(&text)?)
}

fn a_number(text: &str) -> Result<NonZeroU8, String> {
    text.parse()
        .map_err(|_| "write a number from 1 to 255".to_owned())
}

fn signing_algorithm(name: &str) -> Result<Algorithm, String> {
    let known = Algorithm::from_name(name).filter(|algorithm| SigningKey::ALGORITHMS.contains(algorithm));
    known.ok_or_else(|| "tokens are minted with ES256, EdDSA or RS256".to_owned())
}
