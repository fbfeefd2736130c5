//! Translates messages that are complete already.
//!
//! A usual catalog is asked where a message is made. Here it is asked where a message is shown,
//! because most messages are made far away from there: by `Display`, by `thiserror`, and in the crate
//! `imgsync-oci`, which the server uses as well. Asking there would carry a language through all of
//! them. Programs also read the English text: `--json` has it, and some code looks at its words.
//!
//! So the catalog has the format strings of the sources as templates. A message is compared with them,
//! and the parts in the place of the placeholders are put into the translation. Of several templates, the
//! one counts that explains the most of the message. The test of this module compares the catalog with the string literals of the sources. A message that no template
//! matches is shown in English.
//!
//! `zh_cn.txt` has all Chinese messages. Start reading at [`translate`].

mod template;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use self::template::Template;
use super::Language;

/// The Chinese messages. A line with a template is followed by a line with its translation; empty lines
/// and lines that begin with `# ` are between. In a translation, `{name}` is the part as it is, and
/// `{name*}` its translation if it has one.
const CHINESE: &str = include_str!("zh_cn.txt");
/// The longest message that is translated, in bytes.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;
/// How deeply messages can be nested.
const MAX_DEPTH: usize = 8;
/// How many templates are compared for one message. The usual one needs some thousands.
const MAX_COMPARISONS: usize = 50_000;

static CHINESE_MESSAGES: LazyLock<Catalog> = LazyLock::new(|| {
    // The test of this module reads the same text, and fails for what is left out here.
    let (catalog, _) = Catalog::parse(CHINESE);
    catalog
});

/// Returns a message in this language, or unchanged if it has no translation.
pub fn translate(message: &str, language: Language) -> String {
    let translated = match language {
        Language::English => None,
        Language::Chinese if message.len() > MAX_MESSAGE_BYTES => None,
        Language::Chinese => {
            let mut comparisons = MAX_COMPARISONS;
            CHINESE_MESSAGES.translate(message, MAX_DEPTH, &mut comparisons)
        }
    };
    translated.map_or_else(|| message.to_owned(), |translated| translated.text)
}

/// The messages of a language.
#[derive(Debug, Default)]
struct Catalog {
    /// In the order of the text.
    entries: Vec<CatalogEntry>,
}

#[derive(Debug)]
struct CatalogEntry {
    template: Template,
    translation: Vec<Segment>,
}

/// A part of a translation.
#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Text(String),
    Part {
        /// The position of the placeholder in the template.
        position: usize,
        is_translated: bool,
    },
}

impl Catalog {
    /// Reads a catalog. Also returns what is wrong with it: such entries are left out.
    fn parse(text: &str) -> (Self, Vec<String>) {
        let (mut entries, mut faults) = (Vec::new(), Vec::new());
        for (source, translation) in pairs(text) {
            match CatalogEntry::parse(source, translation) {
                Ok(entry) => entries.push(entry),
                Err(fault) => faults.push(fault),
            }
        }
        (Self { entries }, faults)
    }

    /// Translates a message by the template that says the most about it, together with those of its
    /// parts. Returns `None` if there is none.
    fn translate(
        &self,
        message: &str,
        depth: usize,
        comparisons: &mut usize,
    ) -> Option<Translation> {
        let depth = depth.checked_sub(1)?;
        let mut best: Option<Translation> = None;
        for entry in &self.entries {
            *comparisons = comparisons.checked_sub(1)?;
            let Some(parts) = entry.template.captures(message) else {
                continue;
            };
            let mut translation = Translation {
                text: String::new(),
                known_bytes: entry.template.word_bytes(),
            };
            let mut is_complete = true;
            for segment in &entry.translation {
                let (position, is_translated) = match segment {
                    Segment::Text(text) => {
                        append(&mut translation.text, text);
                        continue;
                    }
                    Segment::Part {
                        position,
                        is_translated,
                    } => (*position, *is_translated),
                };
                let part = parts.get(position).copied().unwrap_or_default();
                let inner = is_translated.then(|| self.translate(part, depth, comparisons));
                is_complete &= inner.as_ref().is_none_or(Option::is_some);
                match inner.flatten() {
                    Some(inner) => {
                        append(&mut translation.text, &inner.text);
                        translation.known_bytes += inner.known_bytes;
                    }
                    None => append(&mut translation.text, part),
                }
            }
            // A colon between two unknown texts is no message.
            let is_message = entry.template.word_bytes() > 0 || is_complete;
            let is_better = best
                .as_ref()
                .is_none_or(|best| translation.known_bytes > best.known_bytes);
            if is_message && is_better {
                best = Some(translation);
            }
        }
        best
    }
}

/// A translated message.
#[derive(Debug)]
struct Translation {
    text: String,
    /// The number of bytes of the message that are text of templates.
    known_bytes: usize,
}

/// Adds a piece of a Chinese text. A space separates Chinese from Latin letters, so one at the end that
/// both have beside it is left out.
fn append(text: &mut String, piece: &str) {
    let is_chinese = |c: Option<char>| c.is_some_and(|c| ('\u{2e80}'..='\u{ffef}').contains(&c));
    let is_before = |text: &str| is_chinese(text.chars().next_back());
    let is_after = |piece: &str| is_chinese(piece.chars().next());
    if text.strip_suffix(' ').is_some_and(is_before) && is_after(piece) {
        text.pop();
    }
    match piece.strip_prefix(' ') {
        Some(rest) if is_before(text) && is_after(rest) => text.push_str(rest),
        _ => text.push_str(piece),
    }
}

/// Returns the templates of a catalog with their translations.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines();
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with("# "));
    std::iter::from_fn(move || Some((lines.next()?, lines.next().unwrap_or_default())))
}

impl CatalogEntry {
    fn parse(source: &str, translation: &str) -> Result<Self, String> {
        let template = Template::parse(source)?;
        let mut segments = Vec::new();
        let mut rest = translation;
        while let Some((before, after)) = rest.split_once('{') {
            segments.push(Segment::Text(before.to_owned()));
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| format!("a brace is not closed in {translation:?}"))?;
            let (name, is_translated) = match name.strip_suffix('*') {
                Some(name) => (name, true),
                None => (name, false),
            };
            let position = template.position(name);
            segments.push(Segment::Part {
                position: position.ok_or_else(|| format!("no {{{name}}} in {source:?}"))?,
                is_translated,
            });
            rest = after;
        }
        segments.push(Segment::Text(rest.to_owned()));
        Ok(Self {
            template,
            translation: segments,
        })
    }
}
