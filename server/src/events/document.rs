//! The texts that receivers get: events of the stock registry, and the bodies of webhooks.
//!
//! This module does no I/O. Start reading at [`EventText::event`].

use std::sync::Arc;

use imgsync_oci::{Descriptor, Digest};
use serde::{Deserialize, Serialize};

use super::change::{RegistryChange, RequestFacts};
use super::queue::MAX_ENTRY_BYTES;

/// The longest text of a client in an event, in bytes.
const MAX_CLIENT_TEXT_BYTES: usize = 512;

/// The server that sends events.
#[derive(Debug, Clone, Serialize)]
pub(super) struct EventSource {
    /// The name of this machine, with the port of the server.
    pub(super) addr: String,
    /// A random id of this run of the server.
    #[serde(rename = "instanceID")]
    pub(super) instance_id: String,
}

/// A change with all that its texts tell.
pub(super) struct EventText<'a> {
    pub(super) id: String,
    /// When it happened, in RFC 3339.
    pub(super) time: String,
    pub(super) change: &'a RegistryChange,
    pub(super) request: &'a RequestFacts,
    pub(super) source: &'a EventSource,
}

impl EventText<'_> {
    /// Returns the event as the stock registry formats it. If it gets too long, the references are
    /// left out.
    pub(super) fn event(&self) -> Arc<str> {
        let text = self.event_with(&self.change.references);
        if text.len() <= MAX_ENTRY_BYTES {
            return text.into();
        }
        self.event_with(&[]).into()
    }

    fn event_with(&self, references: &[Descriptor]) -> String {
        let Self {
            id,
            time,
            change,
            request,
            source,
        } = self;
        let content = change.content.as_ref();
        let size = content.map(|content| content.size);
        let url = content.map(|content| format!("{}{}", request.base_url, content.path));
        to_json(&EventDocument {
            id,
            timestamp: time,
            action: change.action.as_str(),
            target: EventTarget {
                media_type: content.map(|content| content.media_type.as_str()),
                digest: content
                    .map(|content| &content.digest)
                    .or(change.deleted.as_ref()),
                size,
                length: size,
                repository: change.repository.as_str(),
                from_repository: change.mounted_from.as_ref().map(|from| from.as_str()),
                url: url.as_deref(),
                tag: change.tag.as_ref().map(|tag| tag.as_str()),
                references,
            },
            request: EventRequest {
                id: &request.id,
                addr: request.address.as_deref(),
                host: bounded(&request.host),
                method: bounded(&request.method),
                useragent: bounded(&request.user_agent),
            },
            actor: EventActor {
                name: request.user.as_deref(),
            },
            source,
        })
    }

    /// Returns the body of a webhook about a pushed tag; `None` for other changes.
    pub(super) fn webhook(&self) -> Option<Arc<str>> {
        let (change, request) = (self.change, self.request);
        let (Some(tag), Some(content)) = (&change.tag, &change.content) else {
            return None;
        };
        let body = WebhookBody {
            id: self.id.clone().into(),
            action: change.action.as_str().into(),
            time: self.time.clone().into(),
            repository: change.repository.as_str().into(),
            tag: tag.as_str().into(),
            digest: content.digest.to_string().into(),
            actor: request.user.as_deref().map(Into::into),
        };
        Some(to_json(&body).into())
    }
}

/// Puts an event into the envelope of the stock registry, which always has one event.
pub(super) fn envelope(event: &str) -> String {
    format!("{{\"events\":[{event}]}}")
}

/// Returns the id and the key of the body of a webhook: repository and tag.
pub(super) fn webhook_key(body: &str) -> Option<String> {
    let body: WebhookBody = serde_json::from_str(body).ok()?;
    Some(format!("{}:{}", body.repository, body.tag))
}

/// Returns the id in the body of a webhook.
pub(super) fn webhook_id(body: &str) -> Option<String> {
    let body: WebhookBody = serde_json::from_str(body).ok()?;
    Some(body.id.into())
}

fn to_json(document: &impl Serialize) -> String {
    // Cannot fail: all keys are texts, and nothing is read.
    serde_json::to_string(document).unwrap_or_default()
}

/// Cuts a text of a client off.
fn bounded(text: &str) -> &str {
    let end = (0..=MAX_CLIENT_TEXT_BYTES.min(text.len())).rfind(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// The body of a webhook.
#[derive(Serialize, Deserialize)]
struct WebhookBody {
    id: Box<str>,
    action: Box<str>,
    time: Box<str>,
    repository: Box<str>,
    tag: Box<str>,
    digest: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<Box<str>>,
}

/// An event of the stock registry (`notifications/event.go`).
#[derive(Serialize)]
struct EventDocument<'a> {
    id: &'a str,
    timestamp: &'a str,
    action: &'static str,
    target: EventTarget<'a>,
    request: EventRequest<'a>,
    actor: EventActor<'a>,
    source: &'a EventSource,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventTarget<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a Digest>,
    /// The old name of the size.
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    repository: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_repository: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    references: &'a [Descriptor],
}

#[derive(Serialize)]
struct EventRequest<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    addr: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    host: &'a str,
    method: &'a str,
    useragent: &'a str,
}

