//! `imgsync mirror` and `imgsync pull`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::AccessArgs;

/// `imgsync mirror`
#[derive(Debug, Args)]
#[command(after_help = "\
Which tags: all that are there, or those that the rules under \"Tags\" take; every rule must hold. \
Tags that are versions may have a v before them, and parts may be missing (1.2 is 1.2.0). With \
--semver, or --newest by version, a tag with something behind the version (1.2.3-alpine, \
2.0.0-rc.1) counts only if a --tag with a - in it, or a --tag-regex, matches it; --newest then \
counts every variant by itself.

The options under \"Registry\" are for the target, unless source and target are at one registry.

Pruning takes tags out of the target that this mirror once brought and that are no longer wanted, \
and never one that somebody else put there or has moved since.

Exit codes: 0 all that is wanted is there; 7 some tags failed, the others are done; 8 there was \
nothing to do (with --exit-code only); 2 usage; 3 source, or the disk on this side; 4 target; \
5 authentication; 6 network; 130 interrupted; 143 terminated.

Examples:
  imgsync mirror nginx:1.27 registry.example.com/mirror/nginx:1.27
  imgsync mirror ghcr.io/owner/app registry.example.com --semver '>=1.20' --newest 5 --prune
  imgsync mirror nginx registry.example.com/mirror/nginx --tag '1.*-alpine' --min-age 7d --dry-run
  imgsync mirror registry.example.com/team/app oci-archive:app.tar --platform linux/arm64
  imgsync mirror oci-archive:app.tar inside.example.com/team/app
  imgsync mirror --config mirrors.yaml")]
pub struct MirrorArgs {
    /// From where: a repository (all its tags), repository:tag or repository@digest, as docker
    /// names them (nginx is docker.io/library/nginx); oci:PATH[:TAG] or oci-archive:PATH[:TAG]
    #[arg(value_name = "SOURCE", required_unless_present = "config")]
    pub source: Option<String>,

    /// Where to: host[:port]/repository[:tag], or host[:port] to keep the source's name;
    /// oci:PATH[:TAG], oci-archive:PATH[:TAG], or docker-daemon:[NAME[:TAG]]
    #[arg(value_name = "REMOTE", required_unless_present = "config")]
    pub remote: Option<String>,

    /// Do what this file says: many mirrors, with their rules and registries
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "remote"])]
    pub config: Option<PathBuf>,

    /// Take only this platform of multi-platform images, such as linux/arm64; may be given several
    /// times. An index that loses parts gets another digest, which is said
    #[arg(
        long = "platform",
        value_name = "OS/ARCH[/VARIANT]",
        conflicts_with = "config"
    )]
    pub platforms: Vec<String>,

    /// What speaks about an image - signatures, attestations, lists of parts - comes along: new,
    /// when the image is copied; all, also what was added since, for one more request a tag; or none
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "new",
        conflicts_with = "config"
    )]
    pub referrers: ReferrersArg,

    /// The same as --referrers none
    #[arg(long, conflicts_with_all = ["config", "referrers"])]
    pub no_referrers: bool,

    /// Delete tags at the target that this mirror once brought, and that the source no longer has
    /// or the rules no longer take
    #[arg(long, conflicts_with = "config")]
    pub prune: bool,

    /// Keep the record of what was brought in this file, and not below ~/.local/state/imgsync
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Print what would be copied and pruned, with bytes, and which tags are left out, and why;
    /// change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// End with 8 where there was nothing to do
    #[arg(long)]
    pub exit_code: bool,

    /// Tell tags, progress and the sum as JSON on stdout, one object a line
    #[arg(long)]
    pub json: bool,

    /// How many tags to work on at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,

    /// Send no more than this in a second, all uploads together (bytes, or with KiB, MiB)
    #[arg(long, value_name = "SIZE")]
    pub limit_rate: Option<String>,

    #[command(flatten)]
    /// Which tags.
    pub filter: TagFilterArgs,

    #[command(flatten)]
    /// How the target is reached, and as whom.
    pub access: AccessArgs,

    #[command(flatten)]
    /// How the source is reached, and as whom.
    pub source_access: SourceAccessArgs,
}

