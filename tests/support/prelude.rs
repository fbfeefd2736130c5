//! Imports that most tests need.

pub use std::collections::BTreeSet;
pub use std::net::SocketAddr;
pub use std::path::{Path, PathBuf};
pub use std::process::{Command, Stdio};

pub use super::bytes::{digest, noise};
pub use super::docker::{docker, unique};
pub use super::image::layer;
pub use super::peers::programs_available;
pub use super::run::{Outcome, must, run, wait_until};
pub use super::{
    CertificateAuthority, DockerImage, Image, Imgsync, Podman, Relay, RelayFault, ReservedPort,
    Scratch, Server, StockRegistry, Upstream, archive, bytes, check, http, image, serial, skopeo,
};
