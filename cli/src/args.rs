//! Command-line options, parsed into typed values.
//!
//! The doc comments of the options are the text of `--help`. This module reads no files and sends no
//! requests. Start reading at [`Cli`].
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "brackets in the text of --help mark optional parts"
)]

mod browse;
mod content_name;
mod delete;
mod doctor;
mod manifest_name;
mod mirror;
mod registry;
mod scheme;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use imgsync_oci::manifest::Platform;
use imgsync_oci::units::parse_bytes;
use imgsync_oci::{Registry, RemoteName, Tag};

use crate::image::platform::platform;
use crate::report::{TransferVerb, Verbosity};

pub use browse::{DiffArgs, InspectArgs, LsArgs, NewTag, OtherImage, TagArgs};
pub use content_name::ContentName;
pub use delete::{RmArgs, UndeleteArgs};
pub use doctor::DoctorArgs;
pub use manifest_name::ManifestName;
pub use mirror::{MirrorArgs, PullArgs, TagFilterArgs};
pub use registry::{AccessArgs, ConnectArgs, SourceAccessArgs};
pub use scheme::{WithScheme, split_scheme};

/// Push, mirror and pull container images, and transfer only what is missing.
#[derive(Debug, Parser)]
#[command(name = "imgsync", version, about, max_term_width = 100)]
#[command(after_help = "\
Examples:
  imgsync push app:v1 registry.example.com               Push an image from the local Docker
  imgsync push registry.example.com/app:v1               The same, as with docker push
  imgsync push app:v1 registry.example.com --dry-run     Show what would be uploaded
  imgsync mirror nginx:1.27 registry.example.com         Copy an image between registries
  imgsync pull registry.example.com/app:v1               Pull an image into the local Docker
  imgsync ls registry.example.com/app                    List the tags of a repository
  imgsync tag registry.example.com/app:v1 stable         Give an image another tag
  imgsync diff registry.example.com/app:v1 registry.example.com/app:v2
                                                         Show what has changed
  imgsync doctor registry.example.com/app                Find out why a push fails

Run 'imgsync COMMAND --help' for the options, examples and exit codes of a command.")]
pub struct Cli {
    // The display order puts these options behind those of each command.
    /// Print only errors and the final result
    #[arg(
        long,
        short,
        global = true,
        conflicts_with = "verbose",
        display_order = 900
    )]
    pub quiet: bool,

    /// Show retries and network errors
    #[arg(long, short, global = true, display_order = 901)]
    pub verbose: bool,

    #[command(subcommand)]
    /// The command.
    pub command: CliCommand,
}

impl Cli {
    /// Returns how much is shown.
    pub fn verbosity(&self) -> Verbosity {
        if self.quiet {
            Verbosity::Quiet
        } else if self.verbose {
            Verbosity::Verbose
        } else {
            Verbosity::Normal
        }
    }

    /// Returns the verb for transfers in messages.
    pub fn transfer_verb(&self) -> TransferVerb {
        match &self.command {
            CliCommand::Pull(_) => TransferVerb::Fetch,
            _ => TransferVerb::Send,
        }
    }

