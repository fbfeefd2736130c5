//! What was typed.

mod mirror;

use clap::{Args, Parser, Subcommand};

use crate::report::{TransferVerb, Verbosity};

pub use mirror::{
    MirrorArgs, PullArgs, ReferrersArg, SourceAccessArgs, TagFilterArgs, TagOrderArg,
};

/// Gets container images to a registry, sending only what it lacks.
#[derive(Debug, Parser)]
#[command(name = "imgsync", version, about, max_term_width = 100)]
#[command(after_help = "\
Examples:
  imgsync push app:v1 registry.example.com        an image of the local Docker
  imgsync push app:v1 registry.example.com --dry-run
  imgsync ls registry.example.com/app
  imgsync pull registry.example.com/app:v1

imgsync COMMAND --help has the options, exit codes and more examples of each.")]
pub struct Cli {
    // Their order puts them behind each command's own options.
    /// Say nothing but what went wrong; the outcome on stdout stays
    #[arg(
        long,
        short,
        global = true,
        conflicts_with = "verbose",
        display_order = 900
    )]
    pub quiet: bool,

    /// Say every fault of the line, and every try
    #[arg(long, short, global = true, display_order = 901)]
    pub verbose: bool,

    #[command(subcommand)]
    /// What to do.
    pub command: CliCommand,
}

impl Cli {
    /// How much is told.
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        }
    }

    /// What it is called that bytes move.
    pub fn transfer_verb(&self) -> TransferVerb {
        match &self.command {
            CliCommand::Pull(_) => TransferVerb::Fetch,
            CliCommand::Push(_)
            | CliCommand::Mirror(_)
            | CliCommand::Ls(_)
            | CliCommand::Inspect(_)
            | CliCommand::Rm(_)
            | CliCommand::Login(_)
            | CliCommand::Logout(_) => TransferVerb::Send,
        }
    }

    /// Whether what happens is told as JSON.
    pub fn is_json(&self) -> bool {
        match &self.command {
            CliCommand::Push(push) => push.json,
            CliCommand::Mirror(mirror) => mirror.json,
            CliCommand::Pull(pull) => pull.json,
            CliCommand::Ls(_)
            | CliCommand::Inspect(_)
            | CliCommand::Rm(_)
            | CliCommand::Login(_)
            | CliCommand::Logout(_) => false,
        }
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Push a local image to a registry
    Push(PushArgs),
    /// Copy images from registry to registry, and keep them in step
    Mirror(Box<MirrorArgs>),
    /// Get an image from a registry into the local Docker
    Pull(PullArgs),
    /// List repositories, or the tags of one
    Ls(LsArgs),
    /// Show what an image at a registry is made of
    Inspect(InspectArgs),
    /// Remove a tag or a manifest from a registry
    Rm(RmArgs),
    /// Check a password at a registry and keep it where docker looks
    Login(LoginArgs),
    /// Forget the password for a registry
    Logout(LogoutArgs),
}

/// `imgsync push`
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 the image is at the registry; 2 usage; 3 the local image, its daemon, or the disk \
here; 4 the registry said no; 5 authentication; 6 network; 130 interrupted; 143 terminated. After \
any of them the same command goes on where this one stopped.

Examples:
  imgsync push app:v1 registry.example.com
  imgsync push app:v1 registry.example.com/team/app:v2
  docker save app:v1 | imgsync push - localhost:5000/app:v1
  imgsync push oci:build/image localhost:5000/app:v1")]
pub struct PushArgs {
    /// The image: a name or ID in the local Docker or podman; docker-daemon:NAME; a file or folder,
    /// recognised by its content; docker-archive:PATH[:NAME], oci:PATH[:TAG],
    /// oci-archive:PATH[:TAG]; or - for an archive on standard input
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Where to: host[:port]/repository[:tag], or host[:port] to keep the local name and tag
    #[arg(value_name = "REMOTE")]
    pub remote: String,

    /// Push only this platform of a multi-platform image, such as linux/arm64 or linux/arm/v7. Given
    /// several times: an index of those. Without it all that is there goes, as one index
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]")]
    pub platforms: Vec<String>,

    /// Put the image under this tag as well; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,

    /// Print what would be done, layer by layer, and change nothing anywhere
    #[arg(long)]
    pub dry_run: bool,

    /// Tell plan, progress and outcome as JSON on stdout, one object a line
    #[arg(long)]
    pub json: bool,

    /// Do not believe what other images at the registry say of their layers; mends an image that
    /// was put together from a wrong one
    #[arg(long)]
    pub no_reuse: bool,

    /// How many blobs to send at a time. Without it as many as the line is worth, from 1 to 8: one
    /// more while that brings more through, one fewer after a fault
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,

    /// Send no more than this in a second, all uploads together (bytes, or with KiB, MiB)
    #[arg(long, value_name = "SIZE")]
    pub limit_rate: Option<String>,

    /// The size of the first chunk of an upload; it grows on a quick line and shrinks after faults
    /// (bytes, or with KiB, MiB)
    #[arg(long, value_name = "SIZE", default_value = "8MiB")]
    pub chunk_size: String,

    #[command(flatten)]
    /// How the registry is reached, and as whom.
    pub access: AccessArgs,
}

