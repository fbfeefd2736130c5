//! A password, typed or piped.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// More than any password.
const MAX_PASSWORD_LINE_BYTES: u64 = 4096;

/// Reads a password from standard input: at a terminal it is asked for twice and not shown, else it
/// is the first line.
///
/// # Errors
/// Standard input ends or fails, or the two differ.
pub fn password(user: &str) -> io::Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_line();
    }
    let _hidden = EchoGuard::start()?;
    let first = ask(&format!("New password for {user}: "))?;
    if ask("The same again: ")? != first {
        return Err(io::Error::other("the two passwords differ"));
    }
    Ok(first)
}

fn ask(prompt: &str) -> io::Result<String> {
    let mut stderr = io::stderr().lock();
    stderr.write_all(prompt.as_bytes())?;
    let answer = read_line();
    stderr.write_all(b"\n")?;
    answer
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    if io::stdin()
        .lock()
        .take(MAX_PASSWORD_LINE_BYTES)
        .read_line(&mut line)?
        == 0
    {
        let text = "no password on standard input";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
    }
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// A terminal that does not show what is typed, until this goes.
struct EchoGuard(Termios);

impl EchoGuard {
    fn start() -> io::Result<Self> {
        let shown = tcgetattr(io::stdin())?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(shown))
    }
}

impl Drop for EchoGuard {
    fn drop(&mut self) {
        // There is nothing else to be done about it.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
