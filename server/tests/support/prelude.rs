//! What nearly every test of the server names.

pub(crate) use std::path::{Path, PathBuf};
pub(crate) use std::process::{Command, Stdio};

pub(crate) use imgsync_oci::{Algorithm, Digest, media};
pub(crate) use reqwest::{Method, Response, StatusCode};

pub(crate) use super::{Server, bytes, client, descriptor, faults, header, manifest, serial};
