//! Names and values that others wrote, such as labels, read leniently and in bounded memory.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::image_facts::MAX_ENTRIES;

/// The names and values of a JSON object whose values are texts, sorted by name; of more than
/// [`MAX_ENTRIES`], the first. Anything but an object counts as an empty one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TextPairs(pub(super) Vec<(String, String)>);

/// A text; `None` for any other value.
struct OptionalText(Option<String>);

/// Reads any JSON without keeping it.
struct PairsVisitor;
struct TextVisitor;

impl<'de> Deserialize<'de> for TextPairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PairsVisitor)
    }
}

impl<'de> Deserialize<'de> for OptionalText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Self)
    }
}

/// Adds the values of JSON that are read as the default: numbers, `null` and so on.
macro_rules! visit_as_default {
    ($($visit:ident: $type:ty),*) => {
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("any value")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
            while values.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }

        $(fn $visit<E>(self, _: $type) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        })*
    };
}

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = TextPairs;

    visit_as_default!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<TextPairs, A::Error> {
        let mut pairs = BTreeMap::new();
        while let Some((name, OptionalText(value))) = entries.next_entry::<String, _>()? {
            if let Some(value) = value {
                pairs.insert(name, value);
            }
            if pairs.len() > MAX_ENTRIES {
                pairs.pop_last();
            }
        }
        Ok(TextPairs(pairs.into_iter().collect()))
    }
}

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Option<String>;

    visit_as_default!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);

    fn visit_str<E>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Option<String>, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Vec<(String, String)> {
        serde_json::from_str::<TextPairs>(json).unwrap().0
    }

    #[test]
    fn only_texts_are_kept() {
        let mixed =
            r#"{"b": "2", "c": 3, "d": [1, {"e": "f"}], "g": null, "h": {"i": "j"}, "a": "1"}"#;
        let expected = [("a", "1"), ("b", "2")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(parse(mixed), expected);
        for other in ["[0, [1]]", "null", "true", "-1", "1.5", "\"text\""] {
            assert_eq!(parse(other), [], "{other}");
        }
    }

    #[test]
    fn the_first_names_are_kept() {
        let entries = (0..MAX_ENTRIES + 5).rev();
        let entries: Vec<String> = entries.map(|n| format!("\"{n:03}\": \"x\"")).collect();
        let pairs = parse(&format!("{{{}}}", entries.join(",")));
        assert_eq!(pairs.len(), MAX_ENTRIES);
        assert_eq!((&*pairs[0].0, &*pairs[199].0), ("000", "199"));
    }
}
