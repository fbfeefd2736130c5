//! Runs credential helpers: programs named `docker-credential-NAME` that store credentials. Their
//! protocol is that of docker-credential-helpers: a command as the argument, the request on stdin,
//! and the response on stdout.
//!
//! This module does not choose the helper. Start reading at [`CredentialHelper`].

use std::io;
use std::process::Stdio;

use imgsync_oci::client::Credentials;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::failure;
use crate::exit::Failure;
use crate::login;

/// The timeout allows for a helper that asks the user, but not for one that hangs.
const DEFAULT_HELPER_TIMEOUT_SECONDS: u64 = 60;
/// The largest output of a helper in bytes.
const MAX_HELPER_OUTPUT_BYTES: u64 = 64 * 1024;
/// The largest number of characters of a helper's message that are shown.
const MAX_MESSAGE_CHARS: usize = 300;
/// The messages of helpers that have no credentials for a registry. There is no exit code for that.
const NOT_FOUND_MESSAGES: [&str; 2] = [
    "credentials not found",
    "could not be found in the keychain",
];
/// The username that marks a secret as an identity token.
const TOKEN_USERNAME: &str = "<token>";

/// A credential helper, by its name in the configuration.
pub(super) struct CredentialHelper<'a>(pub(super) &'a str);

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HelperCredentials {
    username: String,
    secret: String,
}

impl CredentialHelper<'_> {
    /// Returns the credentials that the helper stores for a key.
    ///
    /// # Errors
    /// Fails if the helper does not start, times out, fails, or returns invalid JSON.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Credentials>, Failure> {
        let response = match self.run("get", key.as_bytes()).await? {
            Ok(response) => response,
            Err(message) if is_not_found(&message) => return Ok(None),
            Err(message) => return Err(self.failed("get", &message)),
        };
        let credentials = serde_json::from_slice::<HelperCredentials>(&response);
        let HelperCredentials { username, secret } = credentials.map_err(|_| {
            self.failure(format!("the response of {} is not valid", self.program()))
        })?;
        // A credential store that knows the registry but not the user returns an empty username.
        Ok(match (&*username, &*secret) {
            ("", _) | (TOKEN_USERNAME, "") => None,
            (TOKEN_USERNAME, _) => Some(Credentials::IdentityToken(secret)),
            _ => Some(Credentials::Password {
                username,
                password: secret,
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
        let request = serde_json::json!({
            "ServerURL": key, "Username": username, "Secret": secret,
        });
        let stored = self.run("store", request.to_string().as_bytes()).await?;
        stored
            .map(drop)
            .map_err(|message| self.failed("store", &message))
    }

    /// Deletes the credentials stored for a key, if there are any.
    ///
    /// # Errors
    /// Fails if the helper does not start, times out or fails.
    pub(super) async fn erase(&self, key: &str) -> Result<(), Failure> {
        match self.run("erase", key.as_bytes()).await? {
            Err(message) if !is_not_found(&message) => Err(self.failed("erase", &message)),
            _ => Ok(()),
        }
    }

    /// Runs the helper. Returns its output, or its message if it fails.
    async fn run(&self, verb: &str, request: &[u8]) -> Result<Result<Vec<u8>, String>, Failure> {
        let program = self.program();
        // Only a name is allowed: a path would run any program that a configuration names.
        if self.0.contains(['/', '\\']) {
            let what = format!("{:?} is not the name of a credential helper", self.0);
            return Err(self.failure(what));
        }
        let timeout =
            login::seconds_from_env("IMGSYNC_HELPER_TIMEOUT", DEFAULT_HELPER_TIMEOUT_SECONDS)?;
        let run = tokio::time::timeout(timeout, run_helper(&program, verb, request)).await;
        let Ok(result) = run else {
            let seconds = timeout.as_secs();
            let what = format!(
                "the credential helper {program} did not answer within {seconds} s and was stopped"
            );
            let hint = format!(
                "run `echo HOST | {program} get` to see what it waits for, or set IMGSYNC_USERNAME \
                 and IMGSYNC_PASSWORD to run without it"
            );
            return Err(failure(what).with_hint(hint));
        };
        result.map_err(|error| {
            self.failure(format!(
                "cannot start the credential helper {program}: {error}"
            ))
        })
    }

    fn program(&self) -> String {
        format!("docker-credential-{}", self.0)
    }

    fn failed(&self, verb: &str, message: &str) -> Failure {
        let mut what = format!("the credential helper {} failed to {verb}", self.program());
        if !message.is_empty() {
            what += &format!(": {message}");
        }
        self.failure(what)
    }

    fn failure(&self, what: String) -> Failure {
        failure(what).with_hint(format!(
            "check credsStore and credHelpers in Docker's config.json, and that {} is installed; \
             or set IMGSYNC_USERNAME and IMGSYNC_PASSWORD",
            self.program()
        ))
    }
}

/// Runs a helper to its end. Returns its output, or its message if it fails. The helper is killed if
/// the future is dropped.
async fn run_helper(
    program: &str,
    verb: &str,
    request: &[u8],
) -> io::Result<Result<Vec<u8>, String>> {
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A helper that does not read its input may still return a response.
            let _ = stdin.write_all(request).await;
        }
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ((), stdout, stderr) = futures::join!(write, read(stdout), read(stderr));
    let outputs = [stdout?, stderr?];
    if child.wait().await?.success() {
        // The output may be a secret, so it must not become part of a message.
        let [stdout, _] = outputs;
        return Ok(Ok(stdout));
    }
    let texts = outputs.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let message = texts.join(" ");
    Ok(Err(message
        .trim()
        .chars()
        .take(MAX_MESSAGE_CHARS)
        .collect()))
}

/// Reads an output of a helper, at most [`MAX_HELPER_OUTPUT_BYTES`].
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let mut pipe = pipe.take(MAX_HELPER_OUTPUT_BYTES);
        pipe.read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

fn is_not_found(message: &str) -> bool {
    let message = message.to_lowercase();
    NOT_FOUND_MESSAGES.iter().any(|text| message.contains(text))
}
