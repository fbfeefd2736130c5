//! What the words of `imgsync mirror` and `imgsync pull` mean.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use imgsync_oci::{Digest, LocalName, Registry};

use super::parse_size_option;
use crate::args;
use crate::cache::UserFolders;
use crate::disk;
use crate::exit::{Failure, FailureKind};
use crate::image::Platforms;
use crate::login::{self, RegistryAccess, RegistrySettings};
use crate::mirror::config;
use crate::mirror::job::{MirrorJob, MirrorTarget};
use crate::mirror::location::{SourceLocation, TargetLocation};
use crate::mirror::selection::{TagOrder, TagPattern, TagRules};
use crate::text::{self, MIB};
use crate::transports::ReferrersPolicy;
use crate::upload::TransferOptions;

/// No file of mirrors is longer, in bytes.
const MAX_CONFIG_FILE_BYTES: u64 = 1024 * 1024;
/// The first chunk of an upload, in bytes.
const INITIAL_CHUNK_BYTES: u64 = 8 * MIB;

/// Everything that mirrors need to know.
#[derive(Debug, Clone)]
pub struct MirrorSettings {
    /// What to bring where.
    pub jobs: Vec<MirrorJob>,
    /// How registries are reached, and as whom.
    pub access: MirrorAccess,
    /// Whether to tell only what would be done.
    pub is_dry_run: bool,
    /// Whether an exit code of its own tells that there was nothing to do.
    pub is_exit_code_requested: bool,
    /// Where it is kept what was brought.
    pub record_location: RecordLocation,
    /// How many tags at a time.
    pub max_concurrent_tags: usize,
    /// How the line is used.
    pub transfer_options: TransferOptions,
    /// The folders of this user.
    pub folders: UserFolders,
}

/// How registries are reached.
#[derive(Debug, Clone)]
pub enum MirrorAccess {
    /// As was typed for either side.
    PerSide {
        /// For the source.
        source: RegistryAccess,
        /// For the target.
        target: RegistryAccess,
    },
    /// As a file says for every registry.
    PerHost {
        /// Those that it names.
        hosts: BTreeMap<Registry, RegistryAccess>,
        /// All others.
        default: RegistryAccess,
    },
}

/// Where it is kept what was brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordLocation {
    /// In this file.
    File(PathBuf),
    /// In this folder, in a file for every pair of source and target.
    Folder(PathBuf),
    /// Nowhere: this user has no folder.
    Nowhere,
}

impl MirrorSettings {
    /// Reads the arguments of a mirror, and the file that they name.
    ///
    /// # Errors
    /// Words or a file that make no sense.
    pub fn parse(args: &args::MirrorArgs) -> Result<Self, Failure> {
        let (jobs, ways) = match (&args.config, &args.source, &args.remote) {
            (Some(path), _, _) => jobs_from_file(path, args)?,
            (None, Some(source), Some(remote)) => jobs_from_args(source, remote, args)?,
            (None, _, _) => {
                let what = "a mirror needs a source and a target, or --config";
                return Err(Failure::new(FailureKind::Usage, what));
            }
        };
        let rate = args.limit_rate.as_ref();
        Ok(Self {
            jobs,
            access: ways,
            is_dry_run: args.dry_run,
            is_exit_code_requested: args.exit_code,
            record_location: match &args.state {
                Some(path) => RecordLocation::File(path.clone()),
                None => RecordLocation::from_environment(),
            },
            max_concurrent_tags: usize::from(args.jobs),
            transfer_options: TransferOptions {
                max_uploads: None,
                chunk_bytes: INITIAL_CHUNK_BYTES,
                max_bytes_per_second: rate
                    .map(|rate| parse_size_option("--limit-rate", rate))
                    .transpose()?,
            },
            folders: UserFolders::from_environment()?,
        })
    }

    /// Reads the arguments of a pull, which is a mirror of one image into the local Docker.
    ///
    /// # Errors
    /// Words that make no sense.
    pub fn parse_pull(args: &args::PullArgs) -> Result<Self, Failure> {
        let mut from = SourceLocation::parse(&args.remote).map_err(usage_failure)?;
        match &mut from {
            SourceLocation::Registry(_, _, reference) => {
                let latest = || imgsync_oci::Reference::Tag(imgsync_oci::Tag::latest());
                reference.get_or_insert_with(latest);
            }
            SourceLocation::Layout(disk, _) => {
                let what = format!("{disk} is no registry's");
                let hint = format!(
                    "docker load reads archives; or: imgsync mirror {disk} docker-daemon:NAME"
                );
                return Err(Failure::new(FailureKind::Usage, what).with_hint(hint));
            }
        }
        let name = args.name.as_ref().map(|name| name.parse::<LocalName>());
        let name = name
            .transpose()
            .map_err(|error| usage_failure(error.to_string()))?;
        let mut job = MirrorJob::new(from, TargetLocation::Daemon(name)).map_err(usage_failure)?;
        job.platforms = platforms(args.platform.as_slice())?;
        job.referrers = ReferrersPolicy::Skip;
        let access = RegistryAccess::parse(&args.access)?;
        Ok(Self {
            jobs: vec![job],
            access: MirrorAccess::PerSide {
                source: access.clone(),
                target: access,
            },
            is_dry_run: args.dry_run,
            is_exit_code_requested: args.exit_code,
            record_location: RecordLocation::Nowhere,
            max_concurrent_tags: 1,
            transfer_options: TransferOptions {
                max_uploads: None,
                chunk_bytes: INITIAL_CHUNK_BYTES,
                max_bytes_per_second: None,
            },
            folders: UserFolders::from_environment()?,
        })
    }
}

