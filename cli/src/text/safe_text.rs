//! Makes untrusted text safe to print on a terminal.

/// Replaces the characters that control a terminal or change the direction of text: control
/// characters, and the directional controls of Unicode (UAX #9, "Explicit Directional Embeddings
/// and Overrides" and "Isolates"). Line breaks and tabs become spaces, so that the text stays on
/// one line.
pub fn sanitize(text: &str) -> String {
    let safe = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(safe).collect()
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
    }
}
