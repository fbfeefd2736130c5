//! What the words of `imgsync mirror` and `imgsync pull` mean.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use imgsync_oci::{Digest, LocalName, Registry};

use super::{Folders, MIB, positive};
use crate::access::Access;
use crate::args;
use crate::exit::{Failure, Kind};
use crate::mirror::Companions;
use crate::mirror::choose::{By, Newest, Rules, date};
use crate::mirror::config::{self, Host};
use crate::mirror::job::{Goal, Job};
use crate::mirror::place::{From, To};
use crate::source::Platforms;
use crate::transfer::Manner;

/// No file of mirrors is longer, in bytes.
const LONGEST_CONFIG: u64 = 1024 * 1024;
/// The first chunk of an upload, in bytes.
const CHUNK: u64 = 8 * MIB;

/// Everything that mirrors need to know.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// What to bring where.
    pub jobs: Vec<Job>,
    /// How registries are reached, and as whom.
    pub ways: Ways,
    /// Whether to tell only what would be done.
    pub is_dry: bool,
    /// Whether an exit code of its own tells that there was nothing to do.
    pub tells_nothing: bool,
    /// Where it is kept what was brought.
    pub state: State,
    /// How many tags at a time.
    pub at_a_time: usize,
    /// How the line is used.
    pub manner: Manner,
    /// The folders of this user.
    pub folders: Folders,
}

/// How registries are reached.
#[derive(Debug, Clone)]
pub enum Ways {
    /// As was typed for either side.
    Sides {
        /// For the source.
        source: Access,
        /// For the target.
        target: Access,
    },
    /// As a file says for every registry.
    Hosts {
        /// Those that it names.
        named: BTreeMap<Registry, Access>,
        /// All others.
        other: Access,
    },
}

/// Where it is kept what was brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// In this file.
    File(PathBuf),
    /// In this folder, in a file for every pair of source and target.
    Folder(PathBuf),
    /// Nowhere: this user has no folder.
    Nowhere,
}

impl Mirror {
    /// Reads the arguments of a mirror, and the file that they name.
    ///
    /// # Errors
    /// Words or a file that make no sense.
    pub fn parse(args: &args::Mirror) -> Result<Self, Failure> {
        let (jobs, ways) = match (&args.config, &args.source, &args.remote) {
            (Some(path), _, _) => of_file(path, args)?,
            (None, Some(source), Some(remote)) => typed(source, remote, args)?,
            (None, _, _) => {
                let what = "a mirror needs a source and a target, or --config";
                return Err(Failure::new(Kind::Usage, what));
            }
        };
        let rate = args.limit_rate.as_ref();
        Ok(Self {
            jobs,
            ways,
            is_dry: args.dry_run,
            tells_nothing: args.exit_code,
            state: match &args.state {
                Some(path) => State::File(path.clone()),
                None => State::of_user(),
            },
            at_a_time: usize::from(args.jobs),
            manner: Manner {
                jobs: None,
                chunk: CHUNK,
                rate: rate
                    .map(|rate| positive("--limit-rate", rate))
                    .transpose()?,
            },
            folders: Folders::of_user()?,
        })
    }

    /// Reads the arguments of a pull, which is a mirror of one image into the local Docker.
    ///
    /// # Errors
    /// Words that make no sense.
    pub fn parse_pull(args: &args::Pull) -> Result<Self, Failure> {
        let mut from = From::parse(&args.remote).map_err(usage)?;
        match &mut from {
            From::Registry(_, _, reference) => {
                let latest = || imgsync_oci::Reference::Tag(imgsync_oci::Tag::latest());
                reference.get_or_insert_with(latest);
            }
            From::Disk(disk, _) => {
                let what = format!("{disk} is no registry's");
                let hint = format!(
                    "docker load reads archives; or: imgsync mirror {disk} docker-daemon:NAME"
                );
                return Err(Failure::new(Kind::Usage, what).hint(hint));
            }
        }
        let name = args.name.as_ref().map(|name| name.parse::<LocalName>());
        let name = name.transpose().map_err(|error| usage(error.to_string()))?;
        let mut job = Job::new(from, To::Daemon(name)).map_err(usage)?;
        job.platforms = platforms(args.platform.as_slice())?;
        job.companions = Companions::Leave;
        let access = Access::parse(&args.access)?;
        Ok(Self {
            jobs: vec![job],
            ways: Ways::Sides {
                source: access.clone(),
                target: access,
            },
            is_dry: args.dry_run,
            tells_nothing: args.exit_code,
            state: State::Nowhere,
            at_a_time: 1,
            manner: Manner {
                jobs: None,
                chunk: CHUNK,
                rate: None,
            },
            folders: Folders::of_user()?,
        })
    }
}

