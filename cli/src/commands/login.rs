//! Runs `imgsync login` and `imgsync logout`.

use std::io::IsTerminal;
use std::sync::Arc;

use console::Term;
use imgsync_oci::Registry;
use imgsync_oci::client::Credentials;

use super::echo_guard::EchoGuard;
use super::password_prompt::read_password;
use crate::args::{LoginArgs, WithScheme};
use crate::exit::Failure;
use crate::login::credentials::CredentialVariables;
use crate::login::{RegistryAccess, credentials, read_stdin_password};
use crate::report::Report;

/// Checks credentials with the registry, stores them, and prints where.
///
/// # Errors
/// Fails if the registry refuses the credentials, or if they cannot be read or stored.
pub(super) async fn login(args: LoginArgs, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let LoginArgs {
        registry,
        username,
        password_stdin,
        connect,
    } = args;
    // Dropped with this future if the user interrupts the prompt.
    let echo_guard = EchoGuard::new();
    let read = move || read_credentials(username, password_stdin);
    let read = tokio::task::spawn_blocking(read).await;
    let (username, password) = read.map_err(Failure::usage)??;
    drop(echo_guard);
    let credentials = Credentials::Password {
        username: username.clone(),
        password: password.clone(),
    };
    let WithScheme { scheme, name } = registry;
    let registry = name;
    let access = RegistryAccess::from(connect).with_scheme(scheme)?;
    let client = access.connect_as(&registry, credentials, report).await?;
    client.check().await?;
    if !client.has_logged_in() {
        report.note(&format!(
            "{registry} does not require a login, so the password was not checked"
        ));
    }
    let store = credentials::store(&registry, &username, &password).await?;
    let text = format!("logged in to {registry} as {username}; the password is stored in {store}");
    report.output().print(&text);
    Ok(())
}

/// Removes stored credentials, and prints whether there were any.
///
/// # Errors
/// Fails if the credentials cannot be removed.
pub(super) async fn logout(registry: &Registry, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let text = if credentials::erase(registry).await? {
        format!("logged out of {registry}")
    } else {
        format!("not logged in to {registry}")
    };
    report.output().print(&text);
    Ok(())
}

/// Reads username and password from the options, the environment or the terminal.
fn read_credentials(
    username: Option<String>,
    password_stdin: bool,
) -> Result<(String, String), Failure> {
    if let Some(username) = &username {
        if password_stdin {
            return Ok((username.clone(), read_stdin_password("--password-stdin")?));
        }
    } else if let Some(Credentials::Password { username, password }) =
        credentials::from_environment(CredentialVariables::Primary)?
    {
        return Ok((username, password));
    }
    let terminal = Term::stderr();
    if !(std::io::stdin().is_terminal() && terminal.is_term()) {
        let what = "cannot ask for a password: standard input or standard error is not a terminal";
        let hint = "pass --username NAME --password-stdin, with the password on standard input";
        return Err(Failure::usage(what).with_hint(hint));
    }
    prompt(&terminal, username)
        .map_err(|error| Failure::usage(format!("cannot ask for a password: {error}")))
}

fn prompt(terminal: &Term, username: Option<String>) -> std::io::Result<(String, String)> {
    let username = match username {
        Some(username) => username,
        None => {
            terminal.write_str("Username: ")?;
            terminal.read_line()?.trim().to_owned()
        }
    };
    terminal.write_str("Password: ")?;
    let password = read_password(terminal)?;
    for (name, value) in [("username", &username), ("password", &password)] {
        if value.is_empty() {
            return Err(std::io::Error::other(format!("the {name} is empty")));
        }
    }
    Ok((username, password))
}
