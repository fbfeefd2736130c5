//! Runs `imgsync inspect`: shows config, layers, commands and sizes of an image in a registry.

use std::sync::Arc;

use imgsync_oci::media;
use serde_json::{Value, json};

use super::contents::{
    ManifestContents, RemoteImage, UnreadManifest, fetch_child_configs, fetch_contents, total_size,
};
use super::fetch_manifest;
use super::layer_origins::{HistoryStep, LayerOrigin, history, layer_origins};
use crate::args::{InspectArgs, ManifestName, WithScheme};
use crate::exit::Failure;
use crate::login::RegistryAccess;
use crate::report::Report;
use crate::text::{format_bytes, format_json, sanitize};

/// The fields of a config that are shown, with their labels.
const SHOWN_CONFIG_FIELDS: [(&str, &str); 7] = [
    ("Entrypoint", "entrypoint"),
    ("Cmd", "command"),
    ("User", "user"),
    ("WorkingDir", "folder"),
    ("ExposedPorts", "ports"),
    ("Env", "environment"),
    ("Labels", "labels"),
];

/// Prints an image.
///
/// # Errors
/// Fails if there is no such image, or if a request fails.
pub(super) async fn inspect(args: InspectArgs, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let WithScheme { scheme, name } = &args.remote;
    let access = RegistryAccess::parse(args.access)?.with_scheme(*scheme)?;
    let client = access.connect(&name.registry, Some(&name.repository), false, report);
    let client = client.await?;
    if args.raw {
        let manifest = fetch_manifest(&client, name).await?;
        report.output().write(&manifest.bytes);
        return Ok(());
    }
    let mut contents = fetch_contents(&client, name).await?;
    fetch_child_configs(&client, name, &mut contents).await?;
    if args.json {
        report
            .output()
            .print(&format_json(&to_json(name, &contents)));
    } else {
        report.output().print(&lines(name, &contents).join("\n"));
    }
    Ok(())
}

fn to_json(name: &ManifestName, contents: &ManifestContents) -> Value {
    let image = |image: &RemoteImage| {
        let layers = layer_origins(image);
        json!({
            "digest": image.digest,
            "mediaType": image.media_type,
            "platform": image.platform,
            "unread": image.unread.map(UnreadManifest::text),
            "size": total_size(image.blobs()),
            "config": image.config.as_ref().map(|config| &config.digest),
            "created": image.config_json.as_ref().map(|config| &config["created"]),
            "layers": layers.iter().map(layer_json).collect::<Vec<_>>(),
            "history": history(image).iter().map(step_json).collect::<Vec<_>>(),
        })
    };
    let mut object = json!({
        "name": name.to_string(),
        "digest": contents.fetched.digest,
        "mediaType": contents.media_type,
        "manifestSize": contents.fetched.bytes.len(),
        "images": contents.images.iter().map(image).collect::<Vec<_>>(),
    });
    if let [single] = &*contents.images
        && !contents.is_index
    {
        object["config"] = single.config_json.clone().unwrap_or(Value::Null);
    }
    object
}

fn layer_json(
    LayerOrigin {
        blob,
        diff_id,
        created_by,
    }: &LayerOrigin<'_>,
) -> Value {
    json!({
        "digest": blob.digest,
        "size": blob.size,
        "mediaType": blob.media_type,
        "diffID": diff_id,
        "createdBy": created_by,
    })
}

fn step_json(step: &HistoryStep<'_>) -> Value {
    json!({
        "created": step.created,
        "createdBy": step.created_by,
        "comment": step.comment,
        "layer": step.layer.map(|layer| &layer.digest),
        "size": step.layer.map(|layer| layer.size),
    })
}

fn lines(name: &ManifestName, contents: &ManifestContents) -> Vec<String> {
    let mut lines = vec![
        name.to_string(),
        field("digest", &contents.fetched.digest.to_string()),
        field("type", &contents.media_type),
    ];
    for image in &contents.images {
        if contents.is_index {
            let blob = media::is_blob(&image.media_type).then_some("(a blob)");
            let platform = image.platform.as_deref().or(blob);
            let platform = platform.unwrap_or("(no platform)");
            lines.extend([String::new(), platform.to_owned()]);
            lines.push(field("digest", &image.digest.to_string()));
        } else if let Some(platform) = &image.platform {
            lines.push(field("platform", platform));
        }
        if let Some(unread) = image.unread {
            lines.push(field("size", &format!("({})", unread.text())));
            continue;
        }
        if media::is_blob(&image.media_type) {
            lines.push(field("size", &format_bytes(total_size(image.blobs()))));
            lines.push(field("type", &image.media_type));
            continue;
        }
        let (size, layers) = (format_bytes(total_size(image.blobs())), image.layers.len());
        let plural = if layers == 1 { "" } else { "s" };
        lines.push(field("size", &format!("{size} in {layers} layer{plural}")));
        let is_single = !contents.is_index;
        lines.extend(
            image
                .config_json
                .iter()
                .flat_map(|config| config_lines(config, is_single)),
        );
        lines.extend(layer_origins(image).iter().flat_map(layer_lines));
    }
    lines
}

fn field(label: &str, value: &str) -> String {
    format!("  {label:<12} {}", sanitize(value))
}

/// Returns a line for the blob of a layer, and one each for its diffID and the command that made it.
fn layer_lines(
    LayerOrigin {
        blob,
        diff_id,
        created_by,
    }: &LayerOrigin<'_>,
) -> Vec<String> {
    let (size, media_type) = (format_bytes(blob.size), sanitize(&blob.media_type));
    let mut lines = vec![format!("  {}  {size:>9}  {media_type}", blob.digest)];
    if let Some(diff_id) = diff_id {
        lines.push(format!("    diffID     {diff_id}"));
    }
    if let Some(created_by) = created_by {
        lines.push(format!("    created by {}", sanitize(created_by)));
    }
    lines
}

/// Returns the lines for a config; for an image in an index, the first one only.
fn config_lines(config: &Value, is_single: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(created) = config["created"].as_str() {
        lines.push(field("created", created));
    }
    if !is_single {
        return lines;
    }
    for (key, label) in SHOWN_CONFIG_FIELDS {
        match &config["config"][key] {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => lines.push(field(label, text)),
            value => lines.push(field(label, &value.to_string())),
        }
    }
    lines
}
