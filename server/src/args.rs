//! What was typed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use imgsync_server::auth::DEFAULT_BCRYPT_COST;
use imgsync_server::config::HostPort;

/// A small registry that keeps the stock registry's own tree, and reads its configuration.
#[derive(Debug, Parser)]
#[command(name = "imgsync-server", version, max_term_width = 100)]
#[command(after_help = "\
Without a command it serves; a first word that ends in .yml or .yaml is the file to serve by.

Examples:
  imgsync-server serve --root /srv/registry --addr 127.0.0.1:5000
  imgsync-server serve /etc/imgsync/config.yml
  imgsync-server config /etc/imgsync/config.yml     check it, before a restart
  imgsync-server htpasswd /etc/imgsync/htpasswd alice")]
pub(crate) struct ServerArguments {
    /// What to do; without a command, serve.
    #[command(subcommand)]
    pub(crate) command: Option<ServerCommand>,
}

/// The words as typed, with the command that the stock registry's images leave out where the first
/// word is a configuration file.
pub(crate) fn with_default_command(
    words: impl Iterator<Item = OsString>,
) -> impl Iterator<Item = OsString> {
    let mut words = words.peekable();
    let program = words.next();
    let is_config = words.peek().is_some_and(|word| {
        let end = Path::new(word).extension();
        end.is_some_and(|end| end == "yml" || end == "yaml")
    });
    let serve = is_config.then(|| "serve".into());
    program.into_iter().chain(serve).chain(words)
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Serve a folder as a registry.
    Serve(ServeArgs),
    /// Print the configuration that counts, and where each value came from.
    Config(ServeArgs),
    /// Remove what no manifest needs (not there yet).
    GarbageCollect(GarbageCollectArgs),
    /// Add, change or remove a user in a file of logins.
    Htpasswd(HtpasswdArgs),
}

/// What a configuration comes from, beside the environment.
#[derive(Debug, Args, Default)]
pub(crate) struct ServeArgs {
    /// The configuration file, as the stock registry has it. Without it, and without --root, the
    /// file that REGISTRY_CONFIGURATION_PATH names, or the first of
    /// /etc/docker/registry/config.yml, /etc/distribution/config.yml and /etc/imgsync/config.yml
    /// that is there; without any, ./data and 127.0.0.1:5000.
    pub(crate) config: Option<PathBuf>,
    /// The folder that holds everything; made where it is missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Where to listen; port 0 takes one that is free, no host means every address.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: Option<HostPort>,
}

#[derive(Debug, Args)]
pub(crate) struct GarbageCollectArgs {
    /// Only say what would be removed.
    #[arg(short, long)]
    pub(crate) dry_run: bool,
    /// Remove manifests that no tag names as well.
    #[arg(short = 'm', long)]
    pub(crate) delete_untagged: bool,
    /// Say less.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The configuration file.
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct HtpasswdArgs {
    /// The file; made where it is missing.
    pub(crate) file: PathBuf,
    /// The user. The password is asked for, or read from standard input.
    pub(crate) user: String,
    /// Remove the user.
    #[arg(long)]
    pub(crate) delete: bool,
    /// How much work a password is to check: one more doubles it.
    #[arg(long, default_value_t = DEFAULT_BCRYPT_COST, conflicts_with = "delete")]
    pub(crate) cost: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_alone_is_served() {
        for (typed, meant) in [
            (&["x", "/a/b.yml"][..], &["x", "serve", "/a/b.yml"][..]),
            (
                &["x", "c.yaml", "--root", "r"],
                &["x", "serve", "c.yaml", "--root", "r"],
            ),
            (&["x", "serve", "c.yml"], &["x", "serve", "c.yml"]),
            (&["x"], &["x"]),
            (&[], &[]),
        ] {
            let words: Vec<_> = with_default_command(typed.iter().map(OsString::from)).collect();
            assert_eq!(words, meant);
        }
    }
}
