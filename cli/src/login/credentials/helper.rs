//! Runs credential helpers: programs named `docker-credential-NAME` that store credentials. Their
//! protocol is that of docker-credential-helpers: a command as the argument, the request on stdin,
//! and the response on stdout.
//!
//! This module does not choose the helper. Start reading at [`CredentialHelper`].

use std::process::Stdio;
use std::time::Duration;

use imgsync_oci::client::Credentials;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::failure;
use crate::exit::Failure;
use crate::login;

/// The timeout allows for a helper that asks the user, but not for one that hangs.
const DEFAULT_HELPER_TIMEOUT_SECONDS: u64 = 60;
/// An upper bound for the output of a helper.
const MAX_HELPER_OUTPUT_BYTES: u64 = 64 * 1024;
/// The messages of helpers that have no credentials for a registry. There is no exit code for that.
const NOT_FOUND_MESSAGES: [&str; 2] = [
    "credentials not found",
    "could not be found in the keychain",
];
/// The username that marks a secret as an identity token.
const TOKEN_USERNAME: &str = "<token>";

/// A credential helper, by its name in the configuration.
pub(super) struct CredentialHelper<'a>(pub(super) &'a str);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperCredentials {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

#[derive(Serialize)]
struct HelperStoreRequest<'a> {
    #[serde(rename = "ServerURL")]
    key: &'a str,
    #[serde(rename = "Username")]
    username: &'a str,
    #[serde(rename = "Secret")]
    secret: &'a str,
}

/// The result of running a helper.
struct HelperOutput {
    is_success: bool,
    stdout: Vec<u8>,
    /// The output on stdout and stderr, for messages.
    message: String,
}

impl CredentialHelper<'_> {
    /// Returns the credentials that the helper stores for a key.
    ///
    /// # Errors
    /// Fails if the helper does not start, times out, fails, or returns invalid JSON.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Credentials>, Failure> {
        let outcome = self.run("get", key.as_bytes()).await?;
        if !outcome.is_success {
            return match is_not_found(&outcome.message) {
                true => Ok(None),
                false => Err(self.failed("get", &outcome.message)),
            };
        }
        let answer: HelperCredentials = serde_json::from_slice(&outcome.stdout).map_err(|_| {
            let what = format!("the credential helper {} answers nonsense", self.program());
            failure(what).with_hint(self.advice())
        })?;
        // A credential store that knows the registry but not the user returns an empty username.
        Ok(match (&*answer.username, &*answer.secret) {
            ("" | TOKEN_USERNAME, "") | ("", _) => None,
            (TOKEN_USERNAME, token) => Some(Credentials::IdentityToken(token.to_owned())),
            (username, password) => Some(Credentials::Password {
                username: username.to_owned(),
                password: password.to_owned(),
            }),
        })
    }

    /// Stores credentials in the helper.
    ///
    /// # Errors
    /// Fails if the helper does not start, times out or fails.
    pub(super) async fn store(
        &self,
        key: &str,
        username: &str,
        secret: &str,
    ) -> Result<(), Failure> {
        let stored = HelperStoreRequest {
            key,
            username,
            secret,
        };
        let stored = serde_json::to_vec(&stored).map_err(|error| failure(error.to_string()))?;
        let outcome = self.run("store", &stored).await?;
        match outcome.is_success {
            true => Ok(()),
            false => Err(self.failed("store", &outcome.message)),
        }
    }

    /// Deletes the credentials stored for a key. Returns whether there were any.
    ///
    /// # Errors
    /// Fails if the helper does not start, times out or fails.
    pub(super) async fn erase(&self, key: &str) -> Result<bool, Failure> {
        let outcome = self.run("erase", key.as_bytes()).await?;
        match outcome.is_success {
            true => Ok(true),
            false if is_not_found(&outcome.message) => Ok(false),
            false => Err(self.failed("erase", &outcome.message)),
        }
    }

    async fn run(&self, verb: &str, input: &[u8]) -> Result<HelperOutput, Failure> {
        let program = self.program();
        // Only a name is allowed: a path would run any program that a configuration names.
        if self.0.contains(['/', '\\']) {
            let what = format!("{:?} is no name of a credential helper", self.0);
            return Err(failure(what).with_hint(self.advice()));
        }
        let patience = helper_timeout()?;
        let answer = tokio::time::timeout(patience, run_helper(&program, verb, input)).await;
        match answer {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error)) => {
                let what = format!("the credential helper {program} does not start: {error}");
                Err(failure(what).with_hint(self.advice()))
            }
            Err(_) => {
                let seconds = patience.as_secs();
                let what = format!(
                    "the credential helper {program} said nothing for {seconds} seconds and was \
                     stopped"
                );
                let hint = format!(
                    "run `echo HOST | {program} get` to see what it waits for, or set \
                     IMGSYNC_USERNAME and IMGSYNC_PASSWORD to go without it"
                );
                Err(failure(what).with_hint(hint))
            }
        }
    }

    fn program(&self) -> String {
        format!("docker-credential-{}", self.0)
    }

    fn failed(&self, verb: &str, said: &str) -> Failure {
        let what = format!("the credential helper {} failed to {verb}", self.program());
        match said {
            "" => failure(what),
            said => failure(format!("{what}: {said}")),
        }
        .with_hint(self.advice())
    }

    fn advice(&self) -> String {
        format!(
            "see credsStore and credHelpers in Docker's config.json, and that {} is installed; or \
             set IMGSYNC_USERNAME and IMGSYNC_PASSWORD",
            self.program()
        )
    }
}

/// Returns the timeout for a helper: `IMGSYNC_HELPER_TIMEOUT` in seconds, or one minute.
fn helper_timeout() -> Result<Duration, Failure> {
    login::seconds_from_env("IMGSYNC_HELPER_TIMEOUT", DEFAULT_HELPER_TIMEOUT_SECONDS)
}

/// Runs a helper to its end. The helper is killed if the future is dropped.
async fn run_helper(program: &str, verb: &str, input: &[u8]) -> std::io::Result<HelperOutput> {
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A helper that does not read its input may still return a response.
            let _ = stdin.write_all(input).await;
        }
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let read_out = async {
        match stdout {
            Some(stdout) => {
                stdout
                    .take(MAX_HELPER_OUTPUT_BYTES)
                    .read_to_end(&mut out)
                    .await
            }
            None => Ok(0),
        }
    };
    let read_err = async {
        match stderr {
            Some(stderr) => {
                stderr
                    .take(MAX_HELPER_OUTPUT_BYTES)
                    .read_to_end(&mut err)
                    .await
            }
            None => Ok(0),
        }
    };
    let ((), read, said) = futures::join!(write, read_out, read_err);
    read.and(said)?;
    let status = child.wait().await?;
    let said = [&out, &err].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    // The output of a successful run may be a secret, so it is not kept as a message.
    let said = match status.success() {
        true => String::new(),
        false => said.join(" ").trim().chars().take(300).collect(),
    };
    Ok(HelperOutput {
        is_success: status.success(),
        stdout: out,
        message: said,
    })
}

fn is_not_found(said: &str) -> bool {
    let said = said.to_lowercase();
    NOT_FOUND_MESSAGES.iter().any(|words| said.contains(words))
}
