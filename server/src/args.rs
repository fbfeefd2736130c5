//! The command line of `imgsync-server`. Start reading at [`ServerArguments`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use imgsync_server::auth::DEFAULT_BCRYPT_COST;
use imgsync_server::config::HostPort;

/// A small OCI registry that uses the configuration and the storage folder of the stock registry
#[derive(Debug, Parser)]
#[command(name = "imgsync-server", version, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Without a command, the server is started: `imgsync-server --root DIR` is short for
`imgsync-server serve --root DIR`.

Examples:
  imgsync-server --root /srv/registry --addr 127.0.0.1:5000
  imgsync-server /etc/imgsync/config.yml
  imgsync-server config /etc/imgsync/config.yml        Check a configuration before a restart
  imgsync-server garbage-collect --root /srv/registry  Free the space of unused blobs
  imgsync-server retention --dry-run /etc/imgsync/config.yml  Show which tags would be removed
  imgsync-server backup /srv/backup --config /etc/imgsync/config.yml
  imgsync-server htpasswd /etc/imgsync/htpasswd alice  Add a user; prompts for the password
  imgsync-server health                                Check whether the server answers")]
pub(crate) struct ServerArguments {
    /// The command; without one, the server is started.
    #[command(subcommand)]
    pub(crate) command: Option<ServerCommand>,

    #[command(flatten)]
    /// The arguments of `serve`, if there is no command.
    pub(crate) serve: ServeArgs,
}

