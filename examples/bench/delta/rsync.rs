//! The way without a registry: rsync of an archive of `docker save`, which the server then loads.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::measure::{Cost, measured};
use super::pair::Pair;
use super::push::Home;
use super::relay::{Relay, RelayFault, Throttle};

/// A running rsync daemon with one module. It is killed when the value is dropped.
pub(super) struct RsyncServer {
    process: Child,
    address: SocketAddr,
}

impl RsyncServer {
    /// Sends the new archive to a server that has the old one.
    pub(super) fn push(pair: &Pair, throttle: Throttle) -> Cost {
        let home = Home::new();
        let data = home.path("data");
        std::fs::create_dir(&data).expect("a folder");
        std::fs::copy(&pair.archives[0], data.join("image.tar")).expect("room");
        let server = Self::start(&home, &data);
        let relay = Relay::start_throttled(server.address, RelayFault::None, throttle);
        let mut command = home.command("rsync");
        // The times differ, so rsync compares the contents.
        command.args(["--compress", "--no-whole-file"]);
        command.arg(&pair.archives[1]);
        command.arg(format!("rsync://{}/data/image.tar", relay.address()));
        measured(&mut command, &relay, None)
    }

    fn start(home: &Home, data: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let config = home.path("rsyncd.conf");
        let text = format!(
            "uid = 0\ngid = 0\nuse chroot = no\n[data]\npath = {}\nread only = no\n",
            data.display()
        );
        std::fs::write(&config, text).expect("a file");
        let mut command = Command::new("rsync");
        command.args(["--daemon", "--no-detach", "--address=127.0.0.1"]);
        command.arg(format!("--port={}", address.port()));
        command.arg(format!("--config={}", config.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.spawn().expect("rsync is installed");
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, address }
    }
}

impl Drop for RsyncServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
