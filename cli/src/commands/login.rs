//! `imgsync login`: the password is checked at the registry, then kept where docker looks.
//! `imgsync logout` forgets it.

use std::io::IsTerminal;
use std::sync::Arc;

use imgsync_oci::Registry;
use imgsync_oci::client::Credentials;

use crate::args;
use crate::exit::{Failure, FailureKind};
use crate::login::{RegistryAccess, credentials, read_stdin_password};
use crate::report::Report;

/// Checks and keeps credentials, and says through `line` where.
///
/// # Errors
/// The registry does not take them, or is not there; they cannot be kept.
pub(super) async fn login(
    args: args::LoginArgs,
    report: &Arc<dyn Report>,
    line: &mut (dyn FnMut(String) + Send),
) -> Result<(), Failure> {
    let registry = registry(&args.registry)?;
    let access = RegistryAccess::parse_connect(&args.connect);
    let asked = tokio::task::spawn_blocking(move || read_login(&args)).await;
    let asked = asked.map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
    let (username, password) = asked?;
    let credentials = Credentials::Password {
        username: username.clone(),
        password: password.clone(),
    };
    let client = access.connect_as(&registry, credentials, report).await?;
    client.check().await?;
    if !client.has_logged_in() {
        report.note(&format!(
            "note: {registry} asks for no login, so the password could not be checked"
        ));
    }
    let place = credentials::store(&registry, &username, &password).await?;
    line(format!(
        "logged in to {registry} as {username}; kept in {place}"
    ));
    Ok(())
}

/// Forgets credentials, and says through `line` whether there were any.
///
/// # Errors
/// They cannot be taken out of where they are.
pub(super) async fn logout(
    args: &args::LogoutArgs,
    line: &mut (dyn FnMut(String) + Send),
) -> Result<(), Failure> {
    let registry = registry(&args.registry)?;
    line(match credentials::erase(&registry).await? {
        true => format!("logged out of {registry}"),
        false => format!("nothing was kept for {registry}"),
    });
    Ok(())
}

fn registry(text: &str) -> Result<Registry, Failure> {
    text.parse().map_err(|error: imgsync_oci::ParseError| {
        Failure::new(FailureKind::Usage, error.to_string())
            .with_hint("write just host or host:port")
    })
}

/// The name and password: as typed or piped, else the environment's, else asked for.
fn read_login(args: &args::LoginArgs) -> Result<(String, String), Failure> {
    if args.password_stdin {
        let username = args
            .username
            .clone()
            .ok_or_else(|| Failure::new(FailureKind::Usage, "--password-stdin needs --username"))?;
        return Ok((username, read_stdin_password("--password-stdin")?));
    }
    if args.username.is_none()
        && let Some(Credentials::Password { username, password }) =
            credentials::from_environment(credentials::CredentialVariables::Primary)?
    {
        return Ok((username, password));
    }
    let terminal = console::Term::stderr();
    if !(std::io::stdin().is_terminal() && terminal.is_term()) {
        let what = "there is no terminal to ask for a password on";
        let hint = "pass --username NAME --password-stdin, with the password on standard input";
        return Err(Failure::new(FailureKind::Usage, what).with_hint(hint));
    }
    ask(&terminal, args.username.as_deref()).map_err(|error| {
        Failure::new(
            FailureKind::Usage,
            format!("cannot ask for a password: {error}"),
        )
    })
}

fn ask(terminal: &console::Term, username: Option<&str>) -> std::io::Result<(String, String)> {
    let username = match username {
        Some(username) => username.to_owned(),
        None => {
            terminal.write_str("Username: ")?;
            terminal.read_line()?.trim().to_owned()
        }
    };
    terminal.write_str("Password: ")?;
    let password = terminal.read_secure_line()?;
    let empty = |what: &str| std::io::Error::other(format!("the {what} is empty"));
    match (username.is_empty(), password.is_empty()) {
        (true, _) => Err(empty("username")),
        (false, true) => Err(empty("password")),
        (false, false) => Ok((username, password)),
    }
}
