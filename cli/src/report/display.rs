//! The text that a report shows on stderr: lines, and the progress below them on a terminal.
//!
//! This module does not know where the progress comes from. Start reading at [`Display`].

use std::io::{Stderr, Write};
use std::time::{Duration, Instant};

use console::Term;

use super::live_region::LiveRegion;
use super::progress::Progress;
use super::screen::{TerminalSize, layout};
use super::style::{Palette, Tone};

/// The time between two lines about the progress, where there is no terminal. CI systems stop jobs
/// that print nothing for several minutes.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// The text that is shown, and its place.
#[derive(Debug)]
pub(super) struct Display {
    pub(super) progress: Progress,
    pub(super) palette: Palette,
    /// The lines at the bottom of the terminal; `None` if stderr is no terminal.
    pub(super) region: Option<LiveRegion<Stderr>>,
    /// Whether a mirror is running, which may transfer very many blobs.
    pub(super) is_mirror: bool,
    /// Whether the only result is that of one image, so that there are no totals.
    pub(super) is_single_image: bool,
    /// The time of the last line; `None` if nothing was done then.
    pub(super) last_line: Option<Instant>,
    /// Whether a thread calls [`Display::tick`].
    pub(super) has_ticker: bool,
    /// Whether an error was printed, after which nothing else may be.
    pub(super) is_closed: bool,
}

impl Display {
    /// Prints a line that is safe to print.
    pub(super) fn print(&mut self, line: &str, now: Instant) {
        if self.is_closed {
            return;
        }
        self.last_line = self.progress.is_busy().then_some(now);
        match &mut self.region {
            Some(region) => {
                region.print(line);
                self.draw(now);
            }
            None => write_stderr(line),
        }
    }

    /// Draws the progress, or prints a line about it if one is due.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.is_closed {
            return;
        }
        if self.region.is_some() {
            self.draw(now);
        } else if let Some(line) = self.due_line(now) {
            write_stderr(&line);
        }
    }

    /// Returns a line about the progress if nothing was printed for [`LINE_INTERVAL`] while
    /// something was done.
    pub(super) fn due_line(&mut self, now: Instant) -> Option<String> {
        let line = self.progress.line(now);
        if line.is_none() {
            self.last_line = None;
            return None;
        }
        let last = *self.last_line.get_or_insert(now);
        if now.duration_since(last) < LINE_INTERVAL {
            return None;
        }
        self.last_line = Some(now);
        line
    }

    fn draw(&mut self, now: Instant) {
        let Some(region) = &mut self.region else {
            return;
        };
        let size = Term::stderr().size_checked().unwrap_or((24, 80));
        let size = TerminalSize {
            rows: size.0.into(),
            columns: size.1.into(),
        };
        let palette = self.palette;
        let paint = |(tone, text): &(Tone, String)| palette.paint(*tone, text);
        let lines = layout(&self.progress, size, now);
        let lines = lines.iter().map(|line| line.iter().map(paint).collect());
        region.draw(lines.collect());
    }

    /// Removes what is not shown any more without waiting, because a result may follow.
    pub(super) fn draw_if_idle(&mut self) {
        if !self.progress.is_busy() {
            self.erase();
        }
    }

    pub(super) fn erase(&mut self) {
        self.region.iter_mut().for_each(LiveRegion::erase);
    }

    /// Prints an error as the last text of the command.
    pub(super) fn close(&mut self, error: &str) {
        self.erase();
        write_stderr(error);
        self.is_closed = true;
    }
}

/// Prints a line to stderr that is safe to print. Errors are ignored, because a log that cannot be
/// written is no reason to stop.
pub(super) fn write_stderr(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
