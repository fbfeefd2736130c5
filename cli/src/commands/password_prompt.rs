//! Reads a password from the terminal without showing it. Start reading at [`read_password`].

use std::io;

use console::{Key, Term};

use crate::disk::System;

/// Reads a line that is not shown.
///
/// # Errors
/// Fails if the terminal cannot be read.
pub(super) fn read_password(terminal: &Term) -> io::Result<String> {
    match System::CURRENT {
        System::Unix | System::MacOs => terminal.read_secure_line(),
        // There read_secure_line ignores Backspace (console 0.16.6).
        System::Windows => {
            let password = read_keys(|| terminal.read_key())?;
            terminal.write_line("")?;
            Ok(password)
        }
    }
}

/// Returns the text that is typed until Enter.
fn read_keys(mut next_key: impl FnMut() -> io::Result<Key>) -> io::Result<String> {
    let mut text = String::new();
    loop {
        match next_key()? {
            Key::Enter => return Ok(text),
            Key::Backspace => {
                text.pop();
            }
            Key::Char(c) if !c.is_control() => text.push(c),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backspace_deletes_a_character() {
        let typed = |keys: &[Key]| {
            let mut keys = keys.iter().cloned();
            let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
            read_keys(|| keys.next().ok_or_else(end)).ok()
        };
        let (a, e) = (Key::Char('a'), Key::Char('é'));
        let keys = [
            Key::Backspace,
            a.clone(),
            e.clone(),
            Key::Backspace,
            Key::ArrowLeft,
            Key::Char('\u{7f}'),
            e,
            Key::Enter,
            a.clone(),
        ];
        assert_eq!(typed(&keys).as_deref(), Some("aé"));
        assert_eq!(typed(&[Key::Enter]).as_deref(), Some(""));
        assert_eq!(typed(&[a]), None);
    }
}