/// How a registry is reached: the same for every verb.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Registry")]
pub struct ConnectArgs {
    /// Speak plain HTTP; on loopback that needs no asking
    #[arg(long, conflicts_with_all = ["insecure", "ca_file"])]
    pub plain_http: bool,

    /// Check no certificates: whoever is in between can read and change everything
    #[arg(long)]
    pub insecure: bool,

    /// Trust the CA certificates in this PEM file too; those in Docker's and podman's certs.d
    /// folders count without asking
    #[arg(long, value_name = "FILE")]
    pub ca_file: Vec<std::path::PathBuf>,
}

/// How a registry is reached, and who one is there.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Registry")]
pub struct AccessArgs {
    #[command(flatten)]
    /// How it is reached.
    pub connect: ConnectArgs,

    /// Log in as this user, with the password from --password-stdin; without it count
    /// IMGSYNC_USERNAME with IMGSYNC_PASSWORD, then what docker, podman or imgsync login stored
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    pub username: Option<String>,

    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
}

/// `imgsync login`
#[derive(Debug, Args)]
#[command(after_help = "\
The password is checked at the registry first, then kept where docker keeps it: with the \
credential helper that Docker's config.json names, else in that file itself.

Examples:
  imgsync login registry.example.com
  echo \"$TOKEN\" | imgsync login registry.example.com --username ci --password-stdin")]
pub struct LoginArgs {
    /// The registry: host[:port]
    #[arg(value_name = "HOST")]
    pub registry: String,

    /// The user; asked for on a terminal
    #[arg(long, short, value_name = "NAME")]
    pub username: Option<String>,

    /// Read the password from standard input; otherwise it is asked for on a terminal
    #[arg(long)]
    pub password_stdin: bool,

    #[command(flatten)]
    /// How it is reached.
    pub connect: ConnectArgs,
}

/// `imgsync logout`
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// The registry: host[:port]
    #[arg(value_name = "HOST")]
    pub registry: String,
}

/// `imgsync ls`
#[derive(Debug, Args)]
#[command(after_help = "\
With --long every tag's line has, with tabs between: tag, digest, size of all blobs, platforms.

Examples:
  imgsync ls registry.example.com             its repositories
  imgsync ls registry.example.com/team/app    the tags of one")]
pub struct LsArgs {
    /// What to list: host[:port] for repositories, host[:port]/repository for tags
    #[arg(value_name = "REMOTE")]
    pub remote: String,

    /// Show digests, sizes and platforms of tags too; costs requests for every tag
    #[arg(long, short)]
    pub long: bool,

    #[command(flatten)]
    /// How the registry is reached, and as whom.
    pub access: AccessArgs,
}

/// `imgsync inspect`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  imgsync inspect registry.example.com/team/app:v1
  imgsync inspect --raw registry.example.com/team/app:v1 | sha256sum
  imgsync inspect --json registry.example.com/team/app:v1 | jq -r .digest")]
pub struct InspectArgs {
    /// The image: host[:port]/repository[:tag|@digest]
    #[arg(value_name = "REMOTE")]
    pub remote: String,

    /// Print the manifest's bytes as they are
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    /// How the registry is reached, and as whom.
    pub access: AccessArgs,
}

/// `imgsync rm`
#[derive(Debug, Args)]
#[command(after_help = "\
By tag only that tag goes. By digest the manifest goes, with every tag that names it. The space \
comes back when the registry next collects its garbage.

Examples:
  imgsync rm registry.example.com/team/app:v1
  imgsync rm registry.example.com/team/app@sha256:...")]
pub struct RmArgs {
    /// What to remove: host[:port]/repository:tag or host[:port]/repository@digest
    #[arg(value_name = "REMOTE", required = true)]
    pub remotes: Vec<String>,

    /// Delete the manifest that the tag names, with all its other tags: for registries that
    /// cannot delete a tag alone
    #[arg(long)]
    pub digest: bool,

    #[command(flatten)]
    /// How the registry is reached, and as whom.
    pub access: AccessArgs,
}
