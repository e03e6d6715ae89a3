//! The commands. What they show goes to standard output; logs and errors go to standard error.

#![allow(clippy::print_stderr, reason = "a command line speaks to who called it")]

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use symbolon::config::SCHEMA;
use symbolon::private_file;
use symbolon::process::Process;
use symbolon_core::Profile;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

mod check;
mod dev;
mod init;
mod keys;
mod lookup;
mod operator;
mod revoke;
mod serve;
mod token;

/// What a command ends with.
pub(crate) type Outcome = Result<(), Failure>;

/// Why it did not do it.
type Failure = Box<dyn Error + Send + Sync>;

/// Split tokens for any OAuth 2.0 authorization server: clients hold an opaque token, APIs get the whole JWT.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Symbolon {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs token service, gateway and a demo API on loopback; shows one token's way, prints curl lines to try
    Dev(dev::Arguments),
    /// Writes the files of a common set-up, to start from
    Init(init::Arguments),
    /// Tells every mistake in a file at once, or that it is right; with --live, whether what it names fits
    Check(check::Arguments),
    /// Runs the roles that a file names
    Serve {
        /// The configuration (TOML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Does the pattern by hand, on standard input
    #[command(subcommand)]
    Token(token::Command),
    /// Makes keys and secrets
    #[command(subcommand)]
    Keys(keys::Command),
    /// Revokes a token (on standard input), or the JWT with a jti, through the admin listener of a running process
    Revoke(revoke::Arguments),
    /// Tells what there is of a token (on standard input), through the admin listener
    Lookup(lookup::Arguments),
    /// Prints a JSON Schema of the file that `serve` reads
    Schema,
}

impl Symbolon {
    /// Runs the command.
    pub(crate) async fn run(self) -> Outcome {
        keep_memory_private();
        match self.command {
            Command::Dev(arguments) => dev::run(arguments).await,
            Command::Init(arguments) => init::run(&arguments),
            Command::Check(arguments) => check::run(arguments).await,
            Command::Serve { config } => serve::run(&config).await,
            Command::Token(command) => token::run(&command),
            Command::Keys(command) => keys::run(command),
            Command::Revoke(arguments) => revoke::run(arguments).await,
            Command::Lookup(arguments) => lookup::run(arguments).await,
            Command::Schema => Ok(show(SCHEMA)?),
        }
    }
}

/// Tells why.
pub(crate) fn fail(error: &(impl fmt::Display + ?Sized)) -> ExitCode {
    eprintln!("symbolon: {error}");
    ExitCode::FAILURE
}

/// How an issuer's access tokens look, by its name.
fn a_profile(name: &str) -> Result<Profile, String> {
    let profile = Profile::named(name).cloned();
    profile.ok_or_else(|| {
        format!(
            "a profile is {}",
            Profile::ALL.map(|profile| profile.name).join(" or ")
        )
    })
}

/// All of standard input, without the line end behind it.
fn input() -> io::Result<Zeroizing<String>> {
    if io::stdin().is_terminal() {
        eprintln!("reading standard input; Ctrl-D ends it");
    }
    let mut text = Zeroizing::new(String::new());
    io::stdin().lock().take(1024 * 1024).read_to_string(&mut text)?;
    let end = text.trim_end().len();
    text.truncate(end);
    Ok(text)
}

/// What stands in a file that nobody but its owner may use, without the line end behind it.
fn private_text(path: &Path) -> Result<Zeroizing<String>, String> {
    let mut text = private_file::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let end = text.trim_end().len();
    text.truncate(end);
    Ok(text)
}

/// Writes to standard output. Whoever reads it may have seen enough and be gone (`| head`): that is no failure.
fn show(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// What asks the process to stop: Ctrl-C, or SIGTERM from whoever supervises it. Once this is there, neither ends it
/// on the spot, so that it leaves nothing behind.
struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignal {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Finishes what is under way, unless it is asked to stop once more.
async fn drain(process: Process, stop: &mut StopSignal) {
    tokio::select! {
        () = process.stop() => {}
        () = stop.received() => tracing::warn!("asked to stop again: what was under way is cut off"),
    }
}

/// Tokens, keys and secrets in memory go into no core dump, and to no debugger of another process (OP-01, OP-03).
fn keep_memory_private() {
    // It fails for other values alone (prctl(2)).
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// Takes as many descriptors as the system lets this process have. The usual 1,024 are fewer than a listener takes
/// connections: whoever holds so many on one of them would leave none to the others, nor to resource servers.
fn take_all_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let taken = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most).map(|()| most));
    match taken {
        Ok(most) if most < ENOUGH_DESCRIPTORS => {
            tracing::warn!(
                most,
                "few files may be open: raise the limit (ulimit -n, LimitNOFILE) or lower max_connections"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files was not raised"),
    }
}

/// For a gateway with as many connections as it takes unless it is told another number, and as many behind it.
const ENOUGH_DESCRIPTORS: u64 = 20_000;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    // HT-07
    #[test]
    fn as_many_files_may_be_open_as_the_system_allows() {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, most - 1, most).unwrap();
        super::take_all_descriptors();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((most, most)));
    }

    // OP-01, OP-03
    #[test]
    fn memory_goes_into_no_core_dump() {
        super::keep_memory_private();
        assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
    }
}