impl MirrorAccess {
    /// How a source is reached.
    pub fn for_source(&self, registry: &Registry) -> &RegistryAccess {
        match self {
            Self::PerSide { source, .. } => source,
            Self::PerHost {
                hosts: named,
                default: other,
            } => find_access(named, registry).unwrap_or(other),
        }
    }

    /// How a target is reached.
    pub fn for_target(&self, registry: &Registry) -> &RegistryAccess {
        match self {
            Self::PerSide { target, .. } => target,
            Self::PerHost {
                hosts: named,
                default: other,
            } => find_access(named, registry).unwrap_or(other),
        }
    }
}

impl RecordLocation {
    /// Returns a folder below `XDG_STATE_HOME`, else below `HOME`.
    fn from_environment() -> Self {
        match disk::xdg_folder("XDG_STATE_HOME", ".local/state") {
            Some(base) => Self::Folder(base.join("imgsync/mirrors")),
            None => Self::Nowhere,
        }
    }

    /// The file for a pair of source and target.
    pub fn path_for(&self, pair: &str) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Folder(folder) => Some(folder.join(record_file_name(pair))),
            Self::Nowhere => None,
        }
    }
}

/// A name that people recognise, and that no other pair has.
fn record_file_name(pair: &str) -> String {
    const MAX_READABLE_CHARS: usize = 120;
    let plain = pair.chars().take(MAX_READABLE_CHARS).map(|c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' => c,
        _ => '_',
    });
    let digest = Digest::of(pair.as_bytes());
    let short: String = digest.hex().chars().take(16).collect();
    format!("{}-{short}.json", plain.collect::<String>())
}

/// One mirror, from what was typed.
fn jobs_from_args(
    source: &str,
    remote: &str,
    args: &args::MirrorArgs,
) -> Result<(Vec<MirrorJob>, MirrorAccess), Failure> {
    let from = SourceLocation::parse(source).map_err(|error| {
        usage_failure(error)
            .with_hint("write host[:port]/repository[:tag], oci:PATH or oci-archive:PATH")
    })?;
    let to = TargetLocation::parse(remote).map_err(|error| {
        usage_failure(error)
            .with_hint("write host[:port]/repository[:tag] in lower case, or just host[:port]")
    })?;
    let mut job = MirrorJob::new(from, to).map_err(usage_failure)?;
    job.rules = vec![rules(&args.filter)?];
    job.platforms = platforms(&args.platforms)?;
    job.referrers = match args.referrers {
        _ if args.no_referrers => ReferrersPolicy::Skip,
        args::ReferrersArg::None => ReferrersPolicy::Skip,
        args::ReferrersArg::New => ReferrersPolicy::New,
        args::ReferrersArg::All => ReferrersPolicy::All,
    };
    job.prune = args.prune;
    job.check().map_err(usage_failure)?;
    let is_target_typed = has_access_args(&args.access);
    if is_target_typed && !matches!(job.to, MirrorTarget::Registry(..)) {
        let what = format!(
            "{} is no registry, so no login or certificate counts there",
            job.to
        );
        let hint = "for the source there are --source-username, --source-plain-http and so on";
        return Err(Failure::new(FailureKind::Usage, what).with_hint(hint));
    }
    let target = RegistryAccess::parse(&args.access)?;
    // Of one registry it need not be said twice.
    let is_one = match (&job.from, &job.to) {
        (SourceLocation::Registry(one, ..), MirrorTarget::Registry(other, _)) => one == other,
        (SourceLocation::Registry(..) | SourceLocation::Layout(..), _) => false,
    };
    let source = match is_one && !has_source_access_args(&args.source_access) {
        true => target.clone(),
        false => RegistryAccess::parse_source(&args.source_access)?,
    };
    Ok((vec![job], MirrorAccess::PerSide { source, target }))
}

