//! `imgsync mirror` and `imgsync pull`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use imgsync_oci::LocalName;
use imgsync_oci::manifest::Platform;
use imgsync_oci::units::parse_duration;

use super::{AccessArgs, SourceAccessArgs, WithScheme, parse_platform, parse_size};
use crate::mirror::location::{SourceLocation, TargetLocation};
use crate::mirror::selection::{TagOrder, TagPattern, TagRules, VersionRange};
use crate::transports::ReferrersPolicy;

/// `imgsync mirror`
#[derive(Debug, Args)]
#[command(after_help = "\
Tags: without options, all tags are copied. If you combine different options under \"Tags\", a tag \
is copied only if all of them select it.

Versions: v1.2 and 1.2 mean the version 1.2.0. --semver and --newest (by version) do not select \
pre-releases (2.0.0-rc.1) and variants (1.2.3-alpine). To select them, also pass a --tag pattern \
that contains '-', or --tag-regex. A range that names a pre-release ('>=2.0.0-rc1') also selects \
pre-releases. --newest counts each kind of variant separately.

Registries: the options under \"Registry\" apply to the target. They also apply to the source if \
it is in the same registry.

Pruning: a tag is deleted only if this mirror copied it and nobody has changed it since then.

Exit codes:
  0    Success
  2    Invalid command line or configuration file
  3    Error of the source or the local disk
  4    Error of the target
  5    Authentication failed, or access denied
  6    Network or TLS error
  7    Some tags failed; the others are copied
  8    Nothing to do (only with --exit-code)
  130  Interrupted (Ctrl-C)
  143  Terminated (SIGTERM)

Examples:
  imgsync mirror nginx:1.27 registry.example.com/mirror/nginx:1.27
  imgsync mirror ghcr.io/owner/app registry.example.com --semver '>=1.20' --newest 5 --prune
  imgsync mirror nginx registry.example.com/mirror/nginx --tag '1.*-alpine' --min-age 7d --dry-run
  imgsync mirror registry.example.com/team/app oci-archive:app.tar --platform linux/arm64
  imgsync mirror oci-archive:app.tar inside.example.com/team/app
  imgsync mirror --config mirrors.yaml")]
pub struct MirrorArgs {
    /// Source: [host[:port]/]repository[:tag|@digest], oci:PATH[:TAG] or oci-archive:PATH[:TAG]
    ///
    /// Without a tag or digest, all tags are copied. As in Docker, nginx means
    /// docker.io/library/nginx.
    #[arg(
        value_name = "SOURCE",
        required_unless_present = "config",
        value_parser = parse_source
    )]
    pub source: Option<WithScheme<SourceLocation>>,

    /// Target: host[:port]/repository[:tag], or host[:port] to keep the name of the source
    ///
    /// A target can also be oci:PATH[:TAG], oci-archive:PATH[:TAG] or docker-daemon:[NAME[:TAG]].
    #[arg(
        value_name = "REMOTE",
        required_unless_present = "config",
        value_parser = parse_target
    )]
    pub remote: Option<WithScheme<TargetLocation>>,

    /// Read mirrors, rules and registries from this file
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "source", "remote", "platforms", "referrers", "no_referrers", "prune",
        "tags", "tags_regex", "semver", "newest", "by", "min_age", "exclude", "exclude_regex",
        "plain_http", "insecure", "ca_file", "username",
        "source_plain_http", "source_insecure", "source_ca_file", "source_username",
    ])]
    pub config: Option<PathBuf>,

    /// Copy only this platform of multi-platform images, for example linux/arm64. Can be repeated
    ///
    /// An index with fewer platforms has another digest. The output then shows both digests.
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_parser = parse_platform)]
    pub platforms: Vec<Platform>,

    /// Which referrers of an image to copy: signatures, attestations and SBOMs
    #[arg(long, value_name = "WHICH", default_value = "new")]
    pub referrers: ReferrersPolicy,

    /// Copy no referrers, as with --referrers none
    #[arg(long, conflicts_with = "referrers")]
    pub no_referrers: bool,

    /// Delete tags at the target that this mirror copied and that are no longer selected
    ///
    /// A tag is no longer selected if it was deleted from the source, or if the options under
    /// "Tags" do not select it.
    #[arg(long)]
    pub prune: bool,

    /// Record the copied tags in this file [default: a file in ~/.local/state/imgsync/mirrors]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Print what would be copied and deleted, and change nothing
    ///
    /// Also prints which tags are not selected, and why.
    #[arg(long)]
    pub dry_run: bool,

    /// Exit with code 8 if there was nothing to do
    #[arg(long)]
    pub exit_code: bool,

    /// Print tags, progress and summary as JSON lines on stdout
    #[arg(long)]
    pub json: bool,

    /// Number of tags to copy at the same time (1 to 64)
    #[arg(
        long,
        value_name = "N",
        default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    pub jobs: u16,

    /// Limit the rate of all uploads together to SIZE bytes per second, for example 1M or 512KiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub limit_rate: Option<u64>,

    #[command(flatten)]
    /// The rules for tags.
    pub filter: TagFilterArgs,

    #[command(flatten)]
    /// The connection to the target.
    pub access: AccessArgs,

    #[command(flatten)]
    /// The connection to the source.
    pub source_access: SourceAccessArgs,
}

