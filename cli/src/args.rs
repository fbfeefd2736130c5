//! What was typed.

use clap::{Args, Parser, Subcommand};

/// Gets local container images to a registry, sending only what it lacks.
#[derive(Debug, Parser)]
#[command(name = "imgsync", version, about, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    /// What to do.
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Push a local image to a registry
    Push(Push),
}

/// `imgsync push`
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 the image is at the registry; 2 usage; 3 the local image or disk;
4 the registry said no; 5 authentication; 6 network; 130 interrupted.

Examples:
  imgsync push app:v1 registry.example.com
  imgsync push app:v1 registry.example.com/team/app:v2
  docker save app:v1 | imgsync push - localhost:5000/app:v1
  imgsync push oci:build/image localhost:5000/app:v1")]
pub struct Push {
    /// The image: a name or ID in the local Docker; docker-daemon:NAME; a file or folder,
    /// recognised by its content; docker-archive:PATH[:NAME], oci:PATH[:TAG],
    /// oci-archive:PATH[:TAG]; or - for an archive on standard input
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Where to: host[:port]/repository[:tag], or host[:port] to keep the local name and tag
    #[arg(value_name = "REMOTE")]
    pub remote: String,

    /// Speak plain HTTP; on loopback that needs no asking
    #[arg(long)]
    pub plain_http: bool,

    /// How many blobs to send at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,

    /// The size of the first chunk of an upload; it grows on a quick line and shrinks after faults
    /// (bytes, or with KiB, MiB)
    #[arg(long, value_name = "SIZE", default_value = "8MiB")]
    pub chunk_size: String,
}
