//! A proxy for the socket of the Docker daemon that records the requests.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::request_parser::{ObservedRequest, RequestParser};

/// A running proxy, stopped on drop.
pub struct DockerSocketProxy {
    socket: PathBuf,
    /// One parser for each connection.
    parsers: Arc<Mutex<Vec<RequestParser>>>,
    closing: Arc<AtomicBool>,
}

impl Drop for DockerSocketProxy {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // `accept` returns only when a client connects.
        let _ = UnixStream::connect(&self.socket);
    }
}

impl DockerSocketProxy {
    /// Starts a proxy with its socket in `folder`. The daemon is found by `DOCKER_HOST`.
    pub fn start(folder: &Path) -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let daemon = host
            .strip_prefix("unix://")
            .unwrap_or("/var/run/docker.sock");
        Self::start_to(folder, daemon.into(), false)
    }

    /// Starts a proxy to the daemon at a socket that does not let gRPC through, like the proxies
    /// that pass on only some requests of Docker's API.
    pub fn start_without_grpc(folder: &Path, daemon: PathBuf) -> Self {
        Self::start_to(folder, daemon, true)
    }

    /// Starts a proxy to the daemon at a socket.
    pub fn start_for(folder: &Path, host: &str) -> Self {
        let daemon = host.strip_prefix("unix://").unwrap_or(host);
        Self::start_to(folder, daemon.into(), false)
    }

    fn start_to(folder: &Path, daemon: PathBuf, refuses_grpc: bool) -> Self {
        let socket = folder.join("engine.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let parsers = Arc::new(Mutex::new(Vec::new()));
        let closing = Arc::new(AtomicBool::new(false));
        let (log, is_closing) = (Arc::clone(&parsers), Arc::clone(&closing));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if is_closing.load(Ordering::SeqCst) {
                    return;
                }
                let (log, daemon) = (Arc::clone(&log), daemon.clone());
                // A client may disconnect in the middle of a request.
                std::thread::spawn(move || {
                    serve(client.expect("a client"), &daemon, refuses_grpc, &log).ok()
                });
            }
        });
        Self {
            socket,
            parsers,
            closing,
        }
    }

    /// Returns the value for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Returns all requests to the daemon.
    pub fn requests(&self) -> Vec<ObservedRequest> {
        let parsers = self.parsers.lock().expect("the log");
        let requests = parsers.iter().flat_map(RequestParser::requests);
        requests.cloned().collect()
    }
}

fn serve(
    mut client: UnixStream,
    daemon: &Path,
    refuses_grpc: bool,
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
        if refuses_grpc && buffer.starts_with(b"POST /grpc ") {
            let refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
            client.write_all(refusal)?;
            daemon.shutdown(Shutdown::Both)?;
            break;
        }
        log.lock().expect("the log")[number].add(&buffer[..size]);
        daemon.write_all(&buffer[..size])?;
    }
    // The connection may be closed already.
    let _ = daemon.shutdown(Shutdown::Write);
    let _ = back.join();
    Ok(())
}
