//! Prints the differences of two images as lines for people.

use imgsync_oci::delta::FileKind;
use serde_json::Value;

use super::config::ConfigChange;
use super::file_tree::{FileChange, FileFacts, FileStatus, compare_trees};
use super::files::{ComparedFiles, FileComparison};
use super::layers::LayerStatus;
use super::pairs::ImagePair;
use super::{ImageComparison, ImageDetails, MAX_LISTED_FILES, PairResult, Side};
use crate::commands::contents::total_size;
use crate::commands::layer_origins::LayerOrigin;
use crate::report::StdoutWriter;
use crate::text::{format_bytes, sanitize};

/// Prints the names of both sides.
pub(super) fn print_start(output: &StdoutWriter, old: &Side, new: &Side) {
    if old.digest() == new.digest() {
        let (name, other, digest) = (&old.name, &new.name, old.digest());
        output.print(&format!("{name} and {other} are the same image: {digest}"));
        return;
    }
    output.print(&format!("--- {}", side_text(old)));
    output.print(&format!("+++ {}", side_text(new)));
}

fn side_text(side: &Side) -> String {
    let images = &side.contents.images;
    let size = format_bytes(total_size(images.iter().flat_map(|image| image.blobs())));
    format!("{}, {}, {size}", side.name, side.digest())
}

/// Says that two indexes differ although their images do not.
pub(super) fn print_index_note(output: &StdoutWriter, pairs: &[ImagePair<'_>]) {
    if pairs.iter().all(ImagePair::is_same) {
        output.print("the images are the same; other manifests or annotations of the index differ");
    }
}

/// Prints the differences of the images for one platform.
pub(super) fn print_image(output: &StdoutWriter, image: &ImageComparison<'_>) {
    let platform = image.pair.platform.unwrap_or("(no platform)");
    let details = match &image.result {
        PairResult::Compared(details) => details,
        PairResult::NotCompared(why) => {
            output.print(&format!("{platform}: not compared ({why})"));
            return;
        }
        PairResult::Obvious => {
            output.print(&match (image.pair.old, image.pair.new) {
                (Some(_), Some(_)) => format!("{platform}: the same"),
                (None, _) => format!("+ {platform}: only in B"),
                (_, None) => format!("- {platform}: only in A"),
            });
            return;
        }
    };
    output.print(platform);
    for line in details.layer_lines().iter().chain(&details.config_lines()) {
        output.print(line);
    }
    match &details.files {
        FileComparison::NotCompared(why) => {
            output.print(&format!("  files: not compared: {}", sanitize(why)));
        }
        FileComparison::Compared(compared) => print_files(output, compared),
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
}

fn print_files(output: &StdoutWriter, compared: &ComparedFiles) {
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
    output.print(&counts);
    for change in found.changes.iter().take(MAX_LISTED_FILES) {
        output.print(&file_line(change));
    }
    if let Some(more) = found.changes.len().checked_sub(MAX_LISTED_FILES + 1) {
        output.print(&format!("  and {} more", more + 1));
    }
    let is_in_one =
        |change: &FileChange<'_>| matches!(change.status, FileStatus::Added | FileStatus::Removed);
    if found.changes.iter().any(is_in_one)
        && let Some(line) = unlisted_line(compared)
    {
        output.print(&line);
    }
}

fn layer_line(mark: char, layer: &LayerOrigin<'_>) -> String {
    let (digest, size) = (&layer.blob.digest, format_bytes(layer.blob.size));
    let command = layer.created_by.map(sanitize).unwrap_or_default();
    let line = format!("{mark}   {digest} {size:>9}  {command}");
    line.trim_end().to_owned()
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
