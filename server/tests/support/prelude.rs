//! The imports that nearly every test of the server needs.

pub(crate) use std::path::{Path, PathBuf};
pub(crate) use std::process::{Command, Stdio};

pub(crate) use imgsync_oci::{Algorithm, Digest, media};
pub(crate) use reqwest::{Method, Response, StatusCode};

pub(crate) use super::{Server, assert_error, bytes, client, descriptor, header, manifest, serial};
