//! An HTTP proxy that brings every request to one address, whatever host it names, and remembers
//! the hosts. So a test can have a registry of any name without leaving this machine.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use super::listener::Listener;

/// The running proxy; it ends when this goes.
pub struct HttpProxy {
    listener: Listener,
    seen: Arc<Mutex<Vec<String>>>,
}

impl HttpProxy {
    /// A proxy before `target`.
    pub fn start(target: SocketAddr) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let listener = Listener::start(move |stream, _| {
            // A client that goes away in mid-request is its own affair.
            let _ = serve(stream, target, &log);
        });
        Self { listener, seen }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    /// The first line of every connection's first request.
    pub fn request_lines(&self) -> Vec<String> {
        self.seen.lock().expect("the log").clone()
    }
}

fn serve(client: TcpStream, target: SocketAddr, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    log.lock()
        .expect("the log")
        .push(first.trim_end().to_owned());
    let tunnel = first.starts_with("CONNECT ");
    let mut server = TcpStream::connect(target)?;
    if tunnel {
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
                break;
            }
        }
        (&client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        // Servers take the absolute form as well as their own.
        server.write_all(first.as_bytes())?;
    }
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    let back = std::thread::spawn(move || {
        let copied = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
        copied
    });
    std::io::copy(&mut reader, &mut server)?;
    server.shutdown(Shutdown::Write)?;
    let _ = back.join();
    Ok(())
}
