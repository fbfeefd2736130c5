//! `imgsync inspect`: what an image at a registry is made of.

use std::sync::Arc;

use imgsync_oci::Descriptor;
use serde_json::{Value, json};

use super::contents::{self, ManifestContents, RemoteImage};
use super::manifest_name::ManifestName;
use crate::args;
use crate::exit::Failure;
use crate::login::RegistryAccess;
use crate::report::Report;
use crate::text::{format_bytes, sanitize};

/// What of a config people ask for, by its name there and here.
const SHOWN_CONFIG_FIELDS: [(&str, &str); 7] = [
    ("Entrypoint", "entrypoint"),
    ("Cmd", "command"),
    ("User", "user"),
    ("WorkingDir", "folder"),
    ("ExposedPorts", "ports"),
    ("Env", "environment"),
    ("Labels", "labels"),
];

/// Yields the bytes to print.
///
/// # Errors
/// There is no such image, or the registry does not tell.
pub(super) async fn inspect(
    args: &args::InspectArgs,
    report: &Arc<dyn Report>,
) -> Result<Vec<u8>, Failure> {
    let manifest: ManifestName = args.remote.parse()?;
    let access = RegistryAccess::parse(&args.access)?;
    let (registry, repository) = (&manifest.registry, &manifest.repository);
    let client = access
        .connect(registry, Some(repository), false, report)
        .await?;
    if args.raw {
        return Ok(contents::fetch_manifest(&client, &manifest)
            .await?
            .bytes
            .to_vec());
    }
    let found = contents::fetch_contents(&client, &manifest).await?;
    let mut text = match args.json {
        true => to_json(&manifest, &found).to_string(),
        false => lines(&manifest, &found).join("\n"),
    };
    text.push('\n');
    Ok(text.into_bytes())
}

fn total(image: &RemoteImage) -> u64 {
    image.blobs().map(|blob| blob.size).sum()
}

fn to_json(name: &ManifestName, found: &ManifestContents) -> Value {
    let layers = |image: &RemoteImage| -> Vec<Value> {
        let layer = |layer: &Descriptor| json!({"digest": layer.digest, "size": layer.size, "mediaType": layer.media_type});
        image.layers.iter().map(layer).collect()
    };
    let image = |image: &RemoteImage| {
        json!({
            "digest": image.digest,
            "mediaType": image.media_type,
            "platform": image.platform,
            "size": total(image),
            "config": image.config.as_ref().map(|config| &config.digest),
            "layers": layers(image),
        })
    };
    let mut object = json!({
        "name": name.to_string(),
        "digest": found.digest,
        "mediaType": found.media_type,
        "manifestSize": found.bytes.len(),
        "images": found.images.iter().map(image).collect::<Vec<Value>>(),
    });
    if let (false, [single]) = (found.is_index, &*found.images) {
        object["config"] = single.config_json.clone().unwrap_or(Value::Null);
    }
    object
}

fn lines(name: &ManifestName, found: &ManifestContents) -> Vec<String> {
    let mut lines = vec![
        name.to_string(),
        field("digest", &found.digest.to_string()),
        field("type", &found.media_type),
    ];
    for image in &found.images {
        if found.is_index {
            lines.push(String::new());
            lines.push(match &image.platform {
                Some(platform) => platform.clone(),
                None => "(for no platform)".to_owned(),
            });
            lines.push(field("digest", &image.digest.to_string()));
        } else if let Some(platform) = &image.platform {
            lines.push(field("platform", platform));
        }
        if image.config.is_none() {
            lines.push(field("size", "(not at this registry)"));
            continue;
        }
        let layers = image.layers.len();
        let size = format!("{} in {layers} layers", format_bytes(total(image)));
        lines.push(field("size", &size));
        lines.extend(image.config_json.iter().flat_map(config_lines));
        lines.extend(image.layers.iter().map(|layer| {
            let size = format_bytes(layer.size);
            format!(
                "  {}  {size:>9}  {}",
                layer.digest,
                sanitize(&layer.media_type)
            )
        }));
    }
    lines
}

fn field(name: &str, value: &str) -> String {
    format!("  {name:<12} {}", sanitize(value))
}

fn config_lines(config: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(created) = config["created"].as_str() {
        lines.push(field("created", created));
    }
    for (theirs, ours) in SHOWN_CONFIG_FIELDS {
        match &config["config"][theirs] {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => lines.push(field(ours, text)),
            value => lines.push(field(ours, &value.to_string())),
        }
    }
    lines
}
