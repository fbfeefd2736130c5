//! nginx in front of a registry, as on most servers: TLS outside, plain HTTP inside.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use super::authority::Pair;
use super::peers;
use super::process::Process;
use super::run::until;

/// A running nginx.
pub struct Nginx {
    _process: Process,
    address: SocketAddr,
}

impl Nginx {
    /// Starts one before a server, with its files in `folder`.
    pub fn start(folder: &Path, target: SocketAddr, pair: &Pair) -> Self {
        // nginx cannot be told to take a free port. Should another program take the one that was
        // found, nginx ends, and the next is tried.
        until("a port for nginx", || {
            let found = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = found.local_addr().expect("an address");
            drop(found);
            let process = launch(folder, address, target, pair)?;
            Some(Self {
                _process: process,
                address,
            })
        })
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn launch(folder: &Path, own: SocketAddr, target: SocketAddr, pair: &Pair) -> Option<Process> {
    let config = folder.join("nginx.conf");
    let (certificate, key) = (&pair.certificate, &pair.key);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder:?};\n"))
        .concat();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {pid:?};\nerror_log stderr notice;\nevents {{}}\n\
         http {{\n{temporary}access_log off;\nserver {{\n\
         listen {own} ssl http2;\nssl_certificate {certificate:?};\nssl_certificate_key {key:?};\n\
         client_max_body_size 0;\nproxy_request_buffering off;\nproxy_buffering off;\n\
         proxy_http_version 1.1;\n\
         location / {{\nproxy_pass http://{target};\nproxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_set_header X-Forwarded-Proto $scheme;\n}}\n}}\n}}\n",
        pid = folder.join("nginx.pid"),
    );
    std::fs::write(&config, text).expect("a config file");
    let mut command = Command::new(peers::program("nginx"));
    command.arg("-p").arg(folder).arg("-c").arg(&config);
    let mut process = Process::start("nginx", &mut command, folder);
    let came_up = process.wait_for("nginx", |text| {
        // It says its version once it listens.
        let (up, taken) = (
            text.contains("nginx/"),
            text.contains("Address already in use"),
        );
        (up || taken).then_some(!taken)
    });
    came_up.then_some(process)
}
