//! What the typed words mean.

mod access;
mod mirror;

use std::num::NonZeroUsize;

use imgsync_oci::{ParseError, RemoteName, Tag};

use crate::args;
use crate::cache::UserFolders;
use crate::exit::{Failure, FailureKind};
use crate::image::{ImageLocation, Platforms};
use crate::login::RegistryAccess;
use crate::push::PushSettings;
use crate::text::parse_size;
use crate::transports::ImageRequest;
use crate::upload::TransferOptions;

pub use mirror::{MirrorAccess, MirrorSettings, RecordLocation};

/// Compression gains little beyond, and every thread holds blocks in memory.
const MAX_COMPRESSION_THREADS: usize = 8;

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

/// The size that an option names; nothing is no size.
fn parse_size_option(option: &str, text: &str) -> Result<u64, Failure> {
    parse_size(text).filter(|size| *size > 0).ok_or_else(|| {
        Failure::new(FailureKind::Usage, format!("invalid {option}: {text:?}"))
            .with_hint("for instance 8MiB")
    })
}
