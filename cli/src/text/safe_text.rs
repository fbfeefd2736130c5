//! Makes untrusted text safe to print on a terminal.

use std::fmt::Write as _;

/// Replaces the characters that control a terminal or change the direction of text. Line breaks and
/// tabs become spaces, so that the text stays on one line.
pub fn sanitize(text: &str) -> String {
    let safe = |c: char| match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
        c if is_unsafe(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(safe).collect()
}

/// Formats a value as JSON on one line, which is safe to print on a terminal: the characters that
/// [`sanitize`] replaces are escaped, so that programs read the same value.
pub fn format_json(value: &serde_json::Value) -> String {
    let mut safe = String::new();
    // Outside of strings, JSON consists of printable ASCII characters.
    for c in value.to_string().chars() {
        if is_unsafe(c) {
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Returns whether a character controls a terminal (C0, DEL, C1), changes the direction of text
/// (the property `Bidi_Control` of Unicode), or separates lines. All of them have four hex digits.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(sanitize("plain: ä → 語"), "plain: ä → 語");
        assert_eq!(sanitize("two\r\nlines\tand"), "two  lines and");
        let hostile = sanitize("\x1b[2J\u{7f}\u{9b}31m\u{202e}gpj\u{2066}\u{2069}\u{202a}");
        let rest: String = hostile.chars().filter(|c| *c != '\u{fffd}').collect();
        assert_eq!(rest, "[2J31mgpj");
        assert_eq!(sanitize("a\u{2028}b\u{2029}c\u{200f}"), "a b c\u{fffd}");
    }

    #[test]
    fn json_is_escaped_and_keeps_its_value() {
        let hostile =
            "\n\x1b[2J\u{7f}\u{9b}31m\u{61c}\u{200e}\u{2028}\u{2029}\u{202e}\u{2066}\u{2069}";
        let value = serde_json::json!({ hostile: [hostile, "\"\\", "plain: ä → 語", 1, null] });
        let line = format_json(&value);
        assert!(!line.contains(is_unsafe), "{line:?}");
        assert!(
            line.contains("\\u009b31m\\u061c") && line.contains("plain: ä → 語"),
            "{line}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&line).unwrap(),
            value
        );
    }
}
