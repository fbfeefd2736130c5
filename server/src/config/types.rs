//! A configuration, understood.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use imgsync_oci::{Registry, Repository};

use super::host_port::HostPort;
use super::network::Network;
use crate::auth::{HtpasswdConfig, RepositoryPattern};

/// Everything that a server is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What is written about what happens.
    pub log: LogConfig,
    /// Where everything is kept, and what may be done to it.
    pub storage: StorageConfig,
    /// Who may do what; nothing where anyone may do anything.
    pub auth: Option<HtpasswdConfig>,
    /// How requests come in.
    pub http: HttpConfig,
    /// The most names that one page of the catalog has.
    pub catalog_max_entries: u64,
    /// The most names that a request for one page of tags may ask for.
    pub tags_max: u64,
    /// What is fetched from other registries, and how much of it is kept.
    pub cache: CacheConfig,
    /// What the stock registry does not have.
    pub imgsync: ImgsyncConfig,
}

/// The log, on standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// What is important enough.
    pub level: LogLevel,
    /// How a line looks.
    pub formatter: LogFormat,
    /// What stands in every line.
    pub fields: Vec<(String, String)>,
    /// Whether every request has a line.
    pub is_access_log_enabled: bool,
}

/// How important a line of the log must be to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something should be looked at.
    Warn,
    /// Something happened.
    Info,
    /// Everything.
    Debug,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// The store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// The folder that holds everything; made where it is missing.
    pub root: PathBuf,
    /// Whether manifests, tags and blobs can be deleted.
    pub is_delete_enabled: bool,
    /// Whether nothing can be changed at all.
    pub is_read_only: bool,
    /// What becomes of uploads that nobody goes on with.
    pub purging: PurgeConfig,
}

/// When old upload sessions go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeConfig {
    /// Whether they do.
    pub is_enabled: bool,
    /// How old a session must be.
    pub age: Duration,
    /// The time between two looks.
    pub interval: Duration,
    /// Whether it is only told which would go.
    pub is_dry_run: bool,
}

/// How requests come in, and what answers look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where to listen.
    pub listen_address: ListenAddress,
    /// What stands before every path: empty, or `/some/where` without a slash at the end.
    pub prefix: String,
    /// What clients reach the server as: `https://registry.example.com:5000`, no slash at the end.
    pub host: Option<String>,
    /// Whether addresses in answers are relative, where somebody said so.
    pub relative_urls: Option<bool>,
    /// Headers of every answer: names, each with its values.
    pub headers: Vec<(String, Vec<String>)>,
    /// What tokens of our own are sealed with; a new one at every start where nothing is said.
    /// Upload sessions need none.
    pub secret: Option<Secret>,
    /// How long running requests may take to finish at the end.
    pub drain_timeout: Duration,
    /// Certificates, where connections are encrypted.
    pub tls: Option<TlsConfig>,
    /// Where health is asked for.
    pub debug_address: Option<HostPort>,
    /// The path under which numbers are told there, where they are.
    pub metrics_path: Option<String>,
    /// Whether HTTP/2 is spoken over TLS.
    pub is_http2_enabled: bool,
    /// Whether somebody asked for HTTP/2 without TLS. It is spoken anyway.
    pub is_h2c_enabled: bool,
}

/// What must not be seen, in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("******")
    }
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A port.
    Tcp(HostPort),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// How connections are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The file with the certificate and those between it and the root, PEM.
    pub certificate: PathBuf,
    /// The file with its key, PEM.
    pub key: PathBuf,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// The cipher suites of TLS 1.2 by Go's names; all where it is empty.
    pub cipher_suites: Vec<String>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2
    V1_2,
    /// 1.3
    V1_3,
}

/// What stands under `imgsync`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImgsyncConfig {
    /// Patterns of the repositories that can be pulled from without a login.
    pub anonymous_pull: Vec<RepositoryPattern>,
    /// The proxies whose word on the client's address counts.
    pub trusted_proxies: Vec<Network>,
    /// The most connections at a time.
    pub max_connections: usize,
    /// The most upload sessions at a time.
    pub max_open_uploads: usize,
    /// How long a body may say nothing before its connection counts as gone.
    pub read_timeout: Duration,
    /// How long an HTTP/1 client may take nothing of an answer before its connection counts as
    /// gone.
    pub write_timeout: Duration,
}

/// What is fetched from other registries (`proxy` and `imgsync.cache`), and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheConfig {
    /// The other registries. No two have the same prefix, and at most one has none.
    pub upstreams: Vec<UpstreamConfig>,
    /// The most that is kept, in bytes; what was pushed here does not count.
    pub max_bytes: Option<u64>,
    /// How long something is kept that nobody asks for.
    pub max_age: Option<Duration>,
}

/// A registry that stands behind some repository names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// The first components of the names that it stands behind; without it, it stands behind all
    /// that no other one does.
    pub prefix: Option<Repository>,
    /// Where it is.
    pub remote: Registry,
    /// Whether it is spoken to with TLS.
    pub is_tls: bool,
    /// Who this server is there.
    pub login: Option<UpstreamLogin>,
    /// How long a tag counts without asking again where it points.
    pub freshness: Duration,
    /// Patterns of its own repositories that may be fetched from; all where it is empty.
    pub repositories: Vec<RepositoryPattern>,
    /// Further names that clients may give it in `?ns=`.
    pub namespaces: Vec<Registry>,
    /// Whether it stands behind names without a prefix, as a mirror of Docker's daemon is asked.
    pub is_mirror: bool,
    /// A file with further certificate authorities, PEM.
    pub ca_file: Option<PathBuf>,
    /// Whether its certificate is taken whatever it is.
    pub is_insecure: bool,
}

impl UpstreamConfig {
    /// What it is called in the log, in errors and in metrics.
    pub fn name(&self) -> &str {
        match &self.prefix {
            Some(prefix) => prefix.as_str(),
            None => self.remote.as_str(),
        }
    }

    /// The files that it names.
    pub fn referenced_files(&self) -> impl Iterator<Item = &PathBuf> {
        let password = self.login.as_ref().and_then(|login| match &login.password {
            UpstreamPassword::File(path) => Some(path),
            UpstreamPassword::Inline(_) => None,
        });
        password.into_iter().chain(&self.ca_file)
    }
}

/// A login at another registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamLogin {
    /// The name.
    pub username: String,
    /// Where the password is.
    pub password: UpstreamPassword,
}

/// Where a password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamPassword {
    /// Here.
    Inline(Secret),
    /// In a file, without the line's end.
    File(PathBuf),
}
