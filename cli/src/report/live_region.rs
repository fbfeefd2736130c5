//! Draws lines at the bottom of a terminal again and again, and prints other text above them.
//!
//! This module does not decide what is drawn. Start reading at [`LiveRegion`].

use std::io::Write;

/// The lines at the bottom of a terminal. The cursor is at the start of the line below them, so that
/// whatever else is printed does not mix with them.
#[derive(Debug)]
pub(super) struct LiveRegion<W> {
    terminal: W,
    /// The lines on the terminal.
    drawn: Vec<String>,
}

impl<W: Write> LiveRegion<W> {
    /// Creates a region without lines.
    pub(super) fn new(terminal: W) -> Self {
        Self {
            terminal,
            drawn: Vec::new(),
        }
    }

    /// Replaces the lines. None of them may be wider than the terminal.
    pub(super) fn draw(&mut self, lines: Vec<String>) {
        if lines == self.drawn {
            return;
        }
        let mut output = self.move_to_start();
        for line in &lines {
            // Erases the rest of the line that was there.
            output += &format!("{line}\x1b[K\n");
        }
        // Erases the lines below.
        output += "\x1b[J";
        self.write(&output);
        self.drawn = lines;
    }

    /// Prints text in place of the lines.
    pub(super) fn print(&mut self, text: &str) {
        let erased = self.erasure();
        self.write(&format!("{erased}{text}\n"));
    }

    /// Erases the lines.
    pub(super) fn erase(&mut self) {
        let erased = self.erasure();
        self.write(&erased);
    }

    /// Returns the text that erases the lines, and forgets them.
    fn erasure(&mut self) -> String {
        if self.drawn.is_empty() {
            return String::new();
        }
        let erased = self.move_to_start() + "\x1b[J";
        self.drawn.clear();
        erased
    }

    /// Returns the text that moves the cursor to the start of the first line. The column may have
    /// changed, because the terminal shows what the user types.
    fn move_to_start(&self) -> String {
        match self.drawn.len() {
            0 => String::new(),
            lines => format!("\r\x1b[{lines}A"),
        }
    }

    /// Writes everything at once. A terminal that was closed is no reason to stop.
    fn write(&mut self, output: &str) {
        if !output.is_empty() {
            let _ = self.terminal.write_all(output.as_bytes());
            let _ = self.terminal.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use vt100::Parser;

    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    /// Returns the text on a terminal after this output. As on a terminal, a line feed also returns
    /// to the first column.
    fn shown(region: &LiveRegion<Vec<u8>>) -> String {
        let output = String::from_utf8(region.terminal.clone()).unwrap();
        let size = |columns| NonZeroU16::new(columns).unwrap();
        let mut terminal = Parser::new(size(10), size(40), 0);
        terminal.process(output.replace('\n', "\r\n").as_bytes());
        terminal.screen().contents()
    }

    #[test]
    fn lines_are_replaced_and_text_stays_above() {
        let mut region = LiveRegion::new(Vec::new());
        region.print("first");
        region.draw(lines(&["one of three", "two", "three"]));
        assert_eq!(shown(&region), "first\none of three\ntwo\nthree");
        region.draw(lines(&["one"]));
        assert_eq!(shown(&region), "first\none");
        region.print("second");
        region.draw(lines(&["one", "two"]));
        assert_eq!(shown(&region), "first\nsecond\none\ntwo");
        region.erase();
        assert_eq!(shown(&region), "first\nsecond");
    }

    #[test]
    fn what_the_terminal_shows_of_ctrl_c_is_erased() {
        let mut region = LiveRegion::new(Vec::new());
        region.draw(lines(&["one", "two"]));
        region.terminal.extend_from_slice(b"^C");
        region.print("error: interrupted");
        assert_eq!(shown(&region), "error: interrupted");
    }

    #[test]
    fn nothing_is_written_if_nothing_has_changed() {
        let mut region = LiveRegion::new(Vec::new());
        region.draw(lines(&["one"]));
        let before = region.terminal.len();
        region.draw(lines(&["one"]));
        assert_eq!(region.terminal.len(), before);
    }
}
