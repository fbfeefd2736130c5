//! Runs a program on a pseudo-terminal, and interprets its output as a terminal does.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use pty_process::Size;
use pty_process::blocking::Pty;
use vt100::Parser;

use super::run::wait_until;

/// The lines above the screen that are kept.
const SCROLLBACK_LINES: usize = 1000;

/// A program on a pseudo-terminal.
pub struct Terminal {
    pty: Arc<Pty>,
    emulator: Arc<Mutex<Emulator>>,
    reader: Option<JoinHandle<()>>,
    child: Child,
    rows: u16,
}

/// The state of the terminal, and everything that was written to it.
struct Emulator {
    parser: Parser,
    output: Vec<u8>,
}

impl Terminal {
    /// Starts a command on a terminal of this size. Its standard input, standard output and standard
    /// error are the terminal.
    pub fn start(command: Command, rows: u16, columns: u16) -> Self {
        let (pty, pts) = pty_process::blocking::open().expect("a pseudo-terminal");
        pty.resize(Size::new(rows, columns)).expect("a size");
        let command = pty_process::blocking::Command::from(command);
        let command = command.env("TERM", "xterm-256color");
        let child = command.spawn(pts).expect("a program");
        let emulator = Arc::new(Mutex::new(Emulator {
            parser: Parser::new(nonzero(rows), nonzero(columns), SCROLLBACK_LINES),
            output: Vec::new(),
        }));
        let pty = Arc::new(pty);
        let (input, shown) = (Arc::clone(&pty), Arc::clone(&emulator));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error means that no program has the terminal open any more.
            while let Ok(len) = (&*input).read(&mut buffer) {
                let mut shown = shown.lock().unwrap();
                shown.parser.process(&buffer[..len]);
                shown.output.extend_from_slice(&buffer[..len]);
            }
        });
        Self {
            pty,
            emulator,
            reader: Some(reader),
            child,
            rows,
        }
    }

    /// Types these characters; `\x03` is Ctrl-C.
    pub fn type_text(&self, text: &str) {
        (&*self.pty)
            .write_all(text.as_bytes())
            .expect("the terminal");
    }

    /// Changes the number of columns.
    pub fn resize(&self, columns: u16) {
        let mut emulator = self.emulator.lock().unwrap();
        let screen = emulator.parser.screen_mut();
        screen.set_size(nonzero(self.rows), nonzero(columns));
        self.pty
            .resize(Size::new(self.rows, columns))
            .expect("a size");
    }

    /// Returns the visible text.
    pub fn screen(&self) -> String {
        let emulator = self.emulator.lock().unwrap();
        emulator.parser.screen().contents()
    }

    /// Returns everything that the program wrote, with escape sequences.
    pub fn output(&self) -> String {
        let emulator = self.emulator.lock().unwrap();
        String::from_utf8_lossy(&emulator.output).into_owned()
    }

    /// Waits until the visible text has these words.
    pub fn wait_for(&self, words: &str) {
        let found = || self.screen().contains(words).then_some(());
        wait_until(&format!("{words:?} on the terminal"), found);
    }

    /// Waits for the end of the program. Returns its exit code and the text that is left on the
    /// screen.
    pub fn wait(&mut self) -> (Option<i32>, String) {
        let status = wait_until("the end of the program", || {
            self.child.try_wait().expect("the child's status")
        });
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of the terminal");
        }
        (status.code(), self.screen())
    }
}

fn nonzero(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("a terminal with rows and columns")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The program may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
