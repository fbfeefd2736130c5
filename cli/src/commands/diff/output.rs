//! Prints the differences of two images as lines or as JSON.

use imgsync_oci::delta::FileKind;
use serde_json::{Value, json};

use super::config::ConfigChange;
use super::file_tree::{FileChange, FileFacts, FileStatus, compare_trees};
use super::files::{ComparedFiles, FileComparison};
use super::layers::LayerStatus;
use super::{Comparison, ImageComparison, ImageDetails, Side};
use crate::commands::contents::total_size;
use crate::commands::layer_origins::LayerOrigin;
use crate::text::{format_bytes, sanitize};

/// The most files that are listed for one image.
const MAX_LISTED_FILES: usize = 100_000;

impl Comparison<'_> {
    /// Returns the lines for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let (old, new) = (self.old, self.new);
        if old.digest() == new.digest() {
            let (name, other, digest) = (&old.name, &new.name, old.digest());
            return vec![format!("{name} and {other} are the same image: {digest}")];
        }
        let mut lines = vec![
            format!("--- {}", side_text(old)),
            format!("+++ {}", side_text(new)),
        ];
        for image in &self.images {
            lines.extend(image.lines());
        }
        lines
    }

    /// Returns the object of `--json`.
    pub(super) fn json(&self) -> Value {
        let side = |side: &Side| json!({ "name": side.name.to_string(), "digest": side.digest() });
        json!({
            "a": side(self.old),
            "b": side(self.new),
            "identical": self.old.digest() == self.new.digest(),
            "images": self.images.iter().map(ImageComparison::json).collect::<Vec<_>>(),
        })
    }
}

fn side_text(side: &Side) -> String {
    let images = &side.contents.images;
    let size = format_bytes(total_size(images.iter().flat_map(|image| image.blobs())));
    format!("{}, {}, {size}", side.name, side.digest())
}

impl ImageComparison<'_> {
    fn lines(&self) -> Vec<String> {
        let platform = self.pair.platform.unwrap_or("(no platform)");
        let Some(details) = &self.details else {
            return vec![match (self.pair.old, self.pair.new) {
                (Some(_), Some(_)) => format!("{platform}: the same"),
                (None, _) => format!("+ {platform}: only in B"),
                (_, None) => format!("- {platform}: only in A"),
            }];
        };
        let mut lines = vec![platform.to_owned()];
        lines.extend(details.layer_lines());
        lines.extend(details.config_lines());
        lines.extend(details.file_lines());
        lines
    }

    fn json(&self) -> Value {
        let digest = |image: Option<&crate::commands::contents::RemoteImage>| {
            image.map(|image| image.digest.clone())
        };
        let mut object = json!({
            "platform": self.pair.platform,
            "a": digest(self.pair.old),
            "b": digest(self.pair.new),
        });
        if let Some(details) = &self.details {
            let layers = details.layers.layers.iter().map(layer_json);
            object["layers"] = layers.collect();
            object["config"] = match &details.config {
                Some(changes) => changes.iter().map(config_json).collect(),
                None => Value::Null,
            };
            object["files"] = details.files_json();
        }
        object
    }
}

impl ImageDetails<'_> {
    fn layer_lines(&self) -> Vec<String> {
        let (mut same, mut size) = (0, 0_u64);
        let mut lines = Vec::new();
        for (status, layer) in &self.layers.layers {
            match status {
                LayerStatus::Same { .. } => {
                    same += 1;
                    size = size.saturating_add(layer.blob.size);
                }
                LayerStatus::Removed => lines.push(layer_line('-', layer)),
                LayerStatus::Added => lines.push(layer_line('+', layer)),
            }
        }
        let plural = if same == 1 { "" } else { "s" };
        let size = format_bytes(size);
        lines.insert(
            0,
            format!("  layers: {same} layer{plural} in both ({size})"),
        );
        lines
    }

    fn config_lines(&self) -> Vec<String> {
        let Some(changes) = &self.config else {
            return vec!["  config: not an image, so it is not compared".to_owned()];
        };
        if changes.is_empty() {
            return vec!["  config: the same".to_owned()];
        }
        let mut lines = vec!["  config:".to_owned()];
        for ConfigChange {
            field,
            key,
            old,
            new,
        } in changes
        {
            for (mark, value) in [('-', old), ('+', new)] {
                let Some(value) = value else { continue };
                let value = match value {
                    Value::String(text) => text.clone(),
                    value => value.to_string(),
                };
                let key = key.as_ref().map_or(String::new(), |key| format!(" {key}"));
                lines.push(sanitize(&format!("{mark}   {field}{key} = {value}")));
            }
        }
        lines
    }

    fn file_lines(&self) -> Vec<String> {
        let compared = match &self.files {
            FileComparison::NotCompared(why) => {
                return vec![format!("  files: not compared ({})", sanitize(why))];
            }
            FileComparison::Compared(compared) => compared,
        };
        let found = compare_trees(&compared.old, &compared.new);
        let count = |status| {
            let same = found
                .changes
                .iter()
                .filter(|change| change.status == status);
            same.count()
        };
        let mut counts = format!(
            "  files: {} added, {} removed, {} changed",
            count(FileStatus::Added),
            count(FileStatus::Removed),
            count(FileStatus::Changed) + count(FileStatus::Attributes),
        );
        match count(FileStatus::Unknown) {
            0 => {}
            unknown => counts.push_str(&format!(", {unknown} perhaps changed")),
        }
        match found.touched {
            0 => {}
            touched => counts.push_str(&format!(", {touched} with another time only")),
        }
        let mut lines = vec![counts];
        lines.extend(found.changes.iter().take(MAX_LISTED_FILES).map(file_line));
        if let Some(more) = found.changes.len().checked_sub(MAX_LISTED_FILES + 1) {
            lines.push(format!("  and {} more", more + 1));
        }
        lines.extend(unlisted_line(compared));
        lines
    }

    fn files_json(&self) -> Value {
        let compared = match &self.files {
            FileComparison::NotCompared(why) => {
                return json!({ "compared": false, "reason": why });
            }
            FileComparison::Compared(compared) => compared,
        };
        let found = compare_trees(&compared.old, &compared.new);
        let listed = found.changes.iter().take(MAX_LISTED_FILES);
        json!({
            "compared": true,
            "unlistedLayers": compared.unlisted,
            "touched": found.touched,
            "total": found.changes.len(),
            "changes": listed.map(file_json).collect::<Vec<_>>(),
        })
    }
}

