//! Settings of `imgsync mirror` and `imgsync pull`.

use std::io::Read;
use std::path::{Path, PathBuf};

use imgsync_oci::{Digest, Reference, Registry, Tag, decode_text_file};

use crate::args::{AccessArgs, MirrorArgs, PullArgs, WithScheme};
use crate::cache::UserFolders;
use crate::disk;
use crate::exit::Failure;
use crate::login::{RegistryAccess, RegistrySettings, is_same_registry};
use crate::mirror::config;
use crate::mirror::job::{MirrorJob, MirrorTarget};
use crate::mirror::location::{SourceLocation, TargetLocation};
use crate::transports::{ReferrersPolicy, daemon};
use crate::upload::TransferOptions;

/// The size of the largest configuration file, in bytes.
const MAX_CONFIG_FILE_BYTES: u64 = 1024 * 1024;
/// The size of the first chunk of an upload, in bytes.
const INITIAL_CHUNK_BYTES: u64 = 8 * 1024 * 1024;
/// The largest part of a record's file name that shows source and target.
const MAX_READABLE_CHARS: usize = 120;

/// The settings of a run that mirrors or pulls.
#[derive(Debug, Clone)]
pub struct MirrorSettings {
    /// The sources and targets, with their rules.
    pub jobs: Vec<MirrorJob>,
    /// How to connect and log in to registries.
    pub access: MirrorAccess,
    /// Whether to only show what would be done.
    pub is_dry_run: bool,
    /// Whether the exit code tells that there was nothing to do.
    pub is_exit_code_requested: bool,
    /// Where the copied tags are recorded.
    pub record_location: RecordLocation,
    /// The number of tags that are copied at the same time.
    pub max_concurrent_tags: usize,
    /// Limits for uploads.
    pub transfer_options: TransferOptions,
    /// The folders of this user.
    pub folders: UserFolders,
}

/// How to connect and log in to the registries of a run.
#[derive(Debug, Clone)]
pub struct MirrorAccess {
    /// The registries that the configuration file names. They have precedence.
    pub hosts: Vec<(Registry, RegistryAccess)>,
    /// For other registries that are a source.
    pub source: RegistryAccess,
    /// For other registries that are a target.
    pub target: RegistryAccess,
}

/// Where the copied tags are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordLocation {
    /// In this file.
    File(PathBuf),
    /// In this folder, with one file for each pair of source and target.
    Folder(PathBuf),
    /// Nowhere: this user has no folder.
    Nowhere,
}

impl MirrorSettings {
    /// Creates the settings of a mirror, and reads the configuration file if there is one.
    ///
    /// # Errors
    /// Fails if options contradict each other, or if the file or a password is invalid.
    pub fn parse(args: &MirrorArgs) -> Result<Self, Failure> {
        let (jobs, access) = match &args.config {
            Some(path) => jobs_from_file(path)?,
            None => job_from_args(args)?,
        };
        Ok(Self {
            jobs,
            access,
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
                max_bytes_per_second: args.limit_rate,
            },
            folders: UserFolders::from_environment()?,
        })
    }

    /// Creates the settings of a pull, which is a mirror of one image into the local Docker.
    ///
    /// # Errors
    /// Fails if the image is not in a registry, or if the password cannot be read.
    pub fn parse_pull(args: PullArgs) -> Result<Self, Failure> {
        let WithScheme { scheme, name } = args.remote;
        let mut from = name;
        match &mut from {
            SourceLocation::Registry(_, _, reference) => {
                reference.get_or_insert_with(|| Reference::Tag(Tag::latest()));
            }
            SourceLocation::Layout(disk, _) => {
                let hint = format!("use docker load, or: imgsync mirror {disk} docker-daemon:NAME");
                return Err(Failure::usage(format!("{disk} is not in a registry")).with_hint(hint));
            }
        }
        let job = MirrorJob {
            platforms: args.platform.into_iter().collect(),
            referrers: ReferrersPolicy::Skip,
            ..MirrorJob::new(from, TargetLocation::Daemon(args.name)).map_err(Failure::usage)?
        };
        let access = RegistryAccess::parse(args.access)?.with_scheme(scheme)?;
        Ok(Self {
            jobs: vec![job],
            access: MirrorAccess {
                hosts: Vec::new(),
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
    /// Returns the access to a source.
    pub fn for_source(&self, registry: &Registry) -> &RegistryAccess {
        self.configured(registry).unwrap_or(&self.source)
    }

    /// Returns the access to a target.
    pub fn for_target(&self, registry: &Registry) -> &RegistryAccess {
        self.configured(registry).unwrap_or(&self.target)
    }

    fn configured(&self, registry: &Registry) -> Option<&RegistryAccess> {
        let mut hosts = self.hosts.iter();
        let host = hosts.find(|(name, _)| is_same_registry(name, registry));
        host.map(|(_, access)| access)
    }
}

impl RecordLocation {
    /// Returns a folder below `XDG_STATE_HOME`, else in the home folder or the profile.
    fn from_environment() -> Self {
        match disk::state_folder() {
            Some(state) => Self::Folder(state.join("mirrors")),
            None => Self::Nowhere,
        }
    }

    /// Returns the file for a pair of source and target.
    pub fn path_for(&self, pair: &str) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Folder(folder) => Some(folder.join(record_file_name(pair))),
            Self::Nowhere => None,
        }
    }
}

/// Returns a name that people recognize, and that is different for every pair.
fn record_file_name(pair: &str) -> String {
    let readable = pair.chars().take(MAX_READABLE_CHARS).map(|c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' => c,
        _ => '_',
    });
    let digest = Digest::of(pair.as_bytes());
    let short: String = digest.hex().chars().take(16).collect();
    format!("{}-{short}.json", readable.collect::<String>())
}

