//! Runs programs on a pseudo-terminal, and takes pictures of it.

use std::io::Read;
use std::num::NonZeroU16;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use pty_process::Size;
use vt100::{Cell, Color, Parser};

use crate::Error;

const ROWS: u16 = 16;
const COLUMNS: u16 = 92;
/// The time between two pictures.
const INTERVAL: Duration = Duration::from_millis(250);

/// The content of the terminal, and how long it is shown.
pub(crate) struct Picture {
    pub(crate) lines: Vec<Vec<Piece>>,
    pub(crate) duration: Duration,
}

/// Text in one colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// The class in the style sheet of the SVG.
    pub(crate) class: &'static str,
}

/// A terminal, and the pictures of it.
pub(crate) struct Recorder {
    terminal: Parser,
    pub(crate) pictures: Vec<Picture>,
}

impl Recorder {
    /// Creates an empty terminal.
    pub(crate) fn new() -> Result<Self, Error> {
        let size = |number| NonZeroU16::new(number).ok_or("a terminal without rows or columns");
        Ok(Self {
            terminal: Parser::new(size(ROWS)?, size(COLUMNS)?, 0),
            pictures: Vec::new(),
        })
    }

    /// Prints text, and shows it for some time.
    pub(crate) fn print(&mut self, text: &str, duration: Duration) {
        self.terminal.process(text.as_bytes());
        self.take_picture(duration);
    }

    /// Runs a program until it ends.
    pub(crate) fn run(&mut self, command: Command) -> Result<(), Error> {
        let (mut pty, pts) = pty_process::blocking::open()?;
        pty.resize(Size::new(ROWS, COLUMNS))?;
        let command = pty_process::blocking::Command::from(command);
        let command = command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let mut child = command.spawn(pts)?;
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error means that the program has ended.
            while let Ok(len) = pty.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut next = Instant::now() + INTERVAL;
        loop {
            match output.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.terminal.process(&bytes),
                Err(RecvTimeoutError::Timeout) => {
                    self.take_picture(INTERVAL);
                    next += INTERVAL;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.take_picture(INTERVAL);
        let status = child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("imgsync ended with {status}").into())
        }
    }

    fn take_picture(&mut self, duration: Duration) {
        let lines: Vec<_> = (0..ROWS).map(|row| self.line(row)).collect();
        match self.pictures.last_mut() {
            Some(last) if last.lines == lines => last.duration += duration,
            _ => self.pictures.push(Picture { lines, duration }),
        }
    }

    /// Returns a line in pieces of one colour each.
    fn line(&self, row: u16) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for column in 0..COLUMNS {
            let Some(cell) = self.terminal.screen().cell(row, column) else {
                break;
            };
            if cell.is_wide_continuation() {
                continue;
            }
            let text = if cell.has_contents() {
                cell.contents()
            } else {
                " "
            };
            let class = class(cell);
            match pieces.last_mut() {
                Some(last) if last.class == class => last.text += text,
                _ => pieces.push(Piece {
                    text: text.to_owned(),
                    class,
                }),
            }
        }
        while let Some(last) = pieces.last_mut() {
            last.text.truncate(last.text.trim_end().len());
            if !last.text.is_empty() {
                break;
            }
            pieces.pop();
        }
        pieces
    }
}

/// Returns the class for the colours that the tool uses.
fn class(cell: &Cell) -> &'static str {
    match cell.fgcolor() {
        Color::Idx(1) => "red",
        Color::Idx(2) => "green",
        Color::Idx(3) => "yellow",
        Color::Idx(6) => "cyan",
        _ if cell.dim() => "dim",
        _ => "plain",
    }
}
