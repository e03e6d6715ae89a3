//! The commands. What they show goes to standard output; logs and errors go to standard error.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks to who called it"
)]

use std::error::Error;
use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use zeroize::Zeroizing;

mod dev;
mod keys;
mod revoke;
mod serve;
mod token;

/// What a command ends with.
pub(crate) type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Split tokens for any OAuth 2.0 authorization server: clients hold an opaque token, APIs get the whole JWT.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Symbolon {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Token service, gateway and a demo API on loopback; shows one token's way, prints curl lines to try
    Dev(dev::Arguments),
    /// The roles that a file names
    Serve {
        /// The file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// The pattern by hand, on standard input
    #[command(subcommand)]
    Token(token::Command),
    /// Keys and secrets
    #[command(subcommand)]
    Keys(keys::Command),
    /// Revokes a token (on standard input), or the JWT with a jti, through the admin listener
    Revoke(revoke::Arguments),
}

impl Symbolon {
    /// Runs the command.
    pub(crate) async fn run(self) -> Outcome {
        match self.command {
            Command::Dev(arguments) => dev::run(arguments).await,
            Command::Serve { config } => serve::run(&config).await,
            Command::Token(command) => token::run(&command),
            Command::Keys(command) => keys::run(command),
            Command::Revoke(arguments) => revoke::run(arguments).await,
        }
    }
}

/// Tells why.
pub(crate) fn fail(error: &(impl fmt::Display + ?Sized)) -> ExitCode {
    eprintln!("symbolon: {error}");
    ExitCode::FAILURE
}

/// All of standard input, without the line end behind it.
fn input() -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .take(1024 * 1024)
        .read_to_string(&mut text)?;
    let end = text.trim_end().len();
    text.truncate(end);
    Ok(text)
}

/// Ends when the process is asked to: Ctrl-C, or SIGTERM from whoever supervises it.
async fn asked_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
