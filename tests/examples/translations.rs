//! Tests that the Chinese documents follow the English ones: the same headings in number, level and
//! order, the same commands, and messages that the programs really print.

use super::document::{Block, DOCUMENTS, blocks, headings, read, top};
/// Each translated document, and the English one.
pub(super) const TRANSLATIONS: [(&str, &str); 5] = [
    ("docs/zh-CN/README.md", "README.md"),
    ("docs/zh-CN/doctor.md", "docs/doctor.md"),
    ("docs/zh-CN/from-registry-2.md", "docs/from-registry-2.md"),
    ("docs/zh-CN/install.md", "docs/install.md"),
    (
        "examples/1panel/imgsync-server/README.md",
        "examples/1panel/imgsync-server/README_en.md",
    ),
];

const FOLDER: &str = "docs/zh-CN";

/// Returns a block without the comments in it, which may be translated.
fn without_comments(block: &Block) -> (String, Vec<String>) {
    let lines = block.text.lines().map(|line| {
        let code = line.split_once(" #").map_or(line, |(code, _)| code);
        code.trim_end().to_owned()
    });
    let lines = lines.filter(|line| !line.starts_with('#'));
    (block.info.clone(), lines.collect())
}

#[test]
fn headings_are_those_of_the_english_documents() {
    for (translation, original) in TRANSLATIONS {
        let (translated, expected) = (headings(&read(translation)), headings(&read(original)));
        for (number, pair) in translated.iter().zip(&expected).enumerate() {
            let ((level, text), (expected_level, expected_text)) = pair;
            assert_eq!(
                level, expected_level,
                "{translation}: heading {number} {text:?} has another level than {expected_text:?}"
            );
        }
        assert_eq!(
            translated.len(),
            expected.len(),
            "{translation} and {original} have different headings:\n{translated:?}\n{expected:?}"
        );
    }
}

#[test]
fn blocks_are_those_of_the_english_documents() {
    for (translation, original) in TRANSLATIONS {
        let (translated, expected) = (blocks(&read(translation)), blocks(&read(original)));
        for (block, expected) in translated.iter().zip(&expected) {
            assert_eq!(
                without_comments(block),
                without_comments(expected),
                "{translation} differs from {original}"
            );
        }
        assert_eq!(translated.len(), expected.len(), "{translation}");
    }
}

#[test]
fn every_chinese_document_is_known() {
    for entry in std::fs::read_dir(top().join(FOLDER)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = format!("{FOLDER}/{name}");
        let is_translation = TRANSLATIONS.iter().any(|(known, _)| *known == path);
        // Documents that exist only in Chinese are in the list of all documents.
        let is_original = DOCUMENTS.contains(&&*path);
        assert!(is_translation || is_original, "{path} is in no list");
    }
}

/// Returns the sources of both programs as one text, without the line breaks in strings.
fn sources() -> String {
    let mut text = String::new();
    let mut folders: Vec<_> = ["oci/src", "cli/src", "server/src"]
        .map(|folder| top().join(folder))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                text += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let lines = text.split("\\\n").map(str::trim_start);
    lines.collect()
}

#[test]
fn the_messages_of_the_programs_in_the_documents_exist() {
    let page = read("docs/zh-CN/troubleshooting.md");
    let sources = sources();
    let sections = page.split("\n### ").skip(1);
    let own = sections.filter(|section| section.contains("<!-- imgsync -->"));
    let mut count = 0;
    for section in own {
        let message = section.lines().next().unwrap();
        // A name in capitals and an ellipsis stand for what differs in each message.
        for part in message.split(['…', ':']) {
            let part = part.replace("HOST", "");
            let part = part.trim();
            assert!(sources.contains(part), "no message has {part:?}: {message}");
        }
        count += 1;
    }
    assert!(count >= 6, "only {count} messages of the programs");
}