#[derive(Serialize)]
struct EventActor<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::super::change::ChangeAction;
    use super::*;
    use serde_json::{Value, json};

    fn parsed(change: &RegistryChange, request: &RequestFacts) -> (Value, Option<Value>) {
        let source = EventSource {
            addr: "host:5000".to_owned(),
            instance_id: "run".to_owned(),
        };
        let text = EventText {
            id: "id-1".to_owned(),
            time: "2026-12-01T04:39:24.872352823Z".to_owned(),
            change,
            request,
            source: &source,
        };
        let event = serde_json::from_str(&text.event()).unwrap();
        let webhook = text.webhook();
        (
            event,
            webhook.map(|body| serde_json::from_str(&body).unwrap()),
        )
    }

    fn request() -> RequestFacts {
        RequestFacts {
            id: "r-1".to_owned(),
            address: Some("10.0.0.1:99".to_owned()),
            host: "registry.example.com".to_owned(),
            method: "PUT".to_owned(),
            user_agent: "docker/27".to_owned(),
            user: Some("ci".to_owned()),
            base_url: "https://registry.example.com".to_owned(),
        }
    }

    #[test]
    fn events_have_the_fields_of_the_stock_registry() {
        let (repository, digest): (_, Digest) = ("a/b".parse().unwrap(), Digest::of(b"x"));
        let change = RegistryChange::manifest(ChangeAction::Push, &repository, &digest, "m/t", 9)
            .with_tag(&"v1".parse().unwrap());
        let (event, webhook) = parsed(&change, &request());
        let expected = json!({
            "id": "id-1",
            "timestamp": "2026-12-01T04:39:24.872352823Z",
            "action": "push",
            "target": {
                "mediaType": "m/t",
                "size": 9,
                "digest": digest,
                "length": 9,
                "repository": "a/b",
                "url": format!("https://registry.example.com/v2/a/b/manifests/{digest}"),
                "tag": "v1",
            },
            "request": {
                "id": "r-1",
                "addr": "10.0.0.1:99",
                "host": "registry.example.com",
                "method": "PUT",
                "useragent": "docker/27",
            },
            "actor": {"name": "ci"},
            "source": {"addr": "host:5000", "instanceID": "run"},
        });
        assert_eq!(event, expected);
        let expected = json!({
            "id": "id-1", "action": "push", "time": "2026-12-01T04:39:24.872352823Z",
            "repository": "a/b", "tag": "v1", "digest": digest, "actor": "ci",
        });
        let body = webhook.unwrap();
        assert_eq!(body, expected);
        assert_eq!(webhook_key(&body.to_string()).unwrap(), "a/b:v1");
        assert_eq!(webhook_id(&body.to_string()).unwrap(), "id-1");

        let deleted = RegistryChange::deleted_tag(&repository, &"v1".parse().unwrap());
        let (event, webhook) = parsed(&deleted, &RequestFacts::default());
        assert_eq!(event["target"], json!({"repository": "a/b", "tag": "v1"}));
        assert_eq!(event["actor"], json!({}));
        assert_eq!(webhook, None);
        let from = "c".parse().unwrap();
        let mount = RegistryChange::mount(&repository, &digest, 3, Some(&from));
        let (event, _) = parsed(&mount, &request());
        assert_eq!(event["target"]["fromRepository"], "c");
        assert_eq!(event["target"]["mediaType"], BLOB_TYPE);
    }

    const BLOB_TYPE: &str = super::super::change::BLOB_MEDIA_TYPE;

    #[test]
    fn hostile_requests_and_manifests_are_bounded() {
        let (repository, digest) = ("a".parse().unwrap(), Digest::of(b"x"));
        let references = vec![Descriptor::new("m/t", digest.clone(), 1); 10_000];
        let change = RegistryChange::manifest(ChangeAction::Push, &repository, &digest, "m/t", 9)
            .with_references(references);
        let request = RequestFacts {
            user_agent: "\"\n\u{0}ü".repeat(10_000),
            ..request()
        };
        let (event, _) = parsed(&change, &request);
        assert_eq!(event["target"].get("references"), None);
        assert!(event["request"]["useragent"].as_str().unwrap().len() <= 512);
        let change = change.with_references(vec![Descriptor::new("m/t", digest.clone(), 1)]);
        let (event, _) = parsed(&change, &request);
        let expected = json!([{"mediaType": "m/t", "digest": digest, "size": 1}]);
        assert_eq!(event["target"]["references"], expected);
        assert!(!envelope(&event.to_string()).contains('\n'));
    }
}