fn job_from_args(args: &MirrorArgs) -> Result<(Vec<MirrorJob>, MirrorAccess), Failure> {
    let (Some(from), Some(to)) = (&args.source, &args.remote) else {
        return Err(Failure::usage(
            "a mirror needs a source and a target, or --config",
        ));
    };
    let job = MirrorJob {
        rules: vec![args.filter.clone().into()],
        platforms: args.platforms.iter().cloned().collect(),
        referrers: if args.no_referrers {
            ReferrersPolicy::Skip
        } else {
            args.referrers
        },
        prune: args.prune,
        ..MirrorJob::new(from.name.clone(), to.name.clone()).map_err(Failure::usage)?
    };
    job.check().map_err(Failure::usage)?;
    if args.access != AccessArgs::default() && !matches!(job.to, MirrorTarget::Registry(..)) {
        let what = format!(
            "{} is not a registry, so options such as --username and --plain-http do not apply",
            job.to
        );
        let hint = "for the source, pass --source-username, --source-plain-http and so on";
        return Err(Failure::usage(what).with_hint(hint));
    }
    let target = RegistryAccess::parse(args.access.clone())?.with_scheme(to.scheme)?;
    let is_same = match (&job.from, &job.to) {
        (SourceLocation::Registry(from, ..), MirrorTarget::Registry(to, _)) => {
            is_same_registry(from, to)
        }
        _ => false,
    };
    let source_args = AccessArgs::from(args.source_access.clone());
    // Within one registry, the options for the target are enough.
    let source = if is_same && source_args == AccessArgs::default() {
        target.clone()
    } else {
        RegistryAccess::parse_source(args.source_access.clone())?
    };
    let source = source.with_scheme(from.scheme)?;
    let hosts = Vec::new();
    Ok((
        vec![job],
        MirrorAccess {
            hosts,
            source,
            target,
        },
    ))
}

fn jobs_from_file(path: &Path) -> Result<(Vec<MirrorJob>, MirrorAccess), Failure> {
    let shown = path.display();
    let unreadable =
        |error: std::io::Error| Failure::usage(format!("cannot read {shown}: {error}"));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_CONFIG_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let text = String::from_utf8(decode_text_file(bytes))
        .map_err(|error| unreadable(std::io::Error::other(error)))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let config = config::parse(&text, folder)
        .map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    // The password of a registry that no mirror uses may be missing on this machine.
    let is_used = |registry: &Registry| {
        config.jobs.iter().any(|job| {
            matches!(&job.from, SourceLocation::Registry(from, ..) if is_same_registry(from, registry))
                || matches!(&job.to, MirrorTarget::Registry(to, _) if is_same_registry(to, registry))
        })
    };
    let ask_engine = daemon::ask_insecure_registries;
    let mut hosts = Vec::new();
    for (registry, entry) in &config.registries {
        if is_used(registry) {
            let access = RegistryAccess::parse_host(&entry.settings);
            let access = access.map_err(|failure| Failure {
                what: format!("{shown}: line {}: {}", entry.line, failure.what),
                ..failure
            })?;
            hosts.push((registry.clone(), access.with_engine(ask_engine)));
        }
    }
    let other = RegistryAccess::parse_host(&RegistrySettings::default())?;
    let other = other.with_engine(ask_engine);
    let access = MirrorAccess {
        hosts,
        source: other.clone(),
        target: other,
    };
    Ok((config.jobs, access))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, CliCommand};

    #[test]
    fn a_host_in_capitals_is_the_same_host() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mirrors.yaml");
        let text = "registries:\n  Registry.Example.COM: {insecure: true}\nmirrors:\n  \
                    - {source: registry.example.com/a, target: other.example.com/b}\n";
        std::fs::write(&path, text).unwrap();
        let words = ["imgsync", "mirror", "--config", path.to_str().unwrap()];
        let cli = Cli::parse_from(words);
        let CliCommand::Mirror(args) = cli.command else {
            panic!("another command");
        };
        let access = MirrorSettings::parse(&args).unwrap().access;
        let of = |name: &str| access.for_source(&name.parse().unwrap());
        assert!(!std::ptr::eq(of("registry.example.com"), &access.source));
        assert!(std::ptr::eq(of("other.example.com"), &access.source));
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
