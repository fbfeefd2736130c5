//! A SOCKS5 proxy (RFC 1928) without a login that connects all clients to one address and records the
//! requested hosts.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use super::listener::Listener;

/// A running proxy, stopped on drop.
pub struct SocksProxy {
    listener: Listener,
    hosts: Arc<Mutex<Vec<String>>>,
}

impl SocksProxy {
    /// Starts a proxy that connects all clients to `target`.
    pub fn start(target: SocketAddr) -> Self {
        let hosts = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&hosts);
        let listener = Listener::start(move |stream, _| {
            // A client may disconnect in the middle of a request.
            let _ = serve(stream, target, &log);
        });
        Self { listener, hosts }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Returns the host of each request: a name, or an IPv4 address.
    pub fn hosts(&self) -> Vec<String> {
        self.hosts.lock().expect("the log").clone()
    }
}

fn serve(
    mut client: TcpStream,
    target: SocketAddr,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting)?;
    client.read_exact(&mut vec![0; greeting[1].into()])?;
    client.write_all(&[5, 0])?;
    let mut request = [0; 5];
    client.read_exact(&mut request)?;
    let host = match request[3] {
        3 => {
            let mut name = vec![0; request[4].into()];
            client.read_exact(&mut name)?;
            String::from_utf8_lossy(&name).into_owned()
        }
        _ => {
            let mut rest = [0; 3];
            client.read_exact(&mut rest)?;
            format!("{}.{}.{}.{}", request[4], rest[0], rest[1], rest[2])
        }
    };
    client.read_exact(&mut [0; 2])?;
    log.lock().expect("the log").push(host);
    let mut server = TcpStream::connect(target)?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    let back = std::thread::spawn(move || {
        let copied = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
        copied
    });
    std::io::copy(&mut client, &mut server)?;
    server.shutdown(Shutdown::Write)?;
    let _ = back.join();
    Ok(())
}