fn layer_line(mark: char, layer: &LayerOrigin<'_>) -> String {
    let (digest, size) = (&layer.blob.digest, format_bytes(layer.blob.size));
    let command = layer.created_by.map(sanitize).unwrap_or_default();
    let line = format!("{mark}   {digest} {size:>9}  {command}");
    line.trim_end().to_owned()
}

fn layer_json((status, layer): &(LayerStatus, LayerOrigin<'_>)) -> Value {
    let (name, before) = match status {
        LayerStatus::Same { old_blob } => ("same", Some(old_blob)),
        LayerStatus::Removed => ("removed", None),
        LayerStatus::Added => ("added", None),
    };
    let before = before.filter(|before| **before != layer.blob.digest);
    json!({
        "status": name,
        "digest": layer.blob.digest,
        "size": layer.blob.size,
        "diffID": layer.diff_id,
        "createdBy": layer.created_by,
        "before": before,
    })
}

fn config_json(change: &ConfigChange) -> Value {
    json!({
        "field": change.field,
        "key": change.key,
        "before": change.old,
        "after": change.new,
    })
}

/// Returns the line that says which layers have no list of files.
fn unlisted_line(compared: &ComparedFiles) -> Option<String> {
    let first = compared.unlisted.first()?;
    let count = compared.unlisted.len();
    Some(format!(
        "  note: {count} of the layers in both images have no list of files, the first is {first}; a \
         file that is in them too is shown as added or removed"
    ))
}

fn file_line(change: &FileChange<'_>) -> String {
    let mark = match change.status {
        FileStatus::Added => '+',
        FileStatus::Removed => '-',
        FileStatus::Changed | FileStatus::Attributes => '~',
        FileStatus::Unknown => '?',
    };
    let path = path_text(change);
    let details = match (change.status, change.old, change.new) {
        (FileStatus::Attributes, Some(old), Some(new)) => attributes_text(old, new),
        (_, Some(old), Some(new)) if old.size != new.size => {
            format!("{} -> {}", format_bytes(old.size), format_bytes(new.size))
        }
        (_, old, new) => new.or(old).map_or(String::new(), size_text),
    };
    let line = format!("{mark}   {path}  {details}");
    line.trim_end().to_owned()
}

/// Returns the path in the image. The end of a path that is not known whole is marked.
fn path_text(change: &FileChange<'_>) -> String {
    let facts = change.new.or(change.old);
    let is_folder = facts.is_some_and(|facts| facts.kind == FileKind::Folder);
    let is_partial = facts.is_some_and(|facts| facts.is_path_partial);
    let path = sanitize(&String::from_utf8_lossy(change.path));
    let end = match (is_folder, is_partial && change.path.len() >= 99) {
        (true, _) => "/",
        (false, true) => "…",
        (false, false) => "",
    };
    format!("/{path}{end}")
}

fn size_text(facts: &FileFacts) -> String {
    match facts.kind {
        FileKind::File => format_bytes(facts.size),
        FileKind::SymbolicLink | FileKind::HardLink => {
            format!("-> {}", sanitize(&String::from_utf8_lossy(&facts.link)))
        }
        FileKind::Folder | FileKind::Special => String::new(),
    }
}

fn attributes_text(old: &FileFacts, new: &FileFacts) -> String {
    let text = |facts: &FileFacts| {
        let (mode, (user, group)) = (facts.mode & 0o7777, facts.owner);
        format!("{mode:04o} {user}:{group}")
    };
    format!("{} -> {}", text(old), text(new))
}

fn file_json(change: &FileChange<'_>) -> Value {
    let facts = |facts: Option<&FileFacts>| {
        facts.map(|facts| {
            json!({
                "kind": kind_name(facts.kind),
                "size": facts.size,
                "mode": format!("{:04o}", facts.mode & 0o7777),
                "uid": facts.owner.0,
                "gid": facts.owner.1,
                "modified": facts.modified_at,
                "link": match facts.kind {
                    FileKind::SymbolicLink | FileKind::HardLink => {
                        Some(String::from_utf8_lossy(&facts.link))
                    }
                    _ => None,
                },
            })
        })
    };
    let is_partial = change
        .new
        .or(change.old)
        .is_some_and(|facts| facts.is_path_partial);
    json!({
        "status": match change.status {
            FileStatus::Added => "added",
            FileStatus::Removed => "removed",
            FileStatus::Changed => "changed",
            FileStatus::Attributes => "attributes",
            FileStatus::Unknown => "unknown",
        },
        "path": format!("/{}", String::from_utf8_lossy(change.path)),
        "pathIsPartial": is_partial,
        "before": facts(change.old),
        "after": facts(change.new),
    })
}

fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Folder => "folder",
        FileKind::SymbolicLink => "symlink",
        FileKind::HardLink => "hardlink",
        FileKind::Special => "special",
    }
}
