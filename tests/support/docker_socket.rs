//! A socket before the Docker daemon's, which remembers what the daemon is asked.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::request_parser::{ObservedRequest, RequestParser};

/// The listening socket; closed when this goes.
pub struct DockerSocketProxy {
    socket: PathBuf,
    seen: Arc<Mutex<Vec<RequestParser>>>,
    closing: Arc<AtomicBool>,
}

impl Drop for DockerSocketProxy {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = UnixStream::connect(&self.socket);
    }
}

impl DockerSocketProxy {
    /// A socket in `folder`, before the one where the daemon is.
    pub fn start(folder: &Path) -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let daemon = host
            .strip_prefix("unix://")
            .unwrap_or("/var/run/docker.sock");
        let daemon = PathBuf::from(daemon);
        let socket = folder.join("engine.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let closing = Arc::new(AtomicBool::new(false));
        let (log, closed) = (Arc::clone(&seen), Arc::clone(&closing));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let (log, daemon) = (Arc::clone(&log), daemon.clone());
                // A client that goes away in mid-request is its own affair.
                std::thread::spawn(move || serve(client.expect("a client"), &daemon, &log).ok());
            }
        });
        Self {
            socket,
            seen,
            closing,
        }
    }

    /// `unix://…`
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// What the daemon was asked.
    pub fn requests(&self) -> Vec<ObservedRequest> {
        let seen = self.seen.lock().expect("the log");
        let requests = seen.iter().flat_map(RequestParser::requests);
        requests.cloned().collect()
    }
}

fn serve(
    mut client: UnixStream,
    daemon: &Path,
    log: &Mutex<Vec<RequestParser>>,
) -> std::io::Result<()> {
    let mut daemon = UnixStream::connect(daemon)?;
    let number = {
        let mut log = log.lock().expect("the log");
        let number = log.len();
        log.push(RequestParser::new(number));
        number
    };
    let (mut from_daemon, mut to_client) = (daemon.try_clone()?, client.try_clone()?);
    let back = std::thread::spawn(move || {
        let copied = std::io::copy(&mut from_daemon, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
        copied
    });
    let mut buffer = vec![0; 64 * 1024];
    while let size @ 1.. = client.read(&mut buffer)? {
        log.lock().expect("the log")[number].take(&buffer[..size]);
        daemon.write_all(&buffer[..size])?;
    }
    daemon.shutdown(Shutdown::Write)?;
    let _ = back.join();
    Ok(())
}
