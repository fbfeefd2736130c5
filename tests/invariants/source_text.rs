//! Finds modules, imports and definitions of types in the text of Rust sources.

use std::path::{Path, PathBuf};

/// Returns the name of the type that a line defines. Ignores associated types.
pub(super) fn defined_type(line: &str) -> Option<&str> {
    let is_indented = line.starts_with(' ');
    let mut words = line
        .trim_start()
        .split([' ', '<', '(', '{', ';', ':', '='])
        .filter(|word| !word.is_empty() && !matches!(*word, "pub" | "crate)" | "super)" | "in"));
    let keyword = words.find(|word| {
        matches!(*word, "struct" | "enum" | "trait" | "type") || !word.ends_with(')')
    })?;
    let is_type = match keyword {
        "struct" | "enum" | "trait" => true,
        "type" => !is_indented,
        _ => false,
    };
    words
        .next()
        .filter(|name| is_type && name.starts_with(char::is_uppercase))
}

/// Returns the top-level module of a file.
pub(super) fn module(file: &Path, folder: &Path) -> String {
    let first = file.strip_prefix(folder).unwrap().components().next();
    let first = Path::new(first.unwrap().as_os_str());
    first.file_stem().unwrap().to_string_lossy().into_owned()
}

/// Returns the top-level modules of the same crate that the code imports, each with its line
/// number.
pub(super) fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // The number of open braces of a `crate::{…}`, and whether a name at the first level may start.
    let (mut depth, mut begins) = (0, false);
    for (number, line) in code(text) {
        let mut rest = line;
        while !rest.is_empty() {
            if depth == 0 {
                let Some((_, behind)) = rest.split_once("crate::") else {
                    break;
                };
                rest = behind;
                if let Some(group) = rest.strip_prefix('{') {
                    (rest, depth, begins) = (group, 1, true);
                } else {
                    found.push((number, first_word(rest)));
                }
                continue;
            }
            let word = first_word(rest);
            if !word.is_empty() {
                rest = &rest[word.len()..];
                if begins && depth == 1 {
                    found.push((number, word));
                }
                begins = false;
                continue;
            }
            let mark = rest.chars().next().unwrap_or_default();
            rest = &rest[mark.len_utf8()..];
            match mark {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => begins = true,
                _ => {}
            }
        }
    }
    found
}

fn first_word(text: &str) -> String {
    let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
    text.chars().take_while(is_part).collect()
}

/// Returns the lines of code with their numbers, without comments and empty lines. Stops at the
/// tests at the end of the file, but not at a `#[cfg(test)] mod tests;`.
pub(super) fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let ends = |line: &str, next: Option<&str>| {
        line.starts_with("#[cfg(test)]") && next.is_none_or(|next| !next.ends_with(';'))
    };
    let lines = text.lines().enumerate();
    let with_next = lines.zip(text.lines().skip(1).map(Some).chain([None]));
    with_next
        .take_while(move |((_, line), next)| !ends(line, *next))
        .map(|(line, _)| line)
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
        .filter(|(_, line)| !line.trim().is_empty())
}

/// Returns all source files at a path, without files that contain only tests.
pub(super) fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let is_for_tests = stem.ends_with("tests") || stem == "testing" || stem == "fuzz";
        if is_for_tests {
            continue;
        }
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files.push(path);
        }
    }
    files
}
