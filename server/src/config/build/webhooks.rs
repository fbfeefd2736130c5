//! The section `imgsync.webhooks`: receivers of signed requests about pushed tags.

use super::super::reader::ConfigReader;
use super::super::scalars::{parse_path, parse_timeout, parse_with_from_str};
use super::super::tree::ValueOrigin;
use super::super::types::{SecretSource, WebhookConfig};
use super::notifications::build_url;
use super::space::build_patterns;

const WEBHOOKS_KEY: &str = "imgsync.webhooks";

/// Builds the webhooks.
pub(super) fn build_webhooks(reader: &mut ConfigReader<'_>) -> Option<Vec<WebhookConfig>> {
    let expected = "must be a list of webhooks, each with url, secretfile and repositories";
    let count = reader.count_entries(WEBHOOKS_KEY, expected)?;
    let webhooks: Vec<_> = (0..count)
        .map(|index| build_webhook(reader, &format!("{WEBHOOKS_KEY}.{index}")))
        .collect();
    webhooks.into_iter().collect()
}

fn build_webhook(reader: &mut ConfigReader<'_>, base: &str) -> Option<WebhookConfig> {
    build!(WebhookConfig {
        url: build_url(reader, base, true).flatten(),
        secret: build_secret(reader, base),
        repositories: build_patterns(reader, base),
        tags: reader.list(&format!("{base}.tags"), &[], parse_with_from_str),
        timeout: reader.value(&format!("{base}.timeout"), "10s", parse_timeout),
    })
}

/// Reads the secret: a webhook without one is an error, because anyone could send its requests.
fn build_secret(reader: &mut ConfigReader<'_>, base: &str) -> Option<SecretSource> {
    let secret = reader.secret(&format!("{base}.secret"))?;
    let file_key = format!("{base}.secretfile");
    let file = reader.optional(&file_key, parse_path)?;
    match (secret, file) {
        (Some(secret), None) => Some(SecretSource::Inline(secret)),
        (None, Some(file)) => Some(SecretSource::File(file)),
        (Some(_), Some(_)) => {
            let origin = reader.origin(base).unwrap_or(ValueOrigin::Default);
            let text = "cannot be set together with secret";
            reader.diagnostics.error(&origin, &file_key, text);
            None
        }
        (None, None) => {
            reader.must_be_set(&file_key, base);
            None
        }
    }
}
