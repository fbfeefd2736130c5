//! Why there is no room for an upload.

use std::fmt;

use imgsync_oci::units::format_bytes;

/// The reason for which an upload is refused. The text tells the client what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SpaceShortage {
    /// The free space of the disk would go below the reserve.
    Disk {
        /// How many bytes are missing.
        lacking: u64,
        /// How many bytes are free.
        free: u64,
        /// How many bytes must stay free.
        reserve: u64,
    },
    /// The repositories would hold more than they may.
    Quota {
        /// The patterns of the repositories.
        repositories: String,
        /// How many bytes they hold.
        used: u64,
        /// How many bytes they may hold.
        max_bytes: u64,
    },
}

impl fmt::Display for SpaceShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk {
                lacking,
                free,
                reserve,
            } => {
                write!(f, "the disk of the registry is full: ")?;
                if *lacking > 0 {
                    write!(f, "{} more are needed; ", format_bytes(*lacking))?;
                }
                write!(
                    f,
                    "{} are free, and {} must stay free (imgsync.space.reserve)",
                    format_bytes(*free),
                    format_bytes(*reserve)
                )
            }
            Self::Quota {
                repositories,
                used,
                max_bytes,
            } => write!(
                f,
                "the quota of the repositories {repositories} is used up: they hold {} of {} \
                 (imgsync.space.quotas)",
                format_bytes(*used),
                format_bytes(*max_bytes)
            ),
        }
    }
}
