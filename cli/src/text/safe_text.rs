//! Text of others, made safe to print.

/// The text without what would steer a terminal or turn the order of what is read around: control
/// characters, and Unicode's controls of direction (UAX #9, "Explicit directional embeddings and
/// overrides", "isolates"). White space that would break the line becomes a blank.
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
