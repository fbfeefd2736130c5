//! Reads a new password, typed at a terminal or piped.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use console::Term;

/// The most that is read of a line that is piped.
const MAX_PASSWORD_LINE_BYTES: u64 = 4096;

/// Reads a password from standard input. At a terminal it asks twice and hides what is typed;
/// otherwise the password is the first line.
///
/// # Errors
/// Standard input ends or cannot be read, or the two passwords differ.
pub fn password(user: &str) -> io::Result<String> {
    if !io::stdin().is_terminal() {
        return read_piped_line();
    }
    let terminal = prompt_terminal()?;
    let first = ask(&terminal, &format!("New password for {user}: "))?;
    if ask(&terminal, "Re-type new password: ")? != first {
        return Err(io::Error::other("the two passwords differ"));
    }
    Ok(first)
}

/// Chooses the stream for the prompt: `console` hides what is typed only if it can show a prompt.
fn prompt_terminal() -> io::Result<Term> {
    let streams = [Term::stderr(), Term::stdout()];
    streams.into_iter().find(Term::is_term).ok_or_else(|| {
        io::Error::other(
            "cannot show the prompt: neither standard error nor standard output is a terminal",
        )
    })
}

fn ask(terminal: &Term, prompt: &str) -> io::Result<String> {
    terminal.write_str(prompt)?;
    let password = terminal.read_secure_line()?;
    // An end of input (Ctrl-D) reads as an empty line.
    if password.is_empty() {
        return Err(io::Error::other(
            "cannot read the password: nothing was typed",
        ));
    }
    Ok(password)
}

fn read_piped_line() -> io::Result<String> {
    let mut line = String::new();
    if io::stdin()
        .lock()
        .take(MAX_PASSWORD_LINE_BYTES)
        .read_line(&mut line)?
        == 0
    {
        let text = "cannot read the password: standard input is empty";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
    }
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}
