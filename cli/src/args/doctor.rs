//! The options of `imgsync doctor`.

use clap::Args;
use imgsync_oci::RemoteName;

use super::{AccessArgs, WithScheme, parse_remote};

/// `imgsync doctor`
#[derive(Debug, Args)]
#[command(after_help = "\
Each check has one line with its verdict: ok, warning, fault or not checked. What to do is below, \
indented. With a warning, imgsync push works, but something should be mended.

Without --write, nothing is uploaded, and no upload is begun. With --write, up to 22 MiB are sent, \
and deleted afterwards if the registry can.

Exit codes:
  0    No fault
  2    Invalid command line or configuration
  4    The first fault is one of the registry, or of a proxy in front of it
  5    The first fault is one of the login or of the permissions
  6    The first fault is one of the name, the connection, the scheme or the certificate
  130  Interrupted (Ctrl-C)
  143  Terminated (SIGTERM)

Examples:
  imgsync doctor registry.example.com
  imgsync doctor registry.example.com/team/app
  imgsync doctor registry.example.com/team/app --write")]
pub struct DoctorArgs {
    /// Registry: host[:port], or host[:port]/repository to check its permissions too
    #[arg(value_name = "REMOTE", value_parser = parse_remote)]
    pub remote: WithScheme<RemoteName>,

    /// Upload a small random blob to the repository, to check uploads, and delete it
    #[arg(long)]
    pub write: bool,

    /// Print one JSON object for each check
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    /// The connection to the registry.
    pub access: AccessArgs,
}
