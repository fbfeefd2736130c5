//! The sections `notifications` and `imgsync.webhooks`: who is told of what happens.

use std::fmt;
use std::time::Duration;

use url::Url;

use super::{Secret, SecretSource};
use crate::auth::{RepositoryPattern, TagPattern};

/// The section `notifications`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotificationsConfig {
    /// Whether an event of a manifest lists the descriptors in the manifest.
    pub includes_references: bool,
    /// The receivers of events.
    pub endpoints: Vec<EndpointConfig>,
}

/// An entry of `notifications.endpoints`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointConfig {
    /// The name in logs and metrics.
    pub name: String,
    /// Whether no events are stored and sent for now.
    pub is_disabled: bool,
    /// The address; `None` only if the endpoint is disabled.
    pub url: Option<ReceiverUrl>,
    /// Headers of every request: names, each with its values.
    pub headers: Vec<(String, Vec<Secret>)>,
    /// How long a request may take.
    pub timeout: Duration,
    /// How many attempts may fail in a row before each further one waits for `backoff`.
    pub threshold: u32,
    /// How long the server waits after `threshold` failures, and after each further one.
    pub backoff: Duration,
    /// Events of content with one of these media types are not sent.
    pub ignored_media_types: Vec<String>,
    /// Events with one of these actions are not sent.
    pub ignored_actions: Vec<String>,
}

/// An entry of `imgsync.webhooks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// The address.
    pub url: ReceiverUrl,
    /// The key of the signatures.
    pub secret: SecretSource,
    /// Patterns of the repositories whose pushes are sent.
    pub repositories: Vec<RepositoryPattern>,
    /// Patterns of the tags whose pushes are sent; empty for all.
    pub tags: Vec<TagPattern>,
    /// How long a request may take.
    pub timeout: Duration,
}

/// An `http` or `https` URL to which requests are sent. It can contain secrets, for example in the path
/// of a chat service, so its `Debug` and `Display` output leaves out the login, the path and the query.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiverUrl(pub Url);

impl fmt::Display for ReceiverUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        if !url.username().is_empty() || url.password().is_some() {
            // These fail only for URLs without a host.
            let _ = url.set_username("******");
            let _ = url.set_password(None);
        }
        if url.path() != "/" {
            url.set_path("/******");
        }
        if url.query().is_some() {
            url.set_query(Some("******"));
        }
        f.write_str(url.as_str())
    }
}

impl fmt::Debug for ReceiverUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
