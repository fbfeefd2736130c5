//! Into the local Docker or podman. One platform of an image goes, without its index and without
//! what speaks about it: that is what a daemon runs. Layers that it has are neither read nor sent.

mod archive_stream;
mod platform_image;
mod state;
mod target;
#[cfg(test)]
mod tests;

pub use target::DaemonTarget;
