//! Reads the messages in the sources of the tool and of its client: string literals, with what they
//! are for. Only for the test of the catalog.

use std::path::{Path, PathBuf};

/// A piece of Rust source.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A string literal, as the compiler reads it.
    Text(String),
    Word(String),
    Mark(char),
}

/// The string literals of the sources.
#[derive(Debug, Default)]
pub(super) struct SourceText {
    /// All of them.
    pub(super) literals: Vec<String>,
    /// The literals of errors, hints and notes.
    pub(super) messages: Vec<String>,
}

/// Calls whose strings are messages.
const CALLS: [&str; 3] = ["with_hint", "note", "detail"];
/// Variables whose strings are messages.
const VARIABLES: [&str; 2] = ["what", "hint"];

/// Reads the sources of the tool and of the client.
pub(super) fn read_sources() -> SourceText {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let client = tool.join("../../oci/src");
    let mut files = Vec::new();
    for folder in [&tool, &client] {
        list_files(folder, &mut files);
    }
    let mut found = SourceText::default();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        // Tests are at the end of a file.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let tokens = tokens(text);
        let path = file.to_string_lossy().replace('\\', "/");
        let is_hints = path.contains("cli/src/exit");
        let has_errors =
            path.contains("oci/src/client/error") || path.contains("cli/src/image/error");
        for (position, token) in tokens.iter().enumerate() {
            let Token::Text(text) = token else { continue };
            found.literals.push(text.clone());
            let is_message = is_hints || is_in_message(&tokens, position, has_errors);
            if is_message && is_sentence(text) {
                found.messages.push(text.clone());
            }
        }
    }
    found
}

/// Lists source files that are no tests, and not those of the checks of `imgsync doctor` and of the
/// command line, which are shown in English.
fn list_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_skipped = ["tests", "testing", "fuzz", "doctor", "args"]
            .iter()
            .any(|word| name.trim_end_matches(".rs").ends_with(word));
        if is_skipped && !path.ends_with("commands/doctor.rs") {
            continue;
        }
        if path.is_dir() {
            list_files(&path, files);
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
}

/// Returns whether a text says something: it has two words or more beside placeholders.
fn is_sentence(text: &str) -> bool {
    let mut depth = 0;
    let outside = text.chars().filter(|c| {
        depth += i32::from(*c == '{');
        let is_outside = depth == 0;
        depth -= i32::from(*c == '}');
        is_outside
    });
    let outside: String = outside.collect();
    let words = outside.split(|c: char| !c.is_ascii_alphabetic());
    words.filter(|word| word.len() > 1).count() > 1 && text.contains(' ')
}

/// Returns whether the token at a position is in a call or a variable of a message, or, if `has_errors`,
/// in an attribute of `thiserror`.
fn is_in_message(tokens: &[Token], position: usize, has_errors: bool) -> bool {
    let word = |position: usize| match tokens.get(position) {
        Some(Token::Word(word)) => word.as_str(),
        _ => "",
    };
    let mut depth = 0;
    for before in (0..position).rev() {
        match &tokens[before] {
            Token::Mark(')' | ']' | '}') => depth += 1,
            Token::Mark('(') if depth == 0 => {
                let name = word(before.wrapping_sub(1));
                let is_failure = before > 3 && word(before - 4) == "Failure";
                if CALLS.contains(&name) || is_failure || (has_errors && name == "error") {
                    return true;
                }
            }
            // Another block begins or ends here: an argument can have blocks, too.
            Token::Mark('(' | '[' | '{') => depth -= 1,
            Token::Mark(';') if depth <= 0 => return false,
            Token::Word(name) if depth == 0 && name == "let" => {
                return VARIABLES.contains(&word(before + 1));
            }
            _ => {}
        }
        depth = depth.max(0);
    }
    false
}

/// Splits Rust source, without comments and characters.
fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(after) = raw_string(rest, &mut tokens) {
            rest = after;
        } else if let Some(after) = rest.strip_prefix('"') {
            let (text, after) = string(after);
            tokens.push(Token::Text(text));
            rest = after;
        } else if first == '\'' {
            rest = character(rest);
        } else if first.is_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            tokens.push(Token::Word(word.to_owned()));
            rest = after;
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Mark(first));
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    tokens
}

/// Reads a raw string, if there is one, and returns what follows.
fn raw_string<'s>(source: &'s str, tokens: &mut Vec<Token>) -> Option<&'s str> {
    let after = source.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let after = after[hashes..].strip_prefix('"')?;
    let (text, after) = after.split_once(&format!("\"{}", "#".repeat(hashes)))?;
    tokens.push(Token::Text(text.to_owned()));
    Some(after)
}

/// Reads the rest of a string, and returns its text and what follows.
fn string(source: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = source.char_indices();
    while let Some((position, c)) = chars.next() {
        match c {
            '"' => return (text, &source[position + 1..]),
            '\\' => match chars.next() {
                // The next line continues this one, without its indentation.
                Some((_, '\n')) => {
                    let after = chars.as_str().trim_start();
                    let (continued, rest) = string(after);
                    return (text + &continued, rest);
                }
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, other)) => text.push(other),
                None => break,
            },
            c => text.push(c),
        }
    }
    (text, "")
}

/// Skips a character, or the mark of a lifetime.
fn character(source: &str) -> &str {
    let inner = &source[1..];
    if let Some(escaped) = inner.strip_prefix('\\') {
        let end = escaped[1..].find('\'').map_or(escaped.len(), |end| end + 2);
        return &escaped[end..];
    }
    let mut chars = inner.chars();
    chars.next();
    chars.as_str().strip_prefix('\'').unwrap_or(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_as_the_compiler_does() {
        let source = "fn a<'a>() { let hint = format!(\"one \\\n    {x} \\\"two\\\"\"); // \"no\"\n\
                      let c = '\"'; let b = r#\"raw \"text\"\"#; }";
        let texts: Vec<_> = tokens(source)
            .into_iter()
            .filter_map(|token| match token {
                Token::Text(text) => Some(text),
                _ => None,
            })
            .collect();
        assert_eq!(texts, ["one {x} \"two\"", "raw \"text\""]);
    }
}