impl Ways {
    /// How a source is reached.
    pub fn source(&self, registry: &Registry) -> &Access {
        match self {
            Self::Sides { source, .. } => source,
            Self::Hosts { named, other } => of_host(named, registry).unwrap_or(other),
        }
    }

    /// How a target is reached.
    pub fn target(&self, registry: &Registry) -> &Access {
        match self {
            Self::Sides { target, .. } => target,
            Self::Hosts { named, other } => of_host(named, registry).unwrap_or(other),
        }
    }
}

impl State {
    /// The folder that the environment names: `XDG_STATE_HOME` if it is absolute (XDG Base Directory
    /// Specification, "Basics"), else below `HOME`.
    fn of_user() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let xdg = set("XDG_STATE_HOME").map(PathBuf::from);
        let home = || Some(PathBuf::from(set("HOME")?).join(".local/state"));
        match xdg.filter(|path| path.is_absolute()).or_else(home) {
            Some(base) => Self::Folder(base.join("imgsync/mirrors")),
            None => Self::Nowhere,
        }
    }

    /// The file for a pair of source and target.
    pub fn file(&self, pair: &str) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Folder(folder) => Some(folder.join(file_name(pair))),
            Self::Nowhere => None,
        }
    }
}

/// A name that people recognise, and that no other pair has.
fn file_name(pair: &str) -> String {
    const LONGEST: usize = 120;
    let plain = pair.chars().take(LONGEST).map(|c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' => c,
        _ => '_',
    });
    let digest = Digest::of(pair.as_bytes());
    let short: String = digest.hex().chars().take(16).collect();
    format!("{}-{short}.json", plain.collect::<String>())
}

/// One mirror, from what was typed.
fn typed(source: &str, remote: &str, args: &args::Mirror) -> Result<(Vec<Job>, Ways), Failure> {
    let from = From::parse(source).map_err(|error| {
        usage(error).hint("write host[:port]/repository[:tag], oci:PATH or oci-archive:PATH")
    })?;
    let to = To::parse(remote).map_err(|error| {
        usage(error).hint("write host[:port]/repository[:tag] in lower case, or just host[:port]")
    })?;
    let mut job = Job::new(from, to).map_err(usage)?;
    job.rules = vec![rules(&args.filter)?];
    job.platforms = platforms(&args.platforms)?;
    job.companions = match args.referrers {
        _ if args.no_referrers => Companions::Leave,
        args::Referrers::None => Companions::Leave,
        args::Referrers::New => Companions::Bring,
        args::Referrers::All => Companions::Refresh,
    };
    job.prune = args.prune;
    job.check().map_err(usage)?;
    let is_target_typed = is_typed(&args.access);
    if is_target_typed && !matches!(job.to, Goal::Registry(..)) {
        let what = format!(
            "{} is no registry, so no login or certificate counts there",
            job.to
        );
        let hint = "for the source there are --source-username, --source-plain-http and so on";
        return Err(Failure::new(Kind::Usage, what).hint(hint));
    }
    let target = Access::parse(&args.access)?;
    // Of one registry it need not be said twice.
    let is_one = match (&job.from, &job.to) {
        (From::Registry(one, ..), Goal::Registry(other, _)) => one == other,
        (From::Registry(..) | From::Disk(..), _) => false,
    };
    let source = match is_one && !is_source_typed(&args.source_access) {
        true => target.clone(),
        false => Access::parse_source(&args.source_access)?,
    };
    Ok((vec![job], Ways::Sides { source, target }))
}