/// The rules that select the tags of a source.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Tags")]
pub struct TagFilterArgs {
    /// Copy only tags that match this pattern, for example 'v1.*'. Can be repeated
    ///
    /// In a pattern, * matches any text, ? matches one character, [a-z] matches one character of a
    /// range, and {a,b} matches a or b. A pattern must match the whole tag. With several --tag and
    /// --tag-regex, a tag must match at least one of them.
    #[arg(long = "tag", value_name = "GLOB", value_parser = TagPattern::glob)]
    pub tags: Vec<TagPattern>,

    /// Copy only tags that this regular expression matches as a whole. Can be repeated
    #[arg(long = "tag-regex", value_name = "REGEX", value_parser = TagPattern::regex)]
    pub tags_regex: Vec<TagPattern>,

    /// Copy only versions in this range, in Cargo's syntax: '^1.2', '>=1.20, <2', '1.* || 3.*'
    #[arg(long, value_name = "RANGE")]
    pub semver: Option<VersionRange>,

    /// Copy only the N newest tags
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub newest: Option<u32>,

    /// Order of the tags for --newest: versions or creation dates
    #[arg(
        long,
        value_name = "WHAT",
        requires = "newest",
        default_value = "version"
    )]
    pub by: TagOrder,

    /// Copy only images that are at least this old, for example 7d, 12h or '2 weeks'
    ///
    /// The age is computed from the creation date in the config of the image.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub min_age: Option<Duration>,

    /// Do not copy tags that match this pattern. Can be repeated
    #[arg(long, value_name = "GLOB", value_parser = TagPattern::glob)]
    pub exclude: Vec<TagPattern>,

    /// Do not copy tags that this regular expression matches as a whole. Can be repeated
    #[arg(long = "exclude-regex", value_name = "REGEX", value_parser = TagPattern::regex)]
    pub exclude_regex: Vec<TagPattern>,
}

impl From<TagFilterArgs> for TagRules {
    fn from(args: TagFilterArgs) -> Self {
        Self {
            patterns: [args.tags, args.tags_regex].concat(),
            exclude: [args.exclude, args.exclude_regex].concat(),
            range: args.semver,
            newest: args
                .newest
                .map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
            order: args.by,
            min_age: args.min_age,
        }
    }
}

/// `imgsync pull`
#[derive(Debug, Args)]
#[command(after_help = "\
Layers that the local Docker has are not downloaded. The command is the same as \
'imgsync mirror REMOTE docker-daemon:[NAME] --no-referrers'.

Exit codes:
  0    Success
  2    Invalid command line or configuration
  3    Error of the registry or the local disk
  4    Error of the local Docker
  5    Authentication failed, or access denied
  6    Network or TLS error
  8    The image was already up to date (only with --exit-code)
  130  Interrupted (Ctrl-C)
  143  Terminated (SIGTERM)

Examples:
  imgsync pull nginx:1.27
  imgsync pull registry.example.com/team/app:v1
  imgsync pull registry.example.com/team/app@sha256:... app:v1")]
pub struct PullArgs {
    /// Image: [host[:port]/]repository[:tag|@digest]
    ///
    /// As in Docker, nginx means docker.io/library/nginx.
    #[arg(value_name = "REMOTE", value_parser = parse_pulled)]
    pub remote: WithScheme<SourceLocation>,

    /// Name for the image in the local Docker [default: the name that docker pull uses]
    #[arg(value_name = "NAME")]
    pub name: Option<LocalName>,

    /// Pull this platform, for example linux/arm64 [default: the platform of the local Docker]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = parse_platform)]
    pub platform: Option<Platform>,

    /// Print what would be downloaded, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Exit with code 8 if the local image is already up to date
    #[arg(long)]
    pub exit_code: bool,

    /// Print progress and result as JSON lines on stdout
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    /// The connection to the registry.
    pub access: AccessArgs,
}

fn parse_source(text: &str) -> Result<WithScheme<SourceLocation>, String> {
    let hint = "write [host[:port]/]repository[:tag|@digest], oci:PATH or oci-archive:PATH";
    WithScheme::parse(text, hint, SourceLocation::parse)
}

fn parse_pulled(text: &str) -> Result<WithScheme<SourceLocation>, String> {
    WithScheme::parse(text, "", SourceLocation::parse)
}

fn parse_target(text: &str) -> Result<WithScheme<TargetLocation>, String> {
    let hint = "write host[:port]/repository[:tag] in lower case, host[:port], oci:PATH, \
                oci-archive:PATH or docker-daemon:NAME";
    WithScheme::parse(text, hint, TargetLocation::parse)
}
