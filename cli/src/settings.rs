//! Settings of the commands, from the parsed options, the environment, standard input and
//! `mirrors.yaml`.
//!
//! This module sends no requests. Start reading at [`MirrorSettings`].

mod mirror;

use std::num::NonZeroUsize;
use std::sync::Arc;

use imgsync_oci::client::Credentials;
use imgsync_oci::units::parse_bytes;
use imgsync_oci::{Registry, RemoteName};

use crate::args::{AccessArgs, ConnectArgs, PushArgs, SourceAccessArgs, WithScheme, split_scheme};
use crate::cache::UserFolders;
use crate::disk::{System, advised_certificate_path};
use crate::exit::Failure;
use crate::image::{self, ImageLocation};
use crate::login::credentials::{CredentialVariables, from_environment};
use crate::login::{RegistryAccess, is_same_registry, read_stdin_password};
use crate::push::PushSettings;
use crate::report::Report;
use crate::transports::{ImageRequest, daemon};
use crate::upload::TransferOptions;

pub use mirror::{MirrorAccess, MirrorSettings, RecordLocation};

/// More threads compress hardly faster, and each of them holds blocks in memory.
const MAX_COMPRESSION_THREADS: usize = 8;
/// The variable that bounds the compressed layers in the spool.
const KEPT_BYTES_VARIABLE: &str = "IMGSYNC_KEEP_LAYERS";
const DEFAULT_KEPT_BYTES: u64 = 2 * 1024 * 1024 * 1024;

impl PushSettings {
    /// Creates the settings of a push.
    ///
    /// # Errors
    /// Fails if the image cannot be located, or if the password cannot be read.
    pub fn parse(args: PushArgs) -> Result<Self, Failure> {
        if args.image == "-" && args.access.password_stdin {
            let what = "standard input cannot be both the image and the password";
            let hint = "set IMGSYNC_USERNAME and IMGSYNC_PASSWORD instead of --password-stdin";
            return Err(Failure::usage(what).with_hint(hint));
        }
        let (location, remote) = parse_image_and_remote(&args.image, args.remote)?;
        let access = RegistryAccess::parse(args.access)?.with_scheme(remote.scheme)?;
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            image: ImageRequest {
                location,
                platforms: args.platforms.into_iter().collect(),
            },
            tags: args.tags,
            is_all_tags: args.all_tags,
            access,
            remote: remote.name,
            is_dry_run: args.dry_run,
            reuse: !args.no_reuse,
            trust_registry: args.trust_registry,
            reuses_zstd: args.reuse_zstd,
            verifies: !args.no_verify,
            uses_deltas: !args.no_delta,
            max_kept_bytes: kept_bytes_from_env()?,
            transfer_options: TransferOptions {
                max_uploads: args.jobs.map(usize::from),
                chunk_bytes: args.chunk_size,
                max_bytes_per_second: args.limit_rate,
            },
            threads: threads.min(MAX_COMPRESSION_THREADS),
            folders: UserFolders::from_environment()?,
        })
    }
}

/// Returns how many bytes of compressed layers stay in the spool after pushes, for deltas.
fn kept_bytes_from_env() -> Result<u64, Failure> {
    let text = std::env::var(KEPT_BYTES_VARIABLE).unwrap_or_default();
    if text.is_empty() {
        return Ok(DEFAULT_KEPT_BYTES);
    }
    parse_bytes(&text).map_err(|_| {
        let what = format!("{KEPT_BYTES_VARIABLE}={text} is not a size");
        Failure::usage(what).with_hint("write a number with a unit, for example 2GiB, or 0")
    })
}

/// Parses the argument that names the image.
fn parse_location(image: &str) -> Result<ImageLocation, Failure> {
    ImageLocation::parse(image).map_err(|error| match &error {
        // Nothing can have this name, so nothing was looked for.
        image::Error::Invalid(_) => Failure {
            hint: error.hint(),
            ..Failure::usage(&error)
        },
        _ => error.into(),
    })
}

