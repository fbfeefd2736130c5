//! Shows text that others wrote: labels, commands, annotations, errors of upstreams.
//!
//! maud escapes HTML. This module marks the characters that would make a text look like another one.

use maud::{Markup, PreEscaped, Render, html};

/// How many characters of a text are shown.
const MAX_SHOWN_CHARS: usize = 2000;

/// A text that others wrote. Characters that nobody sees are shown as their code points.
pub(super) struct Untrusted<'a>(pub(super) &'a str);

impl Render for Untrusted<'_> {
    fn render(&self) -> Markup {
        let mut output = String::new();
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(MAX_SHOWN_CHARS) {
            if is_hidden(c) {
                output.push_str("<span class=\"mark\">U+");
                output.push_str(&format!("{:04X}", u32::from(c)));
                output.push_str("</span>");
            } else {
                match c {
                    '&' => output.push_str("&amp;"),
                    '<' => output.push_str("&lt;"),
                    '>' => output.push_str("&gt;"),
                    '"' => output.push_str("&quot;"),
                    _ => output.push(c),
                }
            }
        }
        let rest = chars.next().map(|_| "…");
        // A text from right to left must not reorder what stands beside it.
        html! { bdi { (PreEscaped(output)) (rest.unwrap_or_default()) } }
    }
}

/// Returns whether a character is invisible, or changes the direction of the text after it.
fn is_hidden(c: char) -> bool {
    if c == '\n' || c == '\t' {
        return false;
    }
    c.is_control()
        || matches!(c,
            '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Untrusted(text).render().into_string()
    }

    #[test]
    fn html_is_text() {
        assert_eq!(
            shown("<script>\"a\" & 'b'</script>"),
            "<bdi>&lt;script&gt;&quot;a&quot; &amp; 'b'&lt;/script&gt;</bdi>"
        );
        assert_eq!(shown("RUN a\n\tb 語"), "<bdi>RUN a\n\tb 語</bdi>");
    }

    #[test]
    fn invisible_characters_are_marked() {
        let marked = shown("a\u{202e}b\u{200b}\u{1b}[31m\u{e0041}");
        for code in ["U+202E", "U+200B", "U+001B", "U+E0041"] {
            assert!(marked.contains(&format!(">{code}</span>")), "{marked}");
        }
        assert!(!marked.contains('\u{202e}'));
    }

    #[test]
    fn long_texts_are_cut() {
        let text = shown(&"x".repeat(MAX_SHOWN_CHARS + 1));
        assert!(text.ends_with("x…</bdi>"));
        assert!(!shown(&"x".repeat(MAX_SHOWN_CHARS)).contains('…'));
    }
}
