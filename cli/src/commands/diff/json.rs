//! Prints the differences of two images as one JSON object, in pieces: the list of files is long.
//!
//! Start reading at [`JsonPrinter`].

use imgsync_oci::delta::FileKind;
use serde_json::{Value, json};

use super::config::ConfigChange;
use super::file_tree::{FileChange, FileFacts, FileStatus, compare_trees};
use super::files::{ComparedFiles, FileComparison};
use super::layers::LayerStatus;
use super::{ImageComparison, MAX_LISTED_FILES, PairResult, Side};
use crate::commands::contents::RemoteImage;
use crate::commands::layer_origins::LayerOrigin;
use crate::report::StdoutWriter;
use crate::text::format_json;

/// The bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 64 * 1024;

/// The object while it is printed. Its last field is the list of the images.
pub(super) struct JsonPrinter<'a> {
    output: &'a StdoutWriter,
    buffer: String,
    has_images: bool,
}

impl<'a> JsonPrinter<'a> {
    /// Prints everything before the images.
    pub(super) fn start(output: &'a StdoutWriter, old: &Side, new: &Side) -> Self {
        let side = |side: &Side| json!({ "name": side.name.to_string(), "digest": side.digest() });
        let mut printer = Self {
            output,
            buffer: String::new(),
            has_images: false,
        };
        printer.open(&json!({
            "a": side(old),
            "b": side(new),
            "identical": old.digest() == new.digest(),
        }));
        printer.write("\"images\":[");
        printer
    }

    /// Prints the differences of the images for one platform.
    pub(super) fn print(&mut self, image: &ImageComparison<'_>) {
        if self.has_images {
            self.write(",");
        }
        self.has_images = true;
        let digest = |image: Option<&RemoteImage>| image.map(|image| image.digest.clone());
        let mut object = json!({
            "platform": image.pair.platform,
            "a": digest(image.pair.old),
            "b": digest(image.pair.new),
        });
        let details = match &image.result {
            PairResult::Compared(details) => details,
            PairResult::NotCompared(why) => {
                object["compared"] = json!(false);
                object["reason"] = json!(why);
                return self.write(&format_json(&object));
            }
            PairResult::Obvious => return self.write(&format_json(&object)),
        };
        object["layers"] = details.layers.layers.iter().map(layer_json).collect();
        object["config"] = match &details.config {
            Some(changes) => changes.iter().map(config_json).collect(),
            None => Value::Null,
        };
        self.open(&object);
        self.write("\"files\":");
        match &details.files {
            FileComparison::NotCompared(why) => {
                self.write(&format_json(&json!({ "compared": false, "reason": why })));
            }
            FileComparison::Compared(compared) => self.print_files(compared),
        }
        self.write("}");
    }

    fn print_files(&mut self, compared: &ComparedFiles) {
        let found = compare_trees(&compared.old, &compared.new);
        self.open(&json!({
            "compared": true,
            "unlistedLayers": compared.unlisted,
            "touched": found.touched,
            "total": found.changes.len(),
        }));
        self.write("\"changes\":[");
        for (position, change) in found.changes.iter().take(MAX_LISTED_FILES).enumerate() {
            if position > 0 {
                self.write(",");
            }
            self.write(&format_json(&file_json(change)));
        }
        self.write("]}");
    }

    /// Prints the end of the object.
    pub(super) fn finish(mut self) {
        self.buffer.push_str("]}\n");
        self.output.write(self.buffer.as_bytes());
    }

    /// Writes an object that has fields, without its end, so that another field can follow.
    fn open(&mut self, object: &Value) {
        let mut object = format_json(object);
        object.pop();
        self.write(&object);
        self.write(",");
    }

    fn write(&mut self, piece: &str) {
        self.buffer.push_str(piece);
        if self.buffer.len() >= BUFFER_BYTES {
            self.output.write(self.buffer.as_bytes());
            self.buffer.clear();
        }
    }
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
