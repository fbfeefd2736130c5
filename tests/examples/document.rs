//! Reads the documents of the repository, and their fenced blocks.

use crate::support::prelude::*;

/// The documents that are written in English first, and those without an English counterpart.
pub(crate) const DOCUMENTS: [&str; 21] = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/benchmarks.md",
    "docs/commands.md",
    "docs/doctor.md",
    "docs/extension.md",
    "docs/from-registry-2.md",
    "docs/install.md",
    "docs/mirror.md",
    "docs/platforms.md",
    "docs/push.md",
    "docs/server.md",
    "docs/stock-registry.md",
    "docs/zh-CN/glossary.md",
    "docs/zh-CN/troubleshooting.md",
    "docs/zh-CN/tutorial.md",
    "examples/1panel/imgsync-server/README_en.md",
    "examples/cache/README.md",
    "examples/ci/README.md",
    "examples/deploy/README.md",
];

/// Returns the top folder of the repository.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the text of a file of the repository.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).expect(path)
}

/// A fenced block of a document.
#[derive(Debug)]
pub(crate) struct Block {
    /// The words after the opening fence: the language, and marks for these tests.
    pub(crate) info: String,
    pub(crate) text: String,
}

impl Block {
    /// Reports whether the block has this language.
    pub(crate) fn is(&self, language: &str) -> bool {
        self.info.split(' ').next() == Some(language)
    }

    /// Reports whether this word follows the language.
    pub(crate) fn has_mark(&self, mark: &str) -> bool {
        self.info.split(' ').skip(1).any(|word| word == mark)
    }
}

/// Returns the fenced blocks of a document.
pub(crate) fn blocks(document: &str) -> Vec<Block> {
    let (mut blocks, mut open) = (Vec::new(), None::<Block>);
    for line in document.lines() {
        // A block in a list is indented.
        match (line.trim_start().strip_prefix("```"), open.as_mut()) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(info), None) => {
                let (info, text) = (info.to_owned(), String::new());
                open = Some(Block { info, text });
            }
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    blocks
}

/// Returns the text of all blocks in a language.
pub(crate) fn text_of_blocks(document: &str, language: &str) -> String {
    let blocks = blocks(document).into_iter();
    let blocks = blocks.filter(|block| block.is(language));
    blocks.map(|block| block.text).collect()
}

/// Returns the headings of a document: the level and the text of each.
pub(crate) fn headings(document: &str) -> Vec<(usize, String)> {
    let mut is_in_block = false;
    let mut headings = Vec::new();
    for line in document.lines() {
        is_in_block ^= line.trim_start().starts_with("```");
        let text = line.trim_start_matches('#');
        let level = line.len() - text.len();
        if !is_in_block && level > 0 && text.starts_with(' ') {
            headings.push((level, text.trim().to_owned()));
        }
    }
    headings
}

/// Splits a command line into words as a shell does. Stops at a comment, a pipe or a redirection.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#' | '|' | '>') if word.is_none() => return words,
            (None, ' ' | '`') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}
