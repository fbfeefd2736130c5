//! Connections to a daemon on this machine: over a Unix socket, or on Windows over a named pipe.
//!
//! Only this module knows the two kinds. Start reading at [`connect`].

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use unix::{connect, probe};
#[cfg(windows)]
pub(super) use windows::{connect, probe};
