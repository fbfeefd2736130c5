//! Names and values that others wrote, such as labels, read leniently and in bounded memory.

use std::collections::BTreeMap;

use serde::de::MapAccess;

use super::image_facts::MAX_ENTRIES;
use super::lenient::{Lenient, Leniently};
use super::untrusted::shown_part;

/// How many bytes of names and values are kept. A table of them has at most 32 KiB of HTML.
const MAX_BYTES: usize = 256 * 1024;

/// The names and values of a JSON object whose values are texts, sorted by name. Of more than
/// [`MAX_ENTRIES`] or [`MAX_BYTES`], the first are kept, and of each only the part that is shown.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct TextPairs {
    pub(super) pairs: Vec<(String, String)>,
    /// Whether there are more.
    pub(super) is_truncated: bool,
}

/// The part of a text that is shown; `None` for a value that is no text.
#[derive(Default)]
struct ShownText(Option<String>);

impl Lenient for ShownText {
    fn from_text(text: &str) -> Self {
        Self(Some(shown_part(text).to_owned()))
    }
}

impl Lenient for TextPairs {
    fn from_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let (mut pairs, mut bytes, mut is_truncated) = (BTreeMap::new(), 0, false);
        while let Some((name, value)) = object.next_entry::<Leniently<ShownText>, Leniently<_>>()? {
            let (Leniently(ShownText(Some(name))), Leniently(ShownText(Some(value)))) =
                (name, value)
            else {
                continue;
            };
            bytes += name.len() + value.len();
            let name_len = name.len();
            if let Some(replaced) = pairs.insert(name, value) {
                bytes -= name_len + replaced.len();
            }
            while (pairs.len() > MAX_ENTRIES || bytes > MAX_BYTES)
                && let Some((name, value)) = pairs.pop_last()
            {
                bytes -= name.len() + value.len();
                is_truncated = true;
            }
        }
        Ok(Self {
            pairs: pairs.into_iter().collect(),
            is_truncated,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::lenient::parse_leniently;
    use super::*;

    fn parse(json: &str) -> TextPairs {
        parse_leniently(json.as_bytes())
    }

    #[test]
    fn only_texts_are_kept() {
        let mixed =
            r#"{"b": "2", "c": 3, "d": [1, {"e": "f"}], "g": null, "h": {"i": "j"}, "a": ""}"#;
        let expected = [("a", ""), ("b", "2")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(parse(mixed).pairs, expected);
        for other in ["[0, [1]]", "null", "true", "-1", "1.5", "\"text\"", "{"] {
            assert_eq!(parse(other), TextPairs::default(), "{other}");
        }
    }

    #[test]
    fn the_first_names_are_kept() {
        let entries = |count: usize, value: &str| {
            let entries = (0..count).rev();
            let entries: Vec<String> = entries
                .map(|n| format!("\"{n:03}\": \"{value}\""))
                .collect();
            parse(&format!("{{{}}}", entries.join(",")))
        };
        let many = entries(MAX_ENTRIES + 5, "x");
        assert_eq!(many.pairs.len(), MAX_ENTRIES);
        assert_eq!((&*many.pairs[0].0, &*many.pairs[199].0), ("000", "199"));
        assert!(many.is_truncated && !entries(MAX_ENTRIES, "x").is_truncated);
        let long = entries(MAX_ENTRIES, &"\u{200b}".repeat(9000));
        assert!(long.is_truncated && (10..100).contains(&long.pairs.len()));
        let bytes = long
            .pairs
            .iter()
            .map(|(name, value)| name.len() + value.len());
        assert!(bytes.sum::<usize>() <= MAX_BYTES);
    }
}
