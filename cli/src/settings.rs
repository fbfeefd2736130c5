//! What the typed words mean.

mod mirror;
mod private_folder;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use imgsync_oci::{ParseError, Registry, RemoteName, Repository, Tag};

use crate::access::RegistryAccess;
use crate::args;
use crate::exit::{Failure, FailureKind};
use crate::source::{ImageLocation, ImageRequest, Platforms};
use crate::transfer::TransferOptions;

pub use mirror::{MirrorAccess, MirrorSettings, RecordLocation};
pub(crate) use private_folder::create_private_folder as make_folder;

/// Compression gains little beyond, and every thread holds blocks in memory.
const MAX_COMPRESSION_THREADS: usize = 8;
const MIB: u64 = 1024 * 1024;

/// Everything that a push needs to know.
#[derive(Debug, Clone)]
pub struct PushSettings {
    /// The image.
    pub image: ImageRequest,
    /// Where it goes.
    pub remote: RemoteName,
    /// Further tags that the image gets.
    pub tags: Vec<Tag>,
    /// How the registry is reached, and as whom.
    pub access: RegistryAccess,
    /// Whether to tell only what would be done.
    pub is_dry_run: bool,
    /// Whether what other images at the target say of their layers counts.
    pub reuse: bool,
    /// How the line is used.
    pub transfer_options: TransferOptions,
    /// How many threads compress.
    pub threads: usize,
    /// The folders of this user.
    pub folders: UserFolders,
}

/// The folders that imgsync writes to.
#[derive(Debug, Clone)]
pub struct UserFolders {
    /// What may be lost at any time: known layers, spooled ones.
    pub cache: PathBuf,
}

/// A repository and tag at a registry: where an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushTarget {
    /// The registry.
    pub registry: Registry,
    /// The repository.
    pub repository: Repository,
    /// The tag.
    pub tag: Tag,
}

impl std::fmt::Display for PushTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

impl PushSettings {
    /// Reads the arguments of a push.
    ///
    /// # Errors
    /// Words that are no image, no remote or no size.
    pub fn parse(args: &args::PushArgs) -> Result<Self, Failure> {
        let usage =
            |error: &dyn std::fmt::Display| Failure::new(FailureKind::Usage, error.to_string());
        let remote: RemoteName = args.remote.parse().map_err(|error| {
            let hint = match args.remote.contains("://") {
                true => "leave http:// and https:// out; for plain HTTP pass --plain-http",
                false => "write host[:port]/repository[:tag] in lower case, or just host[:port]",
            };
            usage(&error).with_hint(hint)
        })?;
        if args.image == "-" && args.access.password_stdin {
            let what = "standard input cannot be both the image and the password";
            let hint = "set IMGSYNC_USERNAME and IMGSYNC_PASSWORD instead of --password-stdin";
            return Err(Failure::new(FailureKind::Usage, what).with_hint(hint));
        }
        let tags = args.tags.iter().map(|tag| tag.parse()).collect();
        let tags: Result<Vec<Tag>, ParseError> = tags;
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            image: ImageRequest {
                location: ImageLocation::parse(&args.image)?,
                platforms: Platforms::parse(&args.platforms).map_err(|word| {
                    let what = format!("invalid --platform: {word:?}");
                    Failure::new(FailureKind::Usage, what)
                        .with_hint("for instance linux/arm64 or linux/arm/v7")
                })?,
            },
            tags: tags.map_err(|error| usage(&error))?,
            access: RegistryAccess::parse(&args.access)?,
            remote,
            is_dry_run: args.dry_run,
            reuse: !args.no_reuse,
            transfer_options: TransferOptions {
                max_uploads: args.jobs.map(usize::from),
                chunk_bytes: parse_size_option("--chunk-size", &args.chunk_size)?,
                max_bytes_per_second: args
                    .limit_rate
                    .as_ref()
                    .map(|rate| parse_size_option("--limit-rate", rate))
                    .transpose()?,
            },
            threads: threads.min(MAX_COMPRESSION_THREADS),
            folders: UserFolders::from_environment()?,
        })
    }
}

impl UserFolders {
    /// The folders that the environment names: `XDG_CACHE_HOME` if it is absolute (XDG Base
    /// Directory Specification, "Basics"), else `HOME`, else a folder of this user alone in the
    /// system's folder for temporary files.
    ///
    /// # Errors
    /// In the last case, a folder there that cannot be made, or that is somebody else's.
    fn from_environment() -> Result<Self, Failure> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let xdg = set("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || Some(PathBuf::from(set("HOME")?).join(".cache"));
        let base = xdg.filter(|path| path.is_absolute()).or_else(home);
        let cache = match base {
            Some(base) => {
                let cache = base.join("imgsync");
                // Where it cannot be made, whoever needs it says so.
                let _ = private_folder::create_private_folder(&cache);
                cache
            }
            None => private_folder::create_user_folder(&std::env::temp_dir()).map_err(|what| {
                Failure::new(FailureKind::Usage, what)
                    .with_hint("set HOME, or XDG_CACHE_HOME to a folder of your own")
            })?,
        };
        Ok(Self { cache })
    }
}

/// The time that a variable of the environment names in seconds, else so many.
///
/// # Errors
/// It names no time.
pub fn seconds_from_env(name: &str, otherwise: u64) -> Result<Duration, Failure> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    let Some(text) = text else {
        return Ok(Duration::from_secs(otherwise));
    };
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let what = format!("{name}={text} is no number of seconds");
        Failure::new(FailureKind::Usage, what)
    })
}

/// The size that an option names; nothing is no size.
fn parse_size_option(option: &str, text: &str) -> Result<u64, Failure> {
    parse_size(text).filter(|size| *size > 0).ok_or_else(|| {
        Failure::new(FailureKind::Usage, format!("invalid {option}: {text:?}"))
            .with_hint("for instance 8MiB")
    })
}

/// Bytes: digits alone, or with `KiB` or `MiB` behind them.
fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.strip_suffix("KiB") {
        Some(digits) => (digits, 1024),
        None => match text.strip_suffix("MiB") {
            Some(digits) => (digits, MIB),
            None => (text, 1),
        },
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("17"), Some(17));
        assert_eq!(parse_size("4KiB"), Some(4096));
        assert_eq!(parse_size("8MiB"), Some(8 * MIB));
        for bad in ["", "x", "-1", "8M", "18446744073709551615MiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
