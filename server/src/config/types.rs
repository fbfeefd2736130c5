//! The typed configuration. Start reading at [`Config`].

mod notifications;
mod secret;

use std::path::PathBuf;
use std::time::Duration;

use imgsync_oci::{Descriptor, Registry, Repository};

pub use self::notifications::{EndpointConfig, NotificationsConfig, ReceiverUrl, WebhookConfig};
pub use self::secret::{Secret, SecretSource};

use super::host_port::HostPort;
use super::network::Network;
use crate::auth::{HtpasswdConfig, RepositoryPattern, TagPattern};

/// The configuration of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The path of the configuration file, for messages; `None` without one.
    pub file: Option<String>,
    /// The log.
    pub log: LogConfig,
    /// The storage folder, and which changes are allowed.
    pub storage: StorageConfig,
    /// Authentication; `None` allows everyone to pull and push.
    pub auth: Option<HtpasswdConfig>,
    /// Listening sockets and HTTP.
    pub http: HttpConfig,
    /// The maximum number of names in one page of the catalog.
    pub catalog_max_entries: u64,
    /// The maximum number of tags that one request may ask for.
    pub tags_max: u64,
    /// Which manifests of a pushed index must exist.
    pub index_platforms: IndexPlatforms,
    /// Pull-through caching of other registries.
    pub cache: CacheConfig,
    /// The section `notifications`: who is told of events.
    pub notifications: NotificationsConfig,
    /// The section `imgsync`, which the stock registry does not have.
    pub imgsync: ImgsyncConfig,
}

/// The section `validation.manifests.indexes`: the platforms whose manifests must be in the repository
/// before an index that lists them is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexPlatforms {
    /// All manifests must exist.
    All,
    /// No manifest need exist.
    None,
    /// The manifests of these platforms must exist, each given by architecture and operating system.
    Listed(Vec<(String, String)>),
}

impl IndexPlatforms {
    /// Returns whether a manifest of an index must exist.
    pub fn must_exist(&self, manifest: &Descriptor) -> bool {
        let Self::Listed(platforms) = self else {
            return *self == Self::All;
        };
        manifest.platform.as_ref().is_some_and(|own| {
            let is_own = |(architecture, os): &(String, String)| {
                *architecture == own.architecture && *os == own.os
            };
            platforms.iter().any(is_own)
        })
    }
}

/// The section `log`. The log is written to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The lowest level that is written.
    pub level: LogLevel,
    /// The format of log lines.
    pub formatter: LogFormat,
    /// Fields that are added to every line.
    pub fields: Vec<(String, String)>,
    /// Whether a line is written for every request.
    pub is_access_log_enabled: bool,
}

/// A log level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// Also problems that the operator should look at.
    Warn,
    /// Also normal events.
    Info,
    /// Also details for debugging.
    Debug,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Plain text.
    Text,
    /// One JSON object per line.
    Json,
}

/// The section `storage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// The storage folder; created if missing.
    pub root: PathBuf,
    /// Whether clients can delete manifests, tags and blobs.
    pub is_delete_enabled: bool,
    /// Whether all changes are refused.
    pub is_read_only: bool,
    /// Purging of abandoned upload sessions.
    pub purging: PurgeConfig,
}

/// The section `storage.maintenance.uploadpurging`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeConfig {
    /// Whether abandoned upload sessions are purged.
    pub is_enabled: bool,
    /// The age from which a session is purged.
    pub age: Duration,
    /// The time between two purges; not zero.
    pub interval: Duration,
    /// Whether sessions are only logged, not purged.
    pub is_dry_run: bool,
}

