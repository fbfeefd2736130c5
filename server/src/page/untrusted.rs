//! Shows text that others wrote: labels, commands, annotations, errors of upstreams.
//!
//! maud escapes HTML. This module marks the characters that would make a text look like another one.

use maud::{Markup, PreEscaped, Render, html};

/// How many characters of a text are shown, and how many bytes of HTML they may need.
const MAX_SHOWN: (usize, usize) = (2000, 8 * 1024);
/// As [`MAX_SHOWN`], for a short text.
const MAX_SHORT: (usize, usize) = (64, 256);

/// A text that others wrote. Characters that nobody sees are shown as their code points.
pub(super) struct Untrusted<'a>(pub(super) &'a str);

/// A text as [`Untrusted`], of which less is shown: a name in a long list.
pub(super) struct ShortUntrusted<'a>(pub(super) &'a str);

impl Render for Untrusted<'_> {
    fn render(&self) -> Markup {
        render(self.0, MAX_SHOWN)
    }
}

impl Render for ShortUntrusted<'_> {
    fn render(&self) -> Markup {
        render(self.0, MAX_SHORT)
    }
}

/// Returns the part of a text of which [`Untrusted`] shows the same, with its sign that there is more.
pub(super) fn shown_part(text: &str) -> &str {
    first_chars(text, MAX_SHOWN.0 + 1)
}

/// Returns the part of a text of which [`ShortUntrusted`] shows the same.
pub(super) fn short_part(text: &str) -> &str {
    first_chars(text, MAX_SHORT.0 + 1)
}

fn first_chars(text: &str, count: usize) -> &str {
    let end = text.char_indices().nth(count);
    &text[..end.map_or(text.len(), |(end, _)| end)]
}

fn render(text: &str, (max_chars, max_bytes): (usize, usize)) -> Markup {
    let mut output = String::new();
    let mut chars = text.chars().take(max_chars).peekable();
    let mut shown_bytes = 0;
    while let Some(c) = chars.next_if(|_| output.len() < max_bytes) {
        shown_bytes += c.len_utf8();
        match c {
            '&' => output.push_str("&amp;"),
            '<' => output.push_str("&lt;"),
            '>' => output.push_str("&gt;"),
            '"' => output.push_str("&quot;"),
            _ if is_hidden(c) => {
                let mut count = 1_usize;
                while chars.next_if_eq(&c).is_some() {
                    count += 1;
                }
                shown_bytes += (count - 1) * c.len_utf8();
                output.push_str(&mark(c, count));
            }
            _ => output.push(c),
        }
    }
    let is_cut = shown_bytes < text.len();
    // A text from right to left must not reorder what stands beside it.
    html! { bdi { (PreEscaped(output)) @if is_cut { "…" } } }
}

/// Shows a hidden character that stands `count` times in a row.
fn mark(c: char, count: usize) -> String {
    let code = format!("U+{:04X}", u32::from(c));
    match count {
        1 => format!("<span class=\"mark\">{code}</span>"),
        _ => format!("<span class=\"mark\">{code} ×{count}</span>"),
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
        let run = shown(&"\u{ad}".repeat(1950));
        assert_eq!(run, "<bdi><span class=\"mark\">U+00AD ×1950</span></bdi>");
    }

    #[test]
    fn long_texts_are_cut() {
        let (max_chars, max_bytes) = MAX_SHOWN;
        let text = shown(&"x".repeat(max_chars + 1));
        assert!(text.ends_with("x…</bdi>"));
        assert!(!shown(&"x".repeat(max_chars)).contains('…'));
        let marks = shown(&"\u{ad}\u{34f}".repeat(max_chars));
        assert!(marks.ends_with("…</bdi>") && marks.len() < max_bytes + 100);
        for text in ["語".repeat(max_chars + 9), "\u{ad}".repeat(max_chars + 9)] {
            assert_eq!(shown(shown_part(&text)), shown(&text));
        }
        assert_eq!(short_part("語語"), "語語");
        let short = ShortUntrusted(&"x".repeat(max_chars))
            .render()
            .into_string();
        assert!(short.len() < 100, "{short}");
    }
}