impl ServerArguments {
    /// Returns the command; without one, `serve` with its arguments.
    pub(crate) fn into_command(self) -> ServerCommand {
        self.command.unwrap_or(ServerCommand::Serve(self.serve))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Start the server
    Serve(ServeArgs),
    /// Check the configuration, and print it as YAML with the source of each value
    ///
    /// Fails if the server could not start: also if a file that the configuration names cannot be
    /// used, the storage folder cannot be written, or the machine has no such address. Nothing is
    /// changed, and a server may run meanwhile. The exit code is 2 if the configuration is invalid,
    /// and 1 if only this machine lacks something.
    Config(ConfigArgs),
    /// Check whether the server answers, for health checks of containers
    ///
    /// Takes the arguments of `serve`. The exit code is 0 if the server answers.
    Health(ServeArgs),
    /// Move blobs that no manifest names to the trash, or remove content for good
    ///
    /// Acts through the running server, or alone if none runs. A running server also moves blobs by
    /// itself (imgsync.gc).
    #[command(visible_alias = "gc")]
    GarbageCollect(GarbageCollectArgs),
    /// Remove the tags and images that imgsync.retention does not keep
    ///
    /// Acts through the running server, with its configuration, or alone if none runs. A running
    /// server also does this by itself, before it collects garbage. New rules are only reported the
    /// first time. What is removed can be restored from the trash.
    Retention(RetentionArgs),
    /// Restore deleted tags and images from the trash
    Undelete(UndeleteArgs),
    /// Print the state of the running server: disk, repositories, uploads, trash, certificates
    Status(StatusArgs),
    /// Write a backup of the registry to a folder, or update it
    ///
    /// The server can run meanwhile. The folder becomes a storage folder of its own, with hard links
    /// to the blobs if it is on the same file system, and with copies otherwise.
    Backup(BackupArgs),
    /// Check all stored blobs, manifests and links, and say which images are damaged
    ///
    /// Reads everything. A running server does that with the lowest priority. The exit code is 0 if
    /// nothing is damaged, and 1 if something is, also if it was repaired.
    Check(CheckArgs),
    /// Add, change or delete a user in an htpasswd file
    Htpasswd(HtpasswdArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages to a folder
    Man {
        /// Folder; must exist
        folder: PathBuf,
    },
}

/// The arguments that select the configuration and the storage folder.
#[derive(Debug, Args, Default)]
pub(crate) struct SourceArgs {
    /// Configuration file, in the format of the stock registry
    ///
    /// Without CONFIG and --root, the file is $REGISTRY_CONFIGURATION_PATH, or the first that exists
    /// of /etc/docker/registry/config.yml, /etc/distribution/config.yml and
    /// /etc/imgsync/config.yml. Without any file, images are stored in ./data and the server listens
    /// on 127.0.0.1:5000.
    #[arg(conflicts_with = "config_option")]
    config: Option<PathBuf>,
    /// Configuration file, another way to write CONFIG
    #[arg(long = "config", id = "config_option", value_name = "CONFIG")]
    config_option: Option<PathBuf>,
    /// Storage folder; `serve` creates it if it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
}

impl SourceArgs {
    /// Returns the configuration file, if one is named.
    pub(crate) fn config(&self) -> Option<&PathBuf> {
        self.config.as_ref().or(self.config_option.as_ref())
    }
}

/// The arguments that configure the server, beside environment variables.
#[derive(Debug, Args, Default)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Address to listen on; port 0 selects a free port, an empty host means all addresses
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: Option<HostPort>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Print only warnings and errors, for a check before the start
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GarbageCollectArgs {
    /// Print what would be removed to standard error, without removing it
    #[arg(short, long)]
    pub(crate) dry_run: bool,
    /// Also remove manifests without a tag
    #[arg(short = 'm', long)]
    pub(crate) delete_untagged: bool,
    /// Print only the totals
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Remove content for good, also from the trash, instead of collecting garbage: a repository,
    /// REPOSITORY:TAG, REPOSITORY@DIGEST, or a digest in all repositories
    ///
    /// Use this option if somebody has pushed a secret. What other images need stays, and is listed.
    #[arg(long, value_name = "TARGET", conflicts_with_all = ["delete_untagged", "quiet"])]
    pub(crate) purge: Option<String>,
    /// Purge content even if other images need it; they are incomplete then
    #[arg(long, requires = "purge")]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RetentionArgs {
    /// Print what would be removed and why, without removing it
    #[arg(short, long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UndeleteArgs {
    /// Target to restore: a repository, REPOSITORY:TAG, REPOSITORY@DIGEST, or a digest
    #[arg(required_unless_present = "list")]
    pub(crate) target: Option<String>,
    /// List what can be restored. The only argument is CONFIG then
    #[arg(long)]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

impl UndeleteArgs {
    /// Returns the target, `None` for the list, and where to find it.
    ///
    /// # Errors
    /// Returns a message if a list has a target, too.
    pub(crate) fn into_target(self) -> Result<(Option<String>, SourceArgs), &'static str> {
        let Self {
            target,
            list,
            mut source,
        } = self;
        if !list {
            return Ok((target, source));
        }
        if target.is_some() && source.config().is_some() {
            return Err("--list has no target: imgsync-server undelete --list [CONFIG]");
        }
        source.config = source.config.or(target.map(PathBuf::from));
        Ok((None, source))
    }
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// List all repositories, up to 100,000, instead of the 20 largest ones
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Folder of the backup: missing, empty, or an earlier backup
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Move damaged blobs to a quarantine, so that the next push sends them again, and write damaged
    /// links again
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print JSON lines to standard output
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
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
    fn without_a_command_the_arguments_are_those_of_serve() {
        let parse = |words: &[&str]| {
            let words = ["imgsync-server"].iter().chain(words);
            match ServerArguments::try_parse_from(words).map(ServerArguments::into_command) {
                Ok(ServerCommand::Serve(ServeArgs { source, addr })) => {
                    let text = |path: Option<&PathBuf>| path.map(|path| path.display().to_string());
                    let addr = addr.map(|addr| addr.to_string());
                    let (config, root) = (text(source.config()), text(source.root.as_ref()));
                    [config, root, addr].map(Option::unwrap_or_default)
                }
                Ok(other) => panic!("another command: {other:?}"),
                Err(error) => [error.to_string(), String::new(), String::new()],
            }
        };
        assert_eq!(parse(&[]), ["", "", ""]);
        assert_eq!(parse(&["/a/b.yml"]), ["/a/b.yml", "", ""]);
        assert_eq!(parse(&["c", "--root", "r"]), ["c", "r", ""]);
        assert_eq!(parse(&["--root=r", "--addr", ":5000"]), ["", "r", ":5000"]);
        assert_eq!(parse(&["serve", "c.yml"]), ["c.yml", "", ""]);
        assert_eq!(parse(&["serve", "--config", "c.yml"]), ["c.yml", "", ""]);
        assert_eq!(parse(&["--config=c.yml"]), ["c.yml", "", ""]);
        let error = &parse(&["--addr", "127.0.0.1"])[0];
        assert!(error.contains("for example 127.0.0.1:5000"), "{error}");
    }

    #[test]
    fn the_target_and_the_configuration_of_undelete() {
        let parse = |words: &[&str]| {
            let words = ["imgsync-server", "undelete"].iter().chain(words);
            let parsed = ServerArguments::try_parse_from(words);
            let Ok(ServerCommand::Undelete(args)) = parsed.map(ServerArguments::into_command)
            else {
                return None;
            };
            let (target, source) = args.into_target().ok()?;
            Some((
                target,
                source.config().map(|path| path.display().to_string()),
            ))
        };
        let text = |text: &str| Some(text.to_owned());
        let with_config = Some((text("app:v1"), text("c.yml")));
        assert_eq!(parse(&["app:v1"]), Some((text("app:v1"), None)));
        assert_eq!(parse(&["app:v1", "c.yml"]), with_config);
        assert_eq!(parse(&["app:v1", "--config", "c.yml"]), with_config);
        assert_eq!(parse(&["--list"]), Some((None, None)));
        for words in [["--list", "c.yml"], ["--list", "--config=c.yml"]] {
            assert_eq!(parse(&words), Some((None, text("c.yml"))));
        }
        assert_eq!(parse(&["--list", "app:v1", "c.yml"]), None);
        assert_eq!(parse(&[]), None);
    }
}