/// How requests come in, and what answers look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The listening socket.
    pub listen_address: ListenAddress,
    /// The prefix of every path: empty, or for example `/registry`, without a slash at the end.
    pub prefix: String,
    /// The URL under which clients reach the server, such as `https://registry.example.com:5000`,
    /// without a slash at the end.
    pub host: Option<String>,
    /// Whether `Location` headers are relative; `None` when not configured.
    pub relative_urls: Option<bool>,
    /// Headers of every response: names, each with its values.
    pub headers: Vec<(String, Vec<String>)>,
    /// The key that signs this server's tokens; `None` means a new random key at every start. Upload
    /// sessions do not need it.
    pub secret: Option<Secret>,
    /// How long running requests may take to finish at shutdown.
    pub drain_timeout: Duration,
    /// TLS; `None` for plain HTTP.
    pub tls: Option<TlsConfig>,
    /// The debug address, for health checks and metrics.
    pub debug_address: Option<HostPort>,
    /// The path of Prometheus metrics on the debug address; `None` disables them.
    pub metrics_path: Option<String>,
    /// Whether HTTP/2 is offered over TLS.
    pub is_http2_enabled: bool,
    /// Whether HTTP/2 is accepted without TLS.
    pub is_h2c_enabled: bool,
}

/// The address of the listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP port.
    Tcp(HostPort),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The section `http.tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The PEM file with the certificate, followed by intermediate certificates.
    pub certificate: PathBuf,
    /// The PEM file with the certificate's private key.
    pub key: PathBuf,
    /// The oldest version that is accepted.
    pub min_version: TlsVersion,
    /// The allowed cipher suites by Go's names; empty allows all.
    pub cipher_suites: Vec<String>,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// The section `imgsync`, without `imgsync.cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImgsyncConfig {
    /// Patterns of the repositories that anyone can pull from without a login.
    pub anonymous_pull: Vec<RepositoryPattern>,
    /// Garbage collection.
    pub gc: GarbageCollectionConfig,
    /// Limits of the space.
    pub space: SpaceConfig,
    /// Uploads of layers as differences to other layers.
    pub delta: DeltaConfig,
    /// Which tags and images are removed.
    pub retention: Vec<RetentionRule>,
    /// Who is told of pushed tags.
    pub webhooks: Vec<WebhookConfig>,
    /// Whether browsers get a page.
    pub is_page_enabled: bool,
    /// The proxies whose `Forwarded` and `X-Forwarded-*` headers are trusted.
    pub trusted_proxies: Vec<Network>,
    /// The maximum number of open connections.
    pub max_connections: usize,
    /// The number of connections above which a client loses its own first, when all are in use.
    pub max_connections_per_client: usize,
    /// The maximum memory for whole request bodies, in bytes.
    pub max_body_memory: usize,
    /// The maximum number of open upload sessions.
    pub max_open_uploads: usize,
    /// How long a client may take to send the head of a request.
    pub head_timeout: Duration,
    /// How long a client may take to send a whole manifest or another small body.
    pub body_timeout: Duration,
    /// How long a client may send nothing within a request body before the connection is closed.
    pub read_timeout: Duration,
    /// How long an HTTP/1.1 client may read nothing of a response before the connection is closed.
    pub write_timeout: Duration,
}

/// The section `imgsync.gc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GarbageCollectionConfig {
    /// Whether garbage is collected while the server runs.
    pub is_enabled: bool,
    /// The time between two collections; not zero.
    pub interval: Duration,
    /// How long content is kept after it was written or after a client was told that it exists. A
    /// push must not take longer.
    pub grace: Duration,
    /// How long removed content can be restored.
    pub undo: Duration,
}

/// The section `imgsync.space`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpaceConfig {
    /// How many bytes of the disk must stay free; `None` for 5 % of the disk, at most 512 MB.
    pub reserve: Option<u64>,
    /// Limits of what repositories hold together.
    pub quotas: Vec<QuotaConfig>,
}

/// The section `imgsync.delta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaConfig {
    /// Whether clients can upload the difference between a layer and those that the repository has.
    pub is_enabled: bool,
    /// The largest uncompressed size, in bytes, of a layer that takes part: the new one, or one that
    /// it is based on.
    pub max_layer_bytes: u64,
}

/// An entry of `imgsync.space.quotas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaConfig {
    /// Patterns of the repositories that share the quota.
    pub repositories: Vec<RepositoryPattern>,
    /// How many bytes these repositories may hold together. What several of them hold counts once.
    pub max_bytes: u64,
}