/// Which tags of a source are taken.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Tags")]
pub struct TagFilterArgs {
    /// Only tags that match: * any letters, ? one, [a-z] one of these, {a,b} either. May be given
    /// several times
    #[arg(long = "tag", value_name = "GLOB", conflicts_with = "config")]
    pub tags: Vec<String>,

    /// Only tags that match as a whole, or match a --tag. May be given several times
    #[arg(long = "tag-regex", value_name = "REGEX", conflicts_with = "config")]
    pub tags_regex: Vec<String>,

    /// Only versions in this range, as Cargo has them: '^1.2', '>=1.20, <2', '1.* || 3.*'
    #[arg(long, value_name = "RANGE", conflicts_with = "config")]
    pub semver: Option<String>,

    /// Only the N newest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "config")]
    pub newest: Option<u32>,

    /// What --newest goes by: the version, or the date in the image
    #[arg(
        long,
        value_name = "WHAT",
        requires = "newest",
        default_value = "version",
        conflicts_with = "config"
    )]
    pub by: TagOrderArg,

    /// Only images that were made at least so long ago, by the date in them: 7d, 12h, '2 weeks'
    #[arg(long, value_name = "TIME", conflicts_with = "config")]
    pub min_age: Option<String>,

    /// No tags that match. May be given several times
    #[arg(long, value_name = "GLOB", conflicts_with = "config")]
    pub exclude: Vec<String>,

    /// No tags that match as a whole. May be given several times
    #[arg(
        long = "exclude-regex",
        value_name = "REGEX",
        conflicts_with = "config"
    )]
    pub exclude_regex: Vec<String>,
}

/// What makes a tag newer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TagOrderArg {
    /// The version that it is.
    #[default]
    Version,
    /// The date that its image was made.
    Date,
}

/// What comes along with an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ReferrersArg {
    /// Nothing.
    None,
    /// What is there when it is copied.
    #[default]
    New,
    /// The same, asked for again each time.
    All,
}

/// How the source is reached, and as whom.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Registry of the source")]
pub struct SourceAccessArgs {
    /// Speak plain HTTP with the source
    #[arg(long, conflicts_with_all = ["source_insecure", "source_ca_file", "config"])]
    pub source_plain_http: bool,

    /// Check no certificates of the source
    #[arg(long, conflicts_with = "config")]
    pub source_insecure: bool,

    /// Trust the CA certificates in this PEM file too, at the source
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub source_ca_file: Vec<PathBuf>,

    /// Log in to the source as this user, with the password from --source-password-stdin; without
    /// it count IMGSYNC_SOURCE_USERNAME with IMGSYNC_SOURCE_PASSWORD, then what is stored
    #[arg(
        long,
        value_name = "NAME",
        requires = "source_password_stdin",
        conflicts_with = "config"
    )]
    pub source_username: Option<String>,

    /// Read the source's password from standard input
    #[arg(long, requires = "source_username", conflicts_with = "password_stdin")]
    pub source_password_stdin: bool,
}

/// `imgsync pull`
#[derive(Debug, Args)]
#[command(after_help = "\
A word for imgsync mirror REMOTE docker-daemon:[NAME]. Layers that the local Docker has are not \
fetched.

Exit codes: 0 the image is here; 8 it was here before (with --exit-code only); 2 usage; 3 the \
registry said no, or the disk here; 4 the local Docker; 5 authentication; 6 network; \
130 interrupted; 143 terminated.

Examples:
  imgsync pull nginx:1.27
  imgsync pull registry.example.com/team/app:v1
  imgsync pull registry.example.com/team/app@sha256:... app:v1")]
pub struct PullArgs {
    /// The image, as docker names it: repository[:tag|@digest]; nginx is docker.io/library/nginx
    #[arg(value_name = "REMOTE")]
    pub remote: String,

    /// What it is to be called here; without it as docker pull would call it
    #[arg(value_name = "NAME")]
    pub name: Option<String>,

    /// The platform to take, such as linux/arm64; without it the local Docker's own
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,

    /// Print what would be fetched, with bytes, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// End with 8 where there was nothing to do
    #[arg(long)]
    pub exit_code: bool,

    /// Tell progress and the sum as JSON on stdout, one object a line
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    /// How the registry is reached, and as whom.
    pub access: AccessArgs,
}