/// Many mirrors, from a file.
fn jobs_from_file(
    path: &Path,
    args: &args::MirrorArgs,
) -> Result<(Vec<MirrorJob>, MirrorAccess), Failure> {
    if has_access_args(&args.access) || has_source_access_args(&args.source_access) {
        let what = "with --config the file says how registries are reached";
        return Err(Failure::new(FailureKind::Usage, what).with_hint("see its section registries"));
    }
    let shown = path.display().to_string();
    let wrong = |what: String| Failure::new(FailureKind::Usage, format!("{shown}: {what}"));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let read = file
        .take(MAX_CONFIG_FILE_BYTES + 1)
        .read_to_string(&mut text);
    read.map_err(|error| wrong(error.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let config = config::parse(&text, folder).map_err(wrong)?;
    // A host that no mirror names may have a password that is not here.
    let is_used = |registry: &Registry| {
        config.jobs.iter().any(|job| {
            let from = matches!(&job.from, SourceLocation::Registry(it, ..) if login::is_same_registry(it, registry));
            from || matches!(&job.to, MirrorTarget::Registry(it, _) if login::is_same_registry(it, registry))
        })
    };
    let mut named = BTreeMap::new();
    for (registry, host) in &config.registries {
        if is_used(registry) {
            named.insert(registry.clone(), RegistryAccess::parse_host(host)?);
        }
    }
    let other = RegistryAccess::parse_host(&RegistrySettings::default())?;
    Ok((
        config.jobs,
        MirrorAccess::PerHost {
            hosts: named,
            default: other,
        },
    ))
}

/// The access to a registry that a file names, however it is written.
fn find_access<'a>(
    named: &'a BTreeMap<Registry, RegistryAccess>,
    registry: &Registry,
) -> Option<&'a RegistryAccess> {
    let mut all = named.iter();
    let found = all.find(|(it, _)| login::is_same_registry(it, registry));
    found.map(|(_, access)| access)
}

fn has_access_args(args: &args::AccessArgs) -> bool {
    let args::AccessArgs {
        connect,
        username,
        password_stdin,
    } = args;
    connect.plain_http
        || connect.insecure
        || !connect.ca_file.is_empty()
        || username.is_some()
        || *password_stdin
}

fn has_source_access_args(args: &args::SourceAccessArgs) -> bool {
    let args::SourceAccessArgs {
        source_plain_http,
        source_insecure,
        source_ca_file,
        source_username,
        source_password_stdin,
    } = args;
    *source_plain_http
        || *source_insecure
        || !source_ca_file.is_empty()
        || source_username.is_some()
        || *source_password_stdin
}

fn rules(filter: &args::TagFilterArgs) -> Result<TagRules, Failure> {
    let args::TagFilterArgs {
        tags,
        tags_regex,
        exclude,
        exclude_regex,
        ..
    } = filter;
    let patterns = TagPattern::parse_all(("--tag", tags), ("--tag-regex", tags_regex));
    let exclude = TagPattern::parse_all(("--exclude", exclude), ("--exclude-regex", exclude_regex));
    let range = filter.semver.as_ref().map(|text| text.parse()).transpose();
    let min_age = filter.min_age.as_deref().map(text::parse_duration);
    let min_age = min_age.transpose();
    Ok(TagRules {
        patterns: patterns.map_err(usage_failure)?,
        exclude: exclude.map_err(usage_failure)?,
        range: range.map_err(|error: String| {
            usage_failure(format!("--semver: {error}"))
                .with_hint("for instance '^1.2' or '>=1.20, <2'")
        })?,
        newest: filter
            .newest
            .map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
        order: match filter.by {
            args::TagOrderArg::Version => TagOrder::Version,
            args::TagOrderArg::Date => TagOrder::Date,
        },
        min_age: min_age.map_err(|error| usage_failure(format!("--min-age: {error}")))?,
    })
}

fn platforms(words: &[String]) -> Result<Platforms, Failure> {
    Platforms::parse(words).map_err(|word| {
        let what = format!("invalid --platform: {word:?}");
        Failure::new(FailureKind::Usage, what).with_hint("for instance linux/arm64 or linux/arm/v7")
    })
}

fn usage_failure(what: String) -> Failure {
    Failure::new(FailureKind::Usage, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_in_capitals_is_the_same_host() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mirrors.yaml");
        let text = "registries:\n  Registry.Example.COM: {insecure: true}\nmirrors:\n  \
                    - {source: registry.example.com/a, target: other.example.com/b}\n";
        std::fs::write(&path, text).unwrap();
        let words = ["imgsync", "mirror", "--config", path.to_str().unwrap()];
        let typed = <args::Cli as clap::Parser>::parse_from(words);
        let args::CliCommand::Mirror(typed) = typed.command else {
            panic!("another command");
        };
        let settings = MirrorSettings::parse(&typed).unwrap();
        let MirrorAccess::PerHost { default: other, .. } = &settings.access else {
            panic!("no file");
        };
        let way = |name: &str| settings.access.for_source(&name.parse().unwrap());
        assert!(!std::ptr::eq(way("registry.example.com"), other));
        assert!(std::ptr::eq(way("other.example.com"), other));
    }

    #[test]
    fn every_pair_has_a_file_of_its_own() {
        let state = RecordLocation::Folder("/s".into());
        let name = |pair: &str| state.path_for(pair).unwrap().display().to_string();
        let one = name("a.io/b → c.io/d");
        assert!(
            one.starts_with("/s/a.io_b___c.io_d-") && one.ends_with(".json"),
            "{one}"
        );
        assert_ne!(one, name("a.io/b → c.io_d"));
        assert!(name(&"../".repeat(200)).len() < 160);
        assert_eq!(
            RecordLocation::File("/x".into()).path_for("a"),
            Some("/x".into())
        );
    }
}