impl QuotaConfig {
    /// Returns whether a repository shares the quota.
    pub fn applies_to(&self, repository: &Repository) -> bool {
        let mut patterns = self.repositories.iter();
        patterns.any(|pattern| pattern.matches(repository))
    }
}

/// An entry of `imgsync.retention`. The first one that applies to a repository counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRule {
    /// Patterns of the repositories to which the rule applies.
    pub repositories: Vec<RepositoryPattern>,
    /// How many of the newest tags are kept.
    pub keep_newest: Option<usize>,
    /// Patterns of the names of tags that are kept.
    pub keep_tags: Vec<TagPattern>,
    /// For how long a tag is kept after it was pushed.
    pub keep_pushed: Option<Duration>,
    /// For how long a tag is kept after it was pulled.
    pub keep_pulled: Option<Duration>,
    /// For how long an image without a tag is kept; `None` for ever.
    pub untagged: Option<Duration>,
}

impl RetentionRule {
    /// Returns the rule for a repository, if there is one.
    pub fn find<'a>(rules: &'a [Self], repository: &Repository) -> Option<&'a Self> {
        let matches = |pattern: &RepositoryPattern| pattern.matches(repository);
        rules
            .iter()
            .find(|rule| rule.repositories.iter().any(matches))
    }

    /// Returns whether the rule removes tags.
    pub fn limits_tags(&self) -> bool {
        self.keep_newest.is_some()
            || !self.keep_tags.is_empty()
            || self.keep_pushed.is_some()
            || self.keep_pulled.is_some()
    }
}

/// Pull-through caching: the sections `proxy` and `imgsync.cache`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheConfig {
    /// The upstream registries. Their prefixes differ, and at most one has no prefix.
    pub upstreams: Vec<UpstreamConfig>,
    /// The maximum size of the cache in bytes; pushed images do not count. `None` means no limit.
    pub max_bytes: Option<u64>,
    /// Internal networks to which upstreams may redirect this server, and in which their token
    /// servers may be.
    pub allowed_networks: Vec<Network>,
    /// How long an image stays cached after its last use; `None` means forever.
    pub max_age: Option<Duration>,
}

/// An upstream registry, whose images are fetched on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// The first components of the repository names that belong to this upstream. The upstream
    /// without a prefix serves all names that no other prefix matches.
    pub prefix: Option<Repository>,
    /// The address of the registry.
    pub remote: Registry,
    /// Whether it is contacted over HTTPS.
    pub is_tls: bool,
    /// The login of this server at the upstream.
    pub login: Option<UpstreamLogin>,
    /// How long a cached tag is used before the upstream is asked again.
    pub freshness: Duration,
    /// Patterns of the upstream's repositories that may be fetched; empty allows all.
    pub repositories: Vec<RepositoryPattern>,
    /// Further names by which clients may refer to the upstream in `?ns=`.
    pub namespaces: Vec<Registry>,
    /// Whether it also serves names without a prefix, which Docker sends to a registry mirror.
    pub is_mirror: bool,
    /// A PEM file with additional certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// Whether its certificate is not verified.
    pub is_insecure: bool,
}

impl UpstreamConfig {
    /// Returns the name of the upstream in logs, errors and metrics: the prefix, or the address.
    pub fn name(&self) -> &str {
        match &self.prefix {
            Some(prefix) => prefix.as_str(),
            None => self.remote.as_str(),
        }
    }

    /// Returns the files that the settings refer to: the password and the certificate authorities.
    pub fn referenced_files(&self) -> impl Iterator<Item = &PathBuf> {
        let password = self.login.as_ref();
        let password = password.and_then(|login| login.password.file());
        password.into_iter().chain(&self.ca_file)
    }
}

/// A login at an upstream registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamLogin {
    /// The user name.
    pub username: String,
    /// The source of the password.
    pub password: SecretSource,
}
