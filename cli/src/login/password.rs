//! Reads passwords from standard input, and from the sources that a mirror configuration names.
//!
//! This module does not ask on a terminal. Start reading at [`read_stdin_password`].

use std::env::VarError;
use std::fs::File;
use std::io::Read;

use imgsync_oci::client::Credentials;
use imgsync_oci::decode_text_file;

use super::RegistrySettings;
use crate::exit::{Failure, FailureKind};

/// The largest password in bytes. Identity tokens can be long.
const MAX_PASSWORD_BYTES: u64 = 64 * 1024;

/// Reads a password from standard input, without the line break at the end. Errors name `option`.
///
/// # Errors
/// Fails if standard input is empty, too long or not UTF-8.
pub fn read_stdin_password(option: &str) -> Result<String, Failure> {
    let text = read_limited(std::io::stdin().lock()).map_err(|reason| usage(option, &reason))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        let hint = format!("for example: imgsync … {option} <password.txt");
        return Err(usage(option, "standard input is empty").with_hint(hint));
    }
    Ok(password.to_owned())
}

/// Returns the login that the settings of a registry name, with the password read from its source.
///
/// # Errors
/// Fails if the password cannot be read, or if it is empty.
pub(super) fn read_configured_login(
    settings: &RegistrySettings,
) -> Result<Option<Credentials>, Failure> {
    let Some(username) = settings.username.clone() else {
        return Ok(None);
    };
    let (source, text) = match &settings.password_file {
        Some(path) => {
            let file = File::open(path).map_err(|error| error.to_string());
            let source = format!("passwordFile: {}", path.display());
            (source, file.and_then(read_limited))
        }
        None => {
            let name = settings.password_env.as_deref().unwrap_or_default();
            // The text of the error would show a password that is not UTF-8.
            let text = std::env::var(name).map_err(|error| match error {
                VarError::NotPresent => "the variable is not set".to_owned(),
                VarError::NotUnicode(_) => "the password is not UTF-8".to_owned(),
            });
            (format!("passwordEnv: {name}"), text)
        }
    };
    let text = text.map_err(|reason| usage(&source, &reason))?;
    let password = text.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(usage(&source, "the password is empty"));
    }
    Ok(Some(Credentials::Password { username, password }))
}

/// Reads text to the end, if it is not longer than a password. PowerShell writes a byte order mark
/// before it.
fn read_limited(input: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut input = input.take(MAX_PASSWORD_BYTES + 1);
    let read = input.read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_PASSWORD_BYTES {
        return Err(format!("longer than {MAX_PASSWORD_BYTES} bytes"));
    }
    String::from_utf8(decode_text_file(bytes)).map_err(|_| "the password is not UTF-8".to_owned())
}

fn usage(source: &str, reason: &str) -> Failure {
    Failure::new(FailureKind::Usage, format!("{source}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_password() {
        for (input, expected) in [
            (&b"secret\n"[..], "secret\n"),
            (b"\xef\xbb\xbfsecret\r\n", "secret\r\n"),
            (b"\xff\xfes\0e\0\r\0\n\0", "se\r\n"),
        ] {
            assert_eq!(read_limited(input).unwrap(), expected);
        }
        assert!(read_limited(&b"\x80"[..]).is_err());
    }
}
