//! The command line of `imgsync-server`. Start reading at [`ServerArguments`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use imgsync_server::auth::DEFAULT_BCRYPT_COST;
use imgsync_server::config::HostPort;

/// A small OCI registry that uses the configuration and the storage folder of the stock registry
#[derive(Debug, Parser)]
#[command(name = "imgsync-server", version, max_term_width = 100)]
#[command(after_help = "\
Without a command, the server is started. `imgsync-server config.yml` is short for
`imgsync-server serve config.yml`.

Examples:
  imgsync-server serve --root /srv/registry --addr 127.0.0.1:5000
  imgsync-server serve /etc/imgsync/config.yml
  imgsync-server config /etc/imgsync/config.yml        Check a configuration before a restart
  imgsync-server htpasswd /etc/imgsync/htpasswd alice  Add a user; prompts for the password")]
pub(crate) struct ServerArguments {
    /// The command; without one, the server is started.
    #[command(subcommand)]
    pub(crate) command: Option<ServerCommand>,
}

/// Returns the arguments with `serve` inserted when the first one is a configuration file: the
/// images of the stock registry are started with the file alone.
pub(crate) fn with_default_command(
    arguments: impl Iterator<Item = OsString>,
) -> impl Iterator<Item = OsString> {
    let mut arguments = arguments.peekable();
    let program = arguments.next();
    let is_config_file = arguments.peek().is_some_and(|argument| {
        let extension = Path::new(argument).extension();
        extension.is_some_and(|extension| extension == "yml" || extension == "yaml")
    });
    let serve = is_config_file.then(|| "serve".into());
    program.into_iter().chain(serve).chain(arguments)
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Start the server
    Serve(ServeArgs),
    /// Print the effective configuration as YAML, with the source of each value
    Config(ServeArgs),
    /// Remove unreferenced blobs (not implemented yet)
    GarbageCollect(GarbageCollectArgs),
    /// Add, change or delete a user in an htpasswd file
    Htpasswd(HtpasswdArgs),
}

/// The arguments that configure the server, beside environment variables.
#[derive(Debug, Args, Default)]
pub(crate) struct ServeArgs {
    /// Configuration file, in the format of the stock registry
    ///
    /// Without CONFIG and --root, the file is $REGISTRY_CONFIGURATION_PATH, or the first that exists
    /// of /etc/docker/registry/config.yml, /etc/distribution/config.yml and
    /// /etc/imgsync/config.yml. Without any file, images are stored in ./data and the server listens
    /// on 127.0.0.1:5000.
    pub(crate) config: Option<PathBuf>,
    /// Storage folder; created if missing
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Address to listen on; port 0 selects a free port, an empty host means all addresses
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: Option<HostPort>,
}

#[derive(Debug, Args)]
pub(crate) struct GarbageCollectArgs {
    /// Print what would be removed, without removing it
    #[arg(short, long)]
    pub(crate) dry_run: bool,
    /// Also remove manifests without a tag
    #[arg(short = 'm', long)]
    pub(crate) delete_untagged: bool,
    /// Print less
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Configuration file
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct HtpasswdArgs {
    /// File with users and password hashes; created if missing
    pub(crate) file: PathBuf,
    /// User name; the password is prompted for, or read from standard input
    pub(crate) user: String,
    /// Delete the user
    #[arg(long)]
    pub(crate) delete: bool,
    /// Cost of the password hash (bcrypt); each step doubles the time of a password check
    #[arg(long, default_value_t = DEFAULT_BCRYPT_COST, conflicts_with = "delete")]
    pub(crate) cost: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_file_alone_means_serve() {
        for (typed, expected) in [
            (&["x", "/a/b.yml"][..], &["x", "serve", "/a/b.yml"][..]),
            (
                &["x", "c.yaml", "--root", "r"],
                &["x", "serve", "c.yaml", "--root", "r"],
            ),
            (&["x", "serve", "c.yml"], &["x", "serve", "c.yml"]),
            (&["x"], &["x"]),
            (&[], &[]),
        ] {
            let arguments: Vec<_> =
                with_default_command(typed.iter().map(OsString::from)).collect();
            assert_eq!(arguments, expected);
        }
    }
}