    /// Returns whether events are printed as JSON. `ls`, `inspect`, `tag` and `diff` print results only.
    pub fn is_json(&self) -> bool {
        match &self.command {
            CliCommand::Push(push) => push.json,
            CliCommand::Mirror(mirror) => mirror.json,
            CliCommand::Pull(pull) => pull.json,
            CliCommand::Doctor(doctor) => doctor.json,
            _ => false,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Push a local image to a registry
    Push(PushArgs),
    /// Copy images from one registry to another
    Mirror(Box<MirrorArgs>),
    /// Pull an image from a registry into the local Docker
    Pull(PullArgs),
    /// List the repositories of a registry, or the tags of a repository
    Ls(LsArgs),
    /// Show the config, layers, commands and sizes of an image in a registry
    Inspect(InspectArgs),
    /// Give an image in a registry another tag, without moving its bytes
    Tag(TagArgs),
    /// Compare two images in registries: layers, config and files
    Diff(DiffArgs),
    /// Delete tags, manifests or repositories from a registry
    Rm(RmArgs),
    /// Restore deleted tags, manifests and repositories at imgsync-server
    Undelete(UndeleteArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Log out from a registry
    Logout(LogoutArgs),
    /// Examine a registry and the way to it, and say what to change so that a push works
    Doctor(DoctorArgs),
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

/// `imgsync push`
#[derive(Debug, Args)]
#[command(after_help = "\
If a push is interrupted, run the same command again: complete blobs are not sent again, and others \
continue where they stopped if the registry has kept them, as imgsync-server does.

Exit codes:
  0    Success
  2    Invalid command line or configuration
  3    Error of the local image, the Docker daemon or the local disk
  4    Error of the registry, or of a proxy in front of it
  5    Authentication failed, or access denied
  6    Network or TLS error
  130  Interrupted (Ctrl-C)
  143  Terminated (SIGTERM)

Examples:
  imgsync push app:v1 registry.example.com
  imgsync push app:v1 registry.example.com/team/app:v2
  imgsync push registry.example.com/team/app:v2
  imgsync push --all-tags app registry.example.com
  docker save app:v1 | imgsync push - localhost:5000/app:v1
  imgsync push oci:build/image localhost:5000/app:v1")]
pub struct PushArgs {
    /// Image to push: a name or ID in the local Docker or podman, a path, or '-' for standard input
    ///
    /// A path is an archive or a folder with an OCI layout; the format is detected. To name the
    /// format, write docker-daemon:NAME, docker-archive:PATH[:NAME], oci:PATH[:TAG] or
    /// oci-archive:PATH[:TAG]. Standard input is an archive.
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Target: host[:port]/repository[:tag], or host[:port] to keep the local name
    ///
    /// Without a tag, the local tag is kept. Without REMOTE, the name of the image must begin with a
    /// registry, as for docker push. As in Docker, user/app means Docker Hub; to push there, log in
    /// first. For a registry with the name user, write its port: user:443/app. http://host/app means
    /// the same as --plain-http.
    #[arg(value_name = "REMOTE", value_parser = parse_remote)]
    pub remote: Option<WithScheme<RemoteName>>,

    /// Push all local tags of the image. IMAGE and REMOTE have no tag then
    #[arg(long, short, conflicts_with = "tags")]
    pub all_tags: bool,

    /// Push only this platform of a multi-platform image, for example linux/arm64. Can be repeated
    ///
    /// One platform is pushed as a single image, several as an index. Without this option, all
    /// platforms are pushed.
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_parser = parse_platform)]
    pub platforms: Vec<Platform>,

    /// Also push the image under this tag. Can be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<Tag>,

    /// Print what would be done for each layer, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Print plan, progress and result as JSON lines on stdout
    #[arg(long)]
    pub json: bool,

    /// Use layers that images in the registry claim to have, without verifying them
    ///
    /// Everybody who can push to the repository can then choose the content of these layers. Use this
    /// option if only you can push there. It has no effect at imgsync-server, which computes what
    /// each layer is.
    #[arg(long, conflicts_with = "no_reuse")]
    pub trust_registry: bool,

    /// Use layers that the registry has in zstd only, also if the local engine cannot unpack zstd
    ///
    /// Docker before version 23 cannot pull such an image. By default, these layers are used if the
    /// image comes from an engine that can unpack them, and otherwise they are sent in gzip.
    #[arg(long, conflicts_with = "no_reuse")]
    pub reuse_zstd: bool,

    /// Ignore the cache, and the layers that images in the registry claim to have
    ///
    /// Every layer that the registry has not verified itself is read and compressed.
    #[arg(long)]
    pub no_reuse: bool,

    /// Do not verify compressed layers before they are pushed
    ///
    /// Normally the digest of each blob and the diffID of each layer are computed while the blob is
    /// sent, the diffID only at the first push from this machine. With this option, only the
    /// registry verifies the digests.
    #[arg(long)]
    pub no_verify: bool,

    /// Send each layer whole, also where imgsync-server has an earlier version of it
    ///
    /// Normally only what changed in a rebuilt layer is sent to imgsync-server, which assembles the
    /// layer from it and from the earlier version.
    #[arg(long)]
    pub no_delta: bool,

    /// Upload N blobs at the same time (1 to 64) [default: 1 to 8, depending on the connection]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,

    /// Limit the rate of all uploads together to SIZE per second, for example 512KiB
    ///
    /// SIZE is bytes, not bits: 1M is 1 MiB per second, about 8 Mbit/s.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub limit_rate: Option<u64>,

    /// Size of the first chunk of an upload, for example 1MiB
    ///
    /// Later chunks are larger on a fast connection, and smaller after errors.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = parse_size)]
    pub chunk_size: u64,

    #[command(flatten)]
    /// The connection to the registry.
    pub access: AccessArgs,
}

/// `imgsync login`
#[derive(Debug, Args)]
#[command(after_help = "\
The password is checked with the registry. It is then stored where Docker stores it: in the \
credential helper that Docker's config.json names, or in config.json itself.

Examples:
  imgsync login registry.example.com
  echo \"$TOKEN\" | imgsync login registry.example.com --username ci --password-stdin")]