/// Returns the image and its target. Without a target, the name of the image names it, as for
/// `docker push`.
fn parse_image_and_remote(
    image: &str,
    remote: Option<WithScheme<RemoteName>>,
) -> Result<(ImageLocation, WithScheme<RemoteName>), Failure> {
    if let Some(remote) = remote {
        return Ok((parse_location(image)?, remote));
    }
    let (scheme, image) = split_scheme(image);
    let location = parse_location(image)?;
    let no_target = |what: String| {
        let hint = format!("write the target too: imgsync push {image} HOST[:PORT][/NAME[:TAG]]");
        Err(Failure::usage(what).with_hint(hint))
    };
    let ImageLocation::Daemon(name) = &location else {
        return no_target(format!("the target of {image} is missing"));
    };
    let name = name.as_str();
    if name.contains('@') {
        return no_target(format!("{name} has a digest, and so it names no target"));
    }
    if !name.contains('/') {
        return no_target(format!("{name} names no registry to push to"));
    }
    let name = name.parse().map_err(Failure::usage)?;
    Ok((location, WithScheme { scheme, name }))
}

impl RegistryAccess {
    /// Creates the access to the registry of a command, or to the target of a mirror. Reads the
    /// password from standard input if the user asks for it.
    ///
    /// # Errors
    /// Fails if the password cannot be read.
    pub fn parse(args: AccessArgs) -> Result<Self, Failure> {
        Self::from_args(args, "--password-stdin", CredentialVariables::Primary)
    }

    /// Creates the access to the source of a mirror, as [`RegistryAccess::parse`] does.
    ///
    /// # Errors
    /// Fails if the password cannot be read.
    pub fn parse_source(args: SourceAccessArgs) -> Result<Self, Failure> {
        let option = "--source-password-stdin";
        Self::from_args(args.into(), option, CredentialVariables::Source)
    }

    /// Creates the access to two registries that one command reads. If they are not the same, a login
    /// or a certificate of one must not be used at the other, so only stored logins are used.
    ///
    /// # Errors
    /// Fails if options are given that can be meant for one of two registries only, or if the password
    /// cannot be read.
    pub fn parse_for_both(
        args: AccessArgs,
        registries: [&Registry; 2],
        report: &Arc<dyn Report>,
    ) -> Result<Self, Failure> {
        let [a, b] = registries;
        if is_same_registry(a, b) {
            return Self::parse(args);
        }
        let hint = if args.username.is_some() {
            Some(format!(
                "log in to each registry: imgsync login {a}, and imgsync login {b}"
            ))
        } else if args.connect.plain_http {
            Some("write http:// before the name of an image in a registry that uses it".to_owned())
        } else if args.connect != ConnectArgs::default() {
            let path = advised_certificate_path("REGISTRY", "ca.crt", System::CURRENT);
            Some(format!(
                "save the certificate of the CA of each registry as {path}, and log in with \
                 imgsync login REGISTRY"
            ))
        } else {
            None
        };
        if let Some(hint) = hint {
            let what = format!(
                "{a} and {b} are two registries, so options such as --username, --insecure, \
                 --ca-file and --plain-http do not apply"
            );
            return Err(Failure::usage(what).with_hint(hint));
        }
        if !matches!(from_environment(CredentialVariables::Primary), Ok(None)) {
            report.note(&format!(
                "IMGSYNC_USERNAME and IMGSYNC_PASSWORD are not used, because {a} and {b} are two \
                 registries; stored logins are used: imgsync login {a}, and imgsync login {b}"
            ));
        }
        Ok(Self::from(args.connect).with_credentials(None, CredentialVariables::Ignored))
    }

    fn from_args(
        args: AccessArgs,
        password_option: &str,
        variables: CredentialVariables,
    ) -> Result<Self, Failure> {
        let credentials = match args.username {
            Some(username) => Some(Credentials::Password {
                username,
                password: read_stdin_password(password_option)?,
            }),
            None => None,
        };
        Ok(Self::from(args.connect).with_credentials(credentials, variables))
    }
}

impl From<ConnectArgs> for RegistryAccess {
    fn from(args: ConnectArgs) -> Self {
        Self::new(args.plain_http, args.insecure, args.ca_file)
            .with_engine(daemon::ask_insecure_registries)
    }
}
