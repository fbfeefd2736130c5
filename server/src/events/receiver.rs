//! The receivers of the configuration: which changes they get, and the requests to them.
//!
//! This module does no I/O, except for reading the secrets of webhooks. Start reading at [`Receiver`].

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use imgsync_oci::Digest;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::attempts::FailedAttempts;
use super::change::ChangeAction;
use super::delivery::{self, DeliveryError};
use super::document::{EventText, envelope, webhook_id, webhook_key};
use super::queue::EntryKey;
use super::signature::SigningKey;
use crate::bounded_file;
use crate::config::{Config, EndpointConfig, SecretSource, WebhookConfig};

/// The media type of an envelope of events.
const EVENTS_MEDIA_TYPE: &str = "application/vnd.docker.distribution.events.v2+json";
/// How long the sender waits after a failed attempt to send a webhook.
const WEBHOOK_BACKOFF: Duration = Duration::from_secs(5);
/// The longest file with a secret.
const MAX_SECRET_BYTES: u64 = 4096;
/// How many characters of the digest of a name are in the name of a queue.
const QUEUE_NAME_CHARS: usize = 32;

/// The headers of the specification "Standard Webhooks".
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// A receiver cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The file with the secret of a webhook cannot be read.
    #[error("cannot read the secret of {receiver} from {}: {source}", path.display())]
    Read {
        /// The name of the receiver.
        receiver: String,
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The secret of a webhook is not valid.
    #[error("the secret of {receiver} {reason}")]
    Secret {
        /// The name of the receiver.
        receiver: String,
        /// The problem.
        reason: String,
    },
    /// The HTTP client cannot be set up.
    #[error("cannot send requests to {receiver}: {reason}")]
    Client {
        /// The name of the receiver.
        receiver: String,
        /// The problem.
        reason: String,
    },
}

impl ReceiverError {
    /// Returns a hint for the operator.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => Some("check the path, the owner and the permissions of the file"),
            Self::Secret { .. } => Some("create a secret: openssl rand -hex 32"),
            Self::Client { .. } => None,
        }
    }
}

/// A receiver of the configuration.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Receiver {
    /// The name in logs, in `status` and in metrics. It has no secrets.
    pub(super) name: String,
    /// The name of the folder with the queue.
    pub(super) queue_name: String,
    pub(super) url: Url,
    pub(super) timeout: Duration,
    kind: ReceiverKind,
}

#[derive(Clone, PartialEq, Eq)]
enum ReceiverKind {
    Endpoint(EndpointConfig),
    Webhook(WebhookConfig, SigningKey),
}

/// The receivers that get events, and the names of the queues of those that are disabled.
pub(super) struct ConfiguredReceivers {
    pub(super) active: Vec<Receiver>,
    pub(super) disabled_queues: Vec<String>,
}

impl ConfiguredReceivers {
    /// Returns the receivers of a configuration. Reads the secrets of webhooks.
    ///
    /// # Errors
    /// A secret cannot be read, or is not valid.
    pub(super) fn of(config: &Config) -> Result<Self, ReceiverError> {
        let mut names = QueueNames::default();
        let (mut active, mut disabled_queues) = (Vec::new(), Vec::new());
        for endpoint in &config.notifications.endpoints {
            let queue_name = names.next("endpoint", &endpoint.name);
            match &endpoint.url {
                Some(url) if !endpoint.is_disabled => active.push(Receiver {
                    name: format!("endpoint {}", endpoint.name),
                    queue_name,
                    url: url.0.clone(),
                    timeout: endpoint.timeout,
                    kind: ReceiverKind::Endpoint(endpoint.clone()),
                }),
                _ => disabled_queues.push(queue_name),
            }
        }
        for (index, webhook) in config.imgsync.webhooks.iter().enumerate() {
            let host = webhook.url.0.host_str().unwrap_or_default();
            let name = format!("webhook {} ({host})", index + 1);
            let key = signing_key(&name, &webhook.secret)?;
            active.push(Receiver {
                name,
                queue_name: names.next("webhook", webhook.url.0.as_str()),
                url: webhook.url.0.clone(),
                timeout: webhook.timeout,
                kind: ReceiverKind::Webhook(webhook.clone(), key),
            });
        }
        Ok(Self {
            active,
            disabled_queues,
        })
    }
}

/// Chooses the names of queues. A receiver keeps its queue if others are added or removed.
#[derive(Default)]
struct QueueNames(Vec<String>);

impl QueueNames {
    fn next(&mut self, kind: &str, name: &str) -> String {
        let digest = |number: usize| {
            let digest = Digest::of(format!("{kind} {number} {name}").as_bytes());
            digest.hex()[..QUEUE_NAME_CHARS].to_owned()
        };
        let mut number = 0;
        while self.0.contains(&digest(number)) {
            number += 1;
        }
        self.0.push(digest(number));
        digest(number)
    }
}