/// Many mirrors, from a file.
fn of_file(path: &Path, args: &args::Mirror) -> Result<(Vec<Job>, Ways), Failure> {
    if is_typed(&args.access) || is_source_typed(&args.source_access) {
        let what = "with --config the file says how registries are reached";
        return Err(Failure::new(Kind::Usage, what).hint("see its section registries"));
    }
    let shown = path.display().to_string();
    let wrong = |what: String| Failure::new(Kind::Usage, format!("{shown}: {what}"));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let read = file.take(LONGEST_CONFIG + 1).read_to_string(&mut text);
    read.map_err(|error| wrong(error.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let config = config::parse(&text, folder).map_err(wrong)?;
    // A host that no mirror names may have a password that is not here.
    let is_used = |registry: &Registry| {
        config.jobs.iter().any(|job| {
            let from = matches!(&job.from, From::Registry(it, ..) if config::is_same(it, registry));
            from || matches!(&job.to, Goal::Registry(it, _) if config::is_same(it, registry))
        })
    };
    let mut named = BTreeMap::new();
    for (registry, host) in &config.hosts {
        if is_used(registry) {
            named.insert(registry.clone(), Access::parse_host(host)?);
        }
    }
    let other = Access::parse_host(&Host::default())?;
    Ok((config.jobs, Ways::Hosts { named, other }))
}

/// The access to a registry that a file names, however it is written.
fn of_host<'a>(named: &'a BTreeMap<Registry, Access>, registry: &Registry) -> Option<&'a Access> {
    let mut all = named.iter();
    let found = all.find(|(it, _)| config::is_same(it, registry));
    found.map(|(_, access)| access)
}

fn is_typed(args: &args::Access) -> bool {
    let args::Access {
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

fn is_source_typed(args: &args::SourceAccess) -> bool {
    let args::SourceAccess {
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

fn rules(filter: &args::Filter) -> Result<Rules, Failure> {
    fn all<T: FromStr<Err = String>>(option: &str, texts: &[String]) -> Result<Vec<T>, Failure> {
        let parsed = texts.iter().map(|text| text.parse());
        let parsed: Result<_, String> = parsed.collect();
        parsed.map_err(|error| usage(format!("{option}: {error}")))
    }
    let by = match filter.by {
        args::By::Version => By::Version,
        args::By::Date => By::Date,
    };
    let range = filter.semver.as_ref().map(|text| text.parse()).transpose();
    let min_age = filter.min_age.as_deref().map(date::span).transpose();
    Ok(Rules {
        globs: all("--tag", &filter.tags)?,
        expressions: all("--tag-regex", &filter.tags_regex)?,
        exclude_globs: all("--exclude", &filter.exclude)?,
        exclude_expressions: all("--exclude-regex", &filter.exclude_regex)?,
        range: range.map_err(|error: String| {
            usage(format!("--semver: {error}")).hint("for instance '^1.2' or '>=1.20, <2'")
        })?,
        newest: filter.newest.map(|count| Newest {
            count: usize::try_from(count).unwrap_or(usize::MAX),
            by,
        }),
        min_age: min_age.map_err(|error| usage(format!("--min-age: {error}")))?,
    })
}

fn platforms(words: &[String]) -> Result<Platforms, Failure> {
    Platforms::parse(words).map_err(|word| {
        let what = format!("invalid --platform: {word:?}");
        Failure::new(Kind::Usage, what).hint("for instance linux/arm64 or linux/arm/v7")
    })
}

fn usage(what: String) -> Failure {
    Failure::new(Kind::Usage, what)
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
        let typed = <args::Arguments as clap::Parser>::parse_from(words);
        let args::Command::Mirror(typed) = typed.command else {
            panic!("another command");
        };
        let settings = Mirror::parse(&typed).unwrap();
        let Ways::Hosts { other, .. } = &settings.ways else {
            panic!("no file");
        };
        let way = |name: &str| settings.ways.source(&name.parse().unwrap());
        assert!(!std::ptr::eq(way("registry.example.com"), other));
        assert!(std::ptr::eq(way("other.example.com"), other));
    }

    #[test]
    fn every_pair_has_a_file_of_its_own() {
        let state = State::Folder("/s".into());
        let name = |pair: &str| state.file(pair).unwrap().display().to_string();
        let one = name("a.io/b → c.io/d");
        assert!(
            one.starts_with("/s/a.io_b___c.io_d-") && one.ends_with(".json"),
            "{one}"
        );
        assert_ne!(one, name("a.io/b → c.io_d"));
        assert!(name(&"../".repeat(200)).len() < 160);
        assert_eq!(State::File("/x".into()).file("a"), Some("/x".into()));
    }
}
