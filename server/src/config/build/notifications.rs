//! The section `notifications`: endpoints that get events, as in the stock registry.

use std::time::Duration;

use url::Url;

use super::super::reader::{ConfigReader, ShownValue};
use super::super::scalars::{parse_bool, parse_duration, parse_header_value, parse_number};
use super::super::types::{EndpointConfig, NotificationsConfig, ReceiverUrl, Secret};
use super::headers::check_header;

const ENDPOINTS_KEY: &str = "notifications.endpoints";
/// The values of the stock registry for keys that are not set, or 0.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_THRESHOLD: u32 = 10;
const DEFAULT_BACKOFF: Duration = Duration::from_secs(1);

/// Builds the receivers of events.
pub(super) fn build_notifications(reader: &mut ConfigReader<'_>) -> Option<NotificationsConfig> {
    let section = "notifications.events.includereferences";
    let includes_references = reader.optional(section, parse_bool);
    let expected = "must be a list of endpoints, each with name and url";
    let count = reader.count_entries(ENDPOINTS_KEY, expected)?;
    let endpoints: Vec<_> = (0..count)
        .map(|index| build_endpoint(reader, &format!("{ENDPOINTS_KEY}.{index}")))
        .collect();
    Some(NotificationsConfig {
        includes_references: includes_references?.unwrap_or(false),
        endpoints: endpoints.into_iter().collect::<Option<_>>()?,
    })
}

fn build_endpoint(reader: &mut ConfigReader<'_>, base: &str) -> Option<EndpointConfig> {
    let key = |name: &str| format!("{base}.{name}");
    let text = |text: &str| Ok(text.to_owned());
    let name = reader.value(&key("name"), "", parse_header_value);
    let is_disabled = reader.value(&key("disabled"), "false", parse_bool)?;
    let url = build_url(reader, base, !is_disabled);
    let headers = build_headers(reader, &key("headers"));
    let timeout = reader.value(&key("timeout"), "1s", parse_duration);
    let threshold = reader.value(&key("threshold"), "10", parse_number);
    let backoff = reader.value(&key("backoff"), "1s", parse_duration);
    let media_types = reader.list(&key("ignoredmediatypes"), &[], text);
    let more_media_types = reader.list(&key("ignore.mediatypes"), &[], text);
    let ignored_actions = reader.list(&key("ignore.actions"), &[], text);
    let threshold = u32::try_from(threshold?).unwrap_or(u32::MAX);
    let or_default = |time: Duration, default| if time.is_zero() { default } else { time };
    Some(EndpointConfig {
        name: name?,
        is_disabled,
        url: url?,
        headers: headers?,
        timeout: or_default(timeout?, DEFAULT_TIMEOUT),
        threshold: if threshold == 0 {
            DEFAULT_THRESHOLD
        } else {
            threshold
        },
        backoff: or_default(backoff?, DEFAULT_BACKOFF),
        ignored_media_types: [media_types?, more_media_types?].concat(),
        ignored_actions: ignored_actions?,
    })
}

/// Reads the headers of an entry. Only their names are printed.
fn build_headers(reader: &mut ConfigReader<'_>, path: &str) -> Option<Vec<(String, Vec<Secret>)>> {
    let mut headers = Vec::new();
    for (name, node) in reader.map_entries(path) {
        let key = format!("{path}.{name}");
        let values = reader.list_texts(&key, &node)?;
        if let Err(text) = check_header(&name, &values) {
            reader.diagnostics.error(&node.origin, &key, text);
            return None;
        }
        reader.record_map_entry(path, &name, ShownValue::Secret, node.origin);
        headers.push((name, values.into_iter().map(Secret).collect()));
    }
    Some(headers)
}

/// Reads the key `url` of the entry `base`. It is printed without its secrets.
pub(super) fn build_url(
    reader: &mut ConfigReader<'_>,
    base: &str,
    is_required: bool,
) -> Option<Option<ReceiverUrl>> {
    let key = format!("{base}.url");
    let url = reader.redacted(&key, parse_url)?;
    if url.is_none() && is_required {
        reader.must_be_set(&key, base);
        return None;
    }
    Some(url)
}

/// Parses a URL to which requests are sent. The error does not repeat the URL, because it can
/// contain secrets.
fn parse_url(text: &str) -> Result<ReceiverUrl, String> {
    let url = Url::parse(text).ok();
    url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .map(ReceiverUrl)
        .ok_or_else(|| "must be a URL such as https://events.example.com/registry".to_owned())
}