fn signing_key(receiver: &str, secret: &SecretSource) -> Result<SigningKey, ReceiverError> {
    let invalid = |reason: String| ReceiverError::Secret {
        receiver: receiver.to_owned(),
        reason,
    };
    let text = match secret {
        SecretSource::Inline(secret) => secret.0.clone(),
        SecretSource::File(path) => {
            let bytes = bounded_file::read(path, MAX_SECRET_BYTES);
            let bytes = bytes.map_err(|source| ReceiverError::Read {
                receiver: receiver.to_owned(),
                path: path.clone(),
                source,
            })?;
            String::from_utf8(bytes).map_err(|_| invalid("is not UTF-8 text".to_owned()))?
        }
    };
    SigningKey::of(text.trim_end_matches(['\r', '\n'])).map_err(invalid)
}

impl Receiver {
    /// Returns the HTTP client for requests to the receiver.
    ///
    /// # Errors
    /// [`ReceiverError::Client`].
    pub(super) fn client(&self) -> Result<reqwest::Client, ReceiverError> {
        delivery::client_for(&self.url).map_err(|reason| ReceiverError::Client {
            receiver: self.name.clone(),
            reason,
        })
    }

    /// Returns the text of the queue entry about a change, if the receiver gets it.
    pub(super) fn entry(&self, text: &EventText<'_>) -> Option<Arc<str>> {
        let change = text.change;
        match &self.kind {
            ReceiverKind::Endpoint(endpoint) => {
                let media_type = change.content.as_ref();
                let media_type = media_type.map(|content| content.media_type.as_str());
                let ignores = |list: &[String], text: &str| list.iter().any(|item| item == text);
                let is_ignored = ignores(&endpoint.ignored_actions, change.action.as_str())
                    || ignores(
                        &endpoint.ignored_media_types,
                        media_type.unwrap_or_default(),
                    );
                (!is_ignored).then(|| text.event())
            }
            ReceiverKind::Webhook(webhook, _) => {
                let tag = change.tag.as_ref()?;
                let mut tags = webhook.tags.iter();
                let is_wanted = change.action == ChangeAction::Push
                    && (webhook.tags.is_empty() || tags.any(|pattern| pattern.matches(tag)))
                    && webhook
                        .repositories
                        .iter()
                        .any(|pattern| pattern.matches(&change.repository));
                is_wanted.then(|| text.webhook())?
            }
        }
    }

    /// Returns by which key a later entry replaces an earlier one.
    pub(super) fn entry_key(&self) -> Option<EntryKey> {
        match self.kind {
            ReceiverKind::Endpoint(_) => None,
            ReceiverKind::Webhook(..) => Some(webhook_key),
        }
    }

    /// Returns when to try again after a failure.
    pub(super) fn attempts(&self) -> FailedAttempts {
        match &self.kind {
            ReceiverKind::Endpoint(endpoint) => {
                FailedAttempts::new(endpoint.threshold, endpoint.backoff)
            }
            ReceiverKind::Webhook(..) => FailedAttempts::new(1, WEBHOOK_BACKOFF),
        }
    }

    /// Returns whether an entry is given up after this error. An endpoint gets each event until it
    /// accepts it, as from the stock registry. A webhook that is rejected must not keep back those
    /// of other repositories.
    pub(super) fn gives_up(&self, error: &DeliveryError) -> bool {
        matches!(self.kind, ReceiverKind::Webhook(..)) && error.is_rejection()
    }

    /// Returns the headers and the body of the request with an entry, at a time in Unix seconds.
    pub(super) fn request(&self, entry: &str, now: u64) -> (HeaderMap, String) {
        let mut headers = HeaderMap::new();
        match &self.kind {
            ReceiverKind::Endpoint(endpoint) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENTS_MEDIA_TYPE));
                for (name, values) in &endpoint.headers {
                    // The configuration accepts only valid names.
                    let Ok(name) = HeaderName::try_from(name.as_str()) else {
                        continue;
                    };
                    for value in values {
                        headers.append(name.clone(), secret_value(&value.0));
                    }
                }
                (headers, envelope(entry))
            }
            ReceiverKind::Webhook(_, key) => {
                let id = webhook_id(entry).unwrap_or_default();
                let signature = key.sign(&id, now, entry);
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                headers.insert(WEBHOOK_ID, secret_value(&id));
                headers.insert(WEBHOOK_TIMESTAMP, secret_value(&now.to_string()));
                headers.insert(WEBHOOK_SIGNATURE, secret_value(&signature));
                (headers, entry.to_owned())
            }
        }
    }
}

/// Returns a header value that libraries do not log.
fn secret_value(text: &str) -> HeaderValue {
    let value = HeaderValue::from_bytes(text.as_bytes());
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