pub struct LoginArgs {
    /// Registry: host[:port]
    #[arg(value_name = "HOST", value_parser = parse_registry)]
    pub registry: WithScheme<Registry>,

    /// Username [default: ask on the terminal]
    ///
    /// Without this option, IMGSYNC_USERNAME and IMGSYNC_PASSWORD are used if they are set.
    #[arg(long, short, value_name = "NAME")]
    pub username: Option<String>,

    /// Read the password from standard input [default: ask on the terminal]
    #[arg(long, requires = "username")]
    pub password_stdin: bool,

    #[command(flatten)]
    /// The connection to the registry.
    pub connect: ConnectArgs,
}

/// `imgsync logout`
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// Registry: host[:port]
    #[arg(value_name = "HOST", value_parser = parse_registry)]
    pub registry: WithScheme<Registry>,
}

fn parse_remote(text: &str) -> Result<WithScheme<RemoteName>, String> {
    let hint = "write host[:port]/repository[:tag] in lower case, or host[:port]";
    WithScheme::parse(text, hint, str::parse)
}

fn parse_registry(text: &str) -> Result<WithScheme<Registry>, String> {
    WithScheme::parse(text, "write host[:port]", str::parse)
}

fn parse_platform(text: &str) -> Result<Platform, String> {
    let hint = "write OS/ARCH[/VARIANT], for example linux/arm64 or linux/arm/v7";
    platform(text).ok_or_else(|| format!("invalid platform\nhint: {hint}"))
}

/// Parses a size of at least one byte.
fn parse_size(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text).ok();
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| {
        "invalid size\nhint: write a number with a unit, for example 1M, 8MiB or 500kB".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn sizes_are_parsed() {
        assert_eq!(parse_size("17"), Ok(17));
        assert_eq!(parse_size("4KiB"), Ok(4096));
        assert_eq!(parse_size("8MiB"), Ok(8 * MIB));
        assert_eq!(parse_size("1.5 MB"), Ok(1_500_000));
        assert_eq!(parse_size("1M"), Ok(MIB));
        assert_eq!(parse_size("1GiB"), Ok(1024 * MIB));
        for bad in ["", "x", "-1", "8X", "18446744073709551615MiB", "0"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans() {
        let hours = |text: &str| {
            let age = format!("--min-age={text}");
            let cli = Cli::try_parse_from(["imgsync", "mirror", "a", "b", &age]).ok()?;
            let CliCommand::Mirror(mirror) = cli.command else {
                panic!("another command");
            };
            mirror
                .filter
                .min_age
                .map(|age: Duration| age.as_secs() / 3600)
        };
        assert_eq!(hours("7d"), Some(168));
        assert_eq!(hours("12h"), Some(12));
        assert_eq!(hours("1d 12h"), Some(36));
        assert_eq!(hours("2 weeks"), Some(336));
        for bad in ["", "7", "d", "-1d", "1 month", "1y"] {
            assert_eq!(hours(bad), None, "{bad}");
        }
    }

    #[test]
    fn options_of_one_mirror_conflict_with_a_file() {
        let parse = |option: &[&str]| {
            let words = ["imgsync", "mirror", "--config", "mirrors.yaml"];
            Cli::try_parse_from(words.iter().chain(option))
        };
        assert!(parse(&["--jobs", "2", "--dry-run"]).is_ok());
        for option in [
            &["a", "b"][..],
            &["--platform", "linux/arm64"],
            &["--referrers", "new"],
            &["--no-referrers"],
            &["--prune"],
            &["--newest", "2", "--by", "version"],
            &["--exclude", "*"],
            &["--plain-http"],
            &["--username", "a", "--password-stdin"],
            &["--source-insecure"],
            &["--source-username", "a", "--source-password-stdin"],
        ] {
            assert!(parse(option).is_err(), "{option:?}");
        }
    }
}
