//! The socket through which commands reach the running server.
//!
//! Only the user of the server and root can use it. Start reading at [`serve_commands`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::{CommandContext, CommandOutput, ControlCommand, MAX_LINE_BYTES, OutputLine, commands};
use crate::config::Config;
use crate::listen::{ACCEPT_RETRY_DELAY, AcceptedStream, Listener};
use crate::registry::Registry;
use crate::status::ServerState;

/// How long a client may take to send its command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// How many commands run at a time.
const MAX_COMMANDS: usize = 4;
/// How many lines of output wait for a slow client.
const MAX_WAITING_LINES: usize = 64;

/// Sends lines to the client of a command.
struct RemoteOutput(mpsc::Sender<OutputLine>);

impl CommandOutput for RemoteOutput {
    fn output(&mut self, line: &str) {
        self.send(OutputLine::Output(line.to_owned()));
    }

    fn detail(&mut self, line: &str) {
        self.send(OutputLine::Detail(line.to_owned()));
    }
}

impl RemoteOutput {
    fn send(&self, line: OutputLine) {
        // An error means that the client is gone. The command is finished nevertheless.
        let _ = self.0.blocking_send(line);
    }
}

/// Opens the socket in the storage folder. If that is not possible, this is logged, and commands work
/// only while the server is stopped.
pub(in crate::serve) async fn open_control_socket(root: &Path) -> Option<Listener> {
    match Listener::bind_private(&Registry::control_socket(root)).await {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(
                "cannot open the socket for commands; status does not work, garbage-collect, \
                 retention, undelete, check and backup work only while the server is stopped: {error}"
            );
            None
        }
    }
}

/// Executes the commands that arrive at the socket. Runs until aborted.
pub(in crate::serve) async fn serve_commands(
    listener: Listener,
    registry: Registry,
    config: Arc<ArcSwap<Config>>,
    server: Arc<ServerState>,
) {
    let permits = Arc::new(Semaphore::new(MAX_COMMANDS));
    loop {
        let stream = match listener.accept().await {
            Ok(AcceptedStream::Unix(stream)) => stream,
            Ok(AcceptedStream::Tcp(..)) => continue,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection to the socket for commands");
                sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        let permit = Arc::clone(&permits).try_acquire_owned().ok();
        let (registry, server) = (registry.clone(), Arc::clone(&server));
        let config = config.load_full();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, registry, config, server, permit).await {
                tracing::debug!(%error, "a command was not served");
            }
        });
    }
}

/// Reads a command, executes it and sends its output. Without a permit, the command is refused.
async fn serve(
    stream: UnixStream,
    registry: Registry,
    config: Arc<Config>,
    server: Arc<ServerState>,
    permit: Option<OwnedSemaphorePermit>,
) -> std::io::Result<()> {
    let user = stream.peer_cred()?.uid();
    if user != 0 && user != rustix::process::getuid().as_raw() {
        return Ok(());
    }
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(MAX_LINE_BYTES));
    timeout(COMMAND_TIMEOUT, reader.read_line(&mut line)).await??;
    let Some(_permit) = permit else {
        let refused = OutputLine::Failure(format!(
            "the server runs {MAX_COMMANDS} commands already; try again when one of them has ended"
        ));
        return send_line(&mut writer, &refused).await;
    };
    let (sender, mut lines) = mpsc::channel(MAX_WAITING_LINES);
    let executed = tokio::task::spawn_blocking(move || {
        let relay = sender.clone();
        let mut output = RemoteOutput(sender);
        let context = CommandContext {
            registry: &registry,
            config: &config,
            server: Some(&server),
            // Nobody relays the output any more, also if the server stops.
            is_gone: &|| relay.is_closed(),
        };
        let result = match serde_json::from_str::<ControlCommand>(&line) {
            Ok(command) => commands::execute(&context, &command, &mut output),
            Err(error) => Err(format!("the server does not know this command: {error}")),
        };
        output.send(match result {
            Ok(()) => OutputLine::Success,
            Err(text) => OutputLine::Failure(text),
        });
    });
    let relay = async {
        while let Some(line) = lines.recv().await {
            send_line(&mut writer, &line).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    // A client sends nothing after its command, so the end of the connection means that it is gone.
    let relayed = tokio::select! {
        relayed = relay => relayed,
        _ = reader.read_u8() => Ok(()),
    };
    drop(lines);
    relayed?;
    executed.await.map_err(std::io::Error::other)
}

async fn send_line(writer: &mut OwnedWriteHalf, line: &OutputLine) -> std::io::Result<()> {
    let mut json = serde_json::to_vec(line)?;
    json.push(b'\n');
    writer.write_all(&json).await
}
