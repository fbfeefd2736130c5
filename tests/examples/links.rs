//! Tests that the links and the paths in the documents have a target.

use super::document::{DOCUMENTS, headings, read, top};
use super::translations::TRANSLATIONS;
use crate::support::prelude::*;

#[test]
fn links_between_documents_have_a_target() {
    let translations = TRANSLATIONS.iter().map(|(translation, _)| *translation);
    let others = ["CHANGELOG.md", "SECURITY.md"].into_iter();
    for path in DOCUMENTS.into_iter().chain(translations).chain(others) {
        let text = read(path);
        for target in text.split("](").skip(1) {
            let (target, _) = target.split_once(')').unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(path).parent().unwrap();
            let file = if file.is_empty() {
                top().join(path)
            } else {
                top().join(folder).join(file)
            };
            let found = std::fs::read_to_string(&file);
            let found = found.unwrap_or_else(|error| panic!("{path}: {target}: {error}"));
            let exists = heading.is_empty() || anchors(&found).contains(&heading.to_owned());
            assert!(exists, "{path}: {target}");
        }
    }
}

/// Returns the anchors that GitHub creates for the headings of a document.
fn anchors(document: &str) -> Vec<String> {
    let headings = headings(document).into_iter();
    headings
        .map(|(_, text)| {
            let text = text.to_lowercase();
            let kept = text
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn the_paths_in_the_architecture_document_exist() {
    let text = read("docs/architecture.md");
    for path in text.split('`').skip(1).step_by(2) {
        let crates = ["oci/", "cli/", "server/", "tests/", "examples/"];
        if crates.iter().any(|name| path.starts_with(name)) {
            assert!(top().join(path).exists(), "{path}");
        }
    }
}
