//! Templates of messages: text with placeholders, as in the format strings of the sources.
//!
//! Start reading at [`Template`].

/// A message with the names of the parts that change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    /// The text before, between and after the placeholders: one more than there are placeholders.
    pieces: Vec<String>,
    /// The names of the placeholders. One without a name has its number, counted from 0.
    names: Vec<String>,
}

impl Template {
    /// Parses a format string. Nothing separates placeholders that follow each other directly, so they
    /// are one, with the name of the first.
    ///
    /// # Errors
    /// Returns the reason if braces are not closed.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut names) = (vec![String::new()], Vec::new());
        let mut unnamed = 0;
        let mut rest = text;
        while let Some(position) = rest.find(['{', '}']) {
            let (before, braces) = rest.split_at(position);
            append(&mut pieces, before);
            if let Some(after) = ["{{", "}}"]
                .iter()
                .find_map(|pair| braces.strip_prefix(*pair))
            {
                append(&mut pieces, &braces[..1]);
                rest = after;
                continue;
            }
            let placeholder = braces
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'));
            let (placeholder, after) =
                placeholder.ok_or_else(|| format!("a brace is not closed in {text:?}"))?;
            let name = placeholder.split(':').next().unwrap_or_default();
            let name = if name.is_empty() {
                unnamed += 1;
                (unnamed - 1).to_string()
            } else {
                name.to_owned()
            };
            let is_adjacent = pieces.len() > 1 && pieces.last().is_some_and(String::is_empty);
            if !is_adjacent {
                names.push(name);
                pieces.push(String::new());
            }
            rest = after;
        }
        append(&mut pieces, rest);
        Ok(Self { pieces, names })
    }

    /// Returns the position of a placeholder.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|own| own == name)
    }

    /// Returns the number of bytes that are not placeholders; 0 if there are no words among them.
    pub(super) fn word_bytes(&self) -> usize {
        let has_words = |piece: &String| piece.contains(char::is_alphabetic);
        if self.pieces.iter().any(has_words) {
            self.pieces.iter().map(String::len).sum()
        } else {
            0
        }
    }

    /// Returns the parts of a text in the place of the placeholders; `None` if it is another message.
    /// Each piece is searched once, after the one before, so the time is linear.
    pub(super) fn captures<'t>(&self, text: &'t str) -> Option<Vec<&'t str>> {
        let (first, others) = self.pieces.split_first()?;
        let mut rest = text.strip_prefix(first.as_str())?;
        let Some((last, middle)) = others.split_last() else {
            return rest.is_empty().then(Vec::new);
        };
        rest = rest.strip_suffix(last.as_str())?;
        let mut parts = Vec::with_capacity(self.names.len());
        for piece in middle {
            let (part, after) = rest.split_once(piece.as_str())?;
            parts.push(part);
            rest = after;
        }
        parts.push(rest);
        Some(parts)
    }
}

fn append(pieces: &mut [String], text: &str) {
    if let Some(last) = pieces.last_mut() {
        last.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'t>(template: &str, text: &'t str) -> Option<Vec<&'t str>> {
        Template::parse(template).unwrap().captures(text)
    }

    #[test]
    fn a_text_matches_as_a_whole() {
        assert_eq!(parts("plain", "plain"), Some(vec![]));
        assert_eq!(parts("plain", "plain text"), None);
        assert_eq!(
            parts("cannot reach {a}: {b}", "cannot reach h:1: no: x"),
            Some(vec!["h:1", "no: x"])
        );
        assert_eq!(parts("{a} is empty", "it is empty"), Some(vec!["it"]));
        assert_eq!(parts("{a} is empty", "it is empty."), None);
        // A piece is not used twice.
        assert_eq!(parts("ab{x}ba", "aba"), None);
        assert_eq!(parts("a{x}b{y}b", "a1b2b3b"), Some(vec!["1", "2b3"]));
    }

    #[test]
    fn placeholders_have_names_or_numbers() {
        let template = Template::parse("{} of {all:?}{more}: {{x}} {}").unwrap();
        assert_eq!(
            template.captures("1 of 2 and 3: {x} y"),
            Some(vec!["1", "2 and 3", "y"])
        );
        assert_eq!(template.position("0"), Some(0));
        assert_eq!(template.position("all"), Some(1));
        assert_eq!(template.position("more"), None);
        assert_eq!(template.position("1"), Some(2));
        assert!(Template::parse("{a").is_err());
        assert!(Template::parse("a}").is_err());
    }
}
