//! Commands for the operator: they act through the running server, or alone if none runs.
//!
//! A running server listens on a socket in the storage folder ([`listener`]). Without one, the
//! command opens the folder itself. Both ways execute the same code ([`commands`]). Start reading at
//! [`run_command`].
//!
//! The protocol: the client sends a [`ControlCommand`] as a line of JSON. The server sends lines of
//! JSON, each an [`OutputLine`], of which the last is the result.

mod backup;
mod check;
mod commands;
mod garbage_collect;
mod listener;
mod purge;
mod retention;
mod status;
mod target;
mod undelete;

use std::fmt::Display;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use imgsync_oci::units::format_count;
use serde::{Deserialize, Serialize};

pub use self::backup::run_backup;
pub(super) use self::listener::{open_control_socket, serve_commands};

use super::Error;
use crate::config::Config;
use crate::registry::Registry;
use crate::status::ServerState;
use crate::store;

/// Bounds the length of a line in either direction.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// A command of the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum ControlCommand {
    /// Collect garbage.
    GarbageCollect {
        /// Whether nothing is removed.
        is_dry_run: bool,
        /// Whether manifests without a tag are removed, too.
        deletes_untagged: bool,
        /// Whether only the totals are printed.
        is_quiet: bool,
    },
    /// Apply the rules of retention.
    Retention {
        /// Whether nothing is removed.
        is_dry_run: bool,
    },
    /// List what can be restored.
    ListTrash,
    /// Remove content for good, also from the trash.
    Purge {
        /// `REPOSITORY`, `REPOSITORY:TAG`, `REPOSITORY@DIGEST` or `DIGEST`.
        target: String,
        /// Whether it is removed even if other images need it.
        is_forced: bool,
        /// Whether nothing is removed.
        is_dry_run: bool,
    },
    /// Print the status of the running server.
    Status {
        /// Whether it is printed as JSON.
        is_json: bool,
        /// Whether all repositories are listed.
        lists_all: bool,
    },
    /// Restore a repository, a tag, a manifest, or a digest in all repositories.
    Undelete {
        /// `REPOSITORY`, `REPOSITORY:TAG`, `REPOSITORY@DIGEST` or `DIGEST`.
        target: String,
    },
    /// Check everything that is stored.
    Check {
        /// Whether damage is repaired as far as that is possible.
        repairs: bool,
        /// Whether the output is JSON.
        is_json: bool,
    },
    /// Collect no garbage until the client closes the connection. A line of output says that this
    /// has begun.
    PauseCollection,
}

/// A line that a command prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OutputLine {
    /// A part of the result, for standard output.
    Output(String),
    /// Details for standard error.
    Detail(String),
    /// The end of a command that succeeded.
    Success,
    /// The end of a command that failed, with the reason.
    Failure(String),
}

/// The parts of the server on which a command acts.
struct CommandContext<'a> {
    registry: &'a Registry,
    config: &'a Config,
    /// The running server; `None` if none runs.
    server: Option<&'a ServerState>,
    /// Whether nobody waits for the output any more.
    is_gone: &'a (dyn Fn() -> bool + Sync),
}

/// Where a command prints to.
pub trait CommandOutput: Send {
    /// Prints a line of the result to standard output.
    fn output(&mut self, line: &str);
    /// Prints a line of details to standard error.
    fn detail(&mut self, line: &str);
}

/// Runs a command in the storage folder of a configuration: through the server that uses the folder,
/// or alone if none does.
///
/// # Errors
/// [`Error::Store`] if the folder cannot be used; [`Error::Command`] if the command failed.
pub fn run_command(
    config: &Config,
    command: &ControlCommand,
    output: &mut dyn CommandOutput,
) -> Result<(), Error> {
    let root = &config.storage.root;
    match UnixStream::connect(Registry::control_socket(root)) {
        Ok(stream) => run_remote(stream, command, output),
        Err(error) if matches!(command, ControlCommand::Status { .. }) => Err(match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::NotRunning(root.clone()),
            _ => Error::Command(format!(
                "cannot reach the server on the storage folder {root:?}: {error}; run the command as the \
                 user of the server, or as root"
            )),
        }),
        // No server listens: it does not run, or it is an older version, which keeps the lock.
        Err(_) => run_alone(config, command, output),
    }
}

fn run_alone(
    config: &Config,
    command: &ControlCommand,
    output: &mut dyn CommandOutput,
) -> Result<(), Error> {
    check_is_store(&config.storage.root)?;
    // A volume that is mounted read-only can be checked, too.
    let is_read_only = matches!(command, ControlCommand::Check { repairs: false, .. });
    let registry = Registry::open_for_command(&config.storage.root, is_read_only)?;
    let context = CommandContext {
        registry: &registry,
        config,
        server: None,
        is_gone: &|| false,
    };
    commands::execute(&context, command, output).map_err(Error::Command)
}

/// Checks that a folder exists. A command must not create a store where there is none.
fn check_is_store(root: &Path) -> Result<(), Error> {
    if root.is_dir() {
        return Ok(());
    }
    let text = format!("there is no registry in {root:?}");
    Err(Error::Command(text))
}

fn run_remote(
    stream: UnixStream,
    command: &ControlCommand,
    output: &mut dyn CommandOutput,
) -> Result<(), Error> {
    let mut lines = send_command(stream, command)?;
    loop {
        match read_line(&mut lines)? {
            OutputLine::Output(text) => output.output(&text),
            OutputLine::Detail(text) => output.detail(&text),
            OutputLine::Success => return Ok(()),
            OutputLine::Failure(text) => return Err(Error::Command(text)),
        }
    }
}

/// Sends a command to the server. Returns the reader of the lines that it sends.
fn send_command(
    mut stream: UnixStream,
    command: &ControlCommand,
) -> Result<BufReader<UnixStream>, Error> {
    let mut line = serde_json::to_string(command).map_err(connection_error)?;
    line.push('\n');
    stream
        .write_all(line.as_bytes())
        .map_err(connection_error)?;
    Ok(BufReader::new(stream))
}

/// Reads the next line that the server sends.
fn read_line(lines: &mut BufReader<UnixStream>) -> Result<OutputLine, Error> {
    let mut line = String::new();
    let read = lines.by_ref().take(MAX_LINE_BYTES).read_line(&mut line);
    if read.map_err(connection_error)? == 0 {
        return Err(connection_error("it ended before the command did"));
    }
    serde_json::from_str(&line).map_err(connection_error)
}

fn connection_error(error: impl Display) -> Error {
    Error::Command(format!("the connection to the server failed: {error}"))
}

/// Returns the text of an error for the operator.
fn error_text(error: impl Into<crate::registry::Error>) -> String {
    let error: crate::registry::Error = error.into();
    match error {
        crate::registry::Error::Store(store::Error::Full { .. }) => {
            format!("{error}; free some disk space first")
        }
        error => error.to_string(),
    }
}

/// Formats a number of stored objects, of which manifests are blobs, too.
fn count_blobs<T: Display + PartialEq + From<u8>>(count: T) -> String {
    format_count(count, "blob or manifest", "blobs and manifests")
}
