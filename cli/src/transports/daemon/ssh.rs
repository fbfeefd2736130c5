//! Connections to a daemon on another machine, through the system's `ssh` and
//! `docker system dial-stdio`, as Docker's client makes them, or podman's command of the same name.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

/// The seconds that `ssh` may take to connect, as with Docker's client.
const CONNECT_TIMEOUT_SECONDS: u32 = 30;
/// The most bytes of an error message of `ssh` that are kept.
const MAX_STDERR_BYTES: u64 = 4096;

/// The program on the other machine that connects to the daemon there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DialProgram {
    /// Docker's client.
    Docker,
    /// podman.
    Podman,
}

impl DialProgram {
    /// Returns the command without its subcommand, and the option that names a socket.
    fn command_and_option(self) -> (&'static str, &'static str) {
        match self {
            Self::Docker => ("docker", "--host"),
            Self::Podman => ("podman", "--url"),
        }
    }
}

/// The address of a daemon behind SSH: `ssh://[USER@]HOST[:PORT][/SOCKET]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshDestination {
    program: DialProgram,
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// The socket of the daemon, if it is not the one that the program uses there.
    socket: Option<String>,
}

impl SshDestination {
    /// Returns whether podman connects to its own socket on the other machine.
    pub(super) fn is_podman(&self) -> bool {
        self.program == DialProgram::Podman
    }

    /// Parses the part after `ssh://`; `None` if it is malformed.
    pub(super) fn parse(program: DialProgram, text: &str) -> Option<Self> {
        let (authority, path) = match text.find('/') {
            Some(slash) => text.split_at(slash),
            None => (text, ""),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let is_ipv6 = host.starts_with('[');
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !is_ipv6 || host.ends_with(']') => (host, Some(port)),
            _ => (host, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // The socket becomes part of a command line on the other machine, so it must not need
        // quotes.
        let is_plain = |text: &str, more: &str| {
            !text.starts_with('-')
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c) || more.contains(c))
        };
        let is_valid = !host.is_empty()
            && is_plain(host, ":%")
            && user.is_none_or(|user| !user.is_empty() && is_plain(user, "@\\"))
            && is_plain(path, "/");
        let port = match port {
            Some(port) => Some(port.parse().ok()?),
            None => None,
        };
        is_valid.then(|| Self {
            program,
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            socket: Some(path.to_owned()).filter(|path| path.len() > 1),
        })
    }

    /// Returns the arguments of `ssh`.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        let timeout = format!("ConnectTimeout={CONNECT_TIMEOUT_SECONDS}");
        arguments.extend(["-o".to_owned(), timeout]);
        let (program, socket_option) = self.program.command_and_option();
        arguments.extend(["-T", "--", &*self.host, program].map(str::to_owned));
        if let Some(socket) = &self.socket {
            arguments.extend([socket_option.to_owned(), format!("unix://{socket}")]);
        }
        arguments.extend(["system", "dial-stdio"].map(str::to_owned));
        arguments
    }

    /// Starts `ssh`. An error of `ssh` comes from the stream.
    ///
    /// # Errors
    /// Returns an error if there is no `ssh` on this machine.
    pub(super) fn connect(&self) -> io::Result<SshStream> {
        let mut child = Command::new("ssh")
            .args(self.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot run ssh: {error}")))?;
        let missing = || io::Error::other("ssh has no pipes");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        Ok(SshStream {
            stdin,
            stdout,
            message: Some(tokio::spawn(read_message(stderr))),
            _child: child,
        })
    }
}

impl fmt::Display for SshDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.socket.as_deref().unwrap_or_default())
    }
}

/// Returns the start of what `ssh` prints on stderr, and reads the rest, so that `ssh` does not have
/// to wait.
async fn read_message(mut stderr: ChildStderr) -> String {
    let mut message = Vec::new();
    let mut start = (&mut stderr).take(MAX_STDERR_BYTES);
    // The text before an error is the message.
    let _ = start.read_to_end(&mut message).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&message).trim().to_owned()
}

/// The standard input and output of a running `ssh`, which is stopped on drop.
#[derive(Debug)]
pub(super) struct SshStream {
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// The text that `ssh` prints on stderr. `None` once the daemon has sent a byte, or the message was
    /// returned.
    message: Option<JoinHandle<String>>,
    _child: Child,
}

impl SshStream {
    /// Waits for the end of `ssh`, which has failed, and returns its message.
    fn poll_failure(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Error>> {
        let Some(message) = &mut self.message else {
            return Poll::Ready(None);
        };
        let message = ready!(Pin::new(message).poll(context)).unwrap_or_default();
        self.message = None;
        let error = match &*message {
            "" => io::Error::other("ssh ended without a message"),
            message => io::Error::other(format!("ssh: {message}")),
        };
        Poll::Ready(Some(error))
    }
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stdout).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.message = None;
            return Poll::Ready(Ok(()));
        }
        match ready!(self.poll_failure(context)) {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let error = match ready!(Pin::new(&mut self.stdin).poll_write(context, buffer)) {
            Ok(written) => return Poll::Ready(Ok(written)),
            Err(error) => error,
        };
        let failure = ready!(self.poll_failure(context));
        Poll::Ready(Err(failure.unwrap_or(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_those_of_dockers_client_or_podman() {
        let start = "-o ConnectTimeout=30 -T --";
        for (program, address, expected) in [
            (
                DialProgram::Docker,
                "far",
                format!("{start} far docker system dial-stdio"),
            ),
            (
                DialProgram::Docker,
                "me@far:2222",
                format!("-l me -p 2222 {start} far docker system dial-stdio"),
            ),
            (
                DialProgram::Docker,
                "me@[::1]",
                format!("-l me {start} ::1 docker system dial-stdio"),
            ),
            (
                DialProgram::Docker,
                "[::1]:22/run/user/1000/docker.sock",
                format!(
                    "-p 22 {start} ::1 docker --host unix:///run/user/1000/docker.sock system \
                     dial-stdio"
                ),
            ),
            (
                DialProgram::Docker,
                "far/",
                format!("{start} far docker system dial-stdio"),
            ),
            (
                DialProgram::Podman,
                "me@far",
                format!("-l me {start} far podman system dial-stdio"),
            ),
            (
                DialProgram::Podman,
                "far/run/user/1000/podman/podman.sock",
                format!(
                    "{start} far podman --url unix:///run/user/1000/podman/podman.sock system \
                     dial-stdio"
                ),
            ),
        ] {
            let destination = SshDestination::parse(program, address).unwrap();
            assert_eq!(destination.arguments().join(" "), expected);
            let shown = destination.to_string();
            assert_eq!(shown, format!("ssh://{}", address.trim_end_matches('/')));
        }
    }

    #[test]
    fn addresses_that_would_be_options_or_commands_are_refused() {
        for address in [
            "",
            "@far",
            "me@",
            "-oProxyCommand=x",
            "me@-x",
            "-l@far",
            "far:port",
            "far:99999",
            "far;ls",
            "far x",
            "far/a b",
            "far/$(ls)",
            "me:secret@far",
            "far/x?y",
            "far\n",
        ] {
            let parsed = SshDestination::parse(DialProgram::Docker, address);
            assert_eq!(parsed, None, "{address}");
        }
    }
}
