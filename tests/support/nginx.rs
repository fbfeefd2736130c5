//! nginx in front of a registry, as on most servers: TLS outside, plain HTTP inside.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::authority::CertificateAndKey;
use super::peers;
use super::process::Process;
use super::run::wait_until;

/// A running nginx.
pub struct Nginx {
    _process: Process,
    address: SocketAddr,
    log: PathBuf,
}

/// How it treats requests.
#[derive(Debug, Clone, Copy)]
pub struct NginxOptions {
    /// `client_max_body_size`; `None` leaves it at nginx's own default, which is `1m`.
    pub max_body_size: Option<&'static str>,
    /// `proxy_request_buffering`: whether a body is taken in whole before it is passed on.
    pub buffers_requests: bool,
}

impl NginxOptions {
    /// As a registry's manual says: no limit, and nothing is held back.
    pub const RIGHT: Self = Self {
        max_body_size: Some("0"),
        buffers_requests: false,
    };
}

impl Nginx {
    /// Starts one before a server, with its files in `folder`.
    pub fn start(folder: &Path, target: SocketAddr, pair: &CertificateAndKey) -> Self {
        Self::start_with(folder, target, pair, NginxOptions::RIGHT)
    }

    /// The same, with a say in how it treats requests.
    pub fn start_with(
        folder: &Path,
        target: SocketAddr,
        pair: &CertificateAndKey,
        treatment: NginxOptions,
    ) -> Self {
        Self::serving(folder, |own| treated(own, target, pair, treatment))
    }

    /// Starts one with a `server` as an example has it, but for the port, the certificate, and the
    /// address of the registry behind it.
    pub fn start_example(
        example: &str,
        folder: &Path,
        target: SocketAddr,
        pair: &CertificateAndKey,
    ) -> Self {
        let (certificate, key) = (&pair.certificate, &pair.key);
        Self::serving(folder, |own| {
            let changes = [
                ("listen 443", format!("listen {own}")),
                (
                    "/etc/ssl/registry.example.com.pem",
                    format!("{certificate:?}"),
                ),
                ("/etc/ssl/registry.example.com.key", format!("{key:?}")),
                (
                    "proxy_pass http://127.0.0.1:5000",
                    format!("proxy_pass http://{target}"),
                ),
            ];
            changes.iter().fold(example.to_owned(), |text, (from, to)| {
                assert_eq!(text.matches(from).count(), 1, "{from}");
                text.replace(from, to)
            })
        })
    }

    /// Starts one with the `server` that is made for its own address.
    fn serving(folder: &Path, server: impl Fn(SocketAddr) -> String) -> Self {
        // nginx cannot be told to take a free port. Should another program take the one that was
        // found, nginx ends, and the next is tried.
        wait_until("a port for nginx", || {
            let found = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = found.local_addr().expect("an address");
            drop(found);
            let process = launch(folder, &server(address))?;
            Some(Self {
                _process: process,
                address,
                log: folder.join(LOG),
            })
        })
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests that it has answered, one a line: status, method, and bytes of the request.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("nginx's log")
    }

    /// How many requests were too large for it.
    pub fn too_large_count(&self) -> usize {
        let log = self.log();
        log.lines().filter(|line| line.starts_with("413 ")).count()
    }
}

const LOG: &str = "access.log";

/// A `server` before `target`.
fn treated(
    own: SocketAddr,
    target: SocketAddr,
    pair: &CertificateAndKey,
    treatment: NginxOptions,
) -> String {
    let limit = treatment
        .max_body_size
        .map(|size| format!("client_max_body_size {size};\n"));
    let limit = limit.unwrap_or_default();
    let buffers = match treatment.buffers_requests {
        true => "on",
        false => "off",
    };
    let (certificate, key) = (&pair.certificate, &pair.key);
    format!(
        "server {{\nlisten {own} ssl http2;\nssl_certificate {certificate:?};\n\
         ssl_certificate_key {key:?};\n\
         {limit}proxy_request_buffering {buffers};\nproxy_buffering off;\n\
         proxy_http_version 1.1;\n\
         location / {{\nproxy_pass http://{target};\nproxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_set_header X-Forwarded-Proto $scheme;\n}}\n}}\n"
    )
}

fn launch(folder: &Path, server: &str) -> Option<Process> {
    let log = folder.join(LOG);
    let config = folder.join("nginx.conf");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder:?};\n"))
        .concat();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {pid:?};\nerror_log stderr notice;\nevents {{}}\n\
         http {{\n{temporary}log_format short '$status $request_method $request_length';\n\
         access_log {log:?} short;\n{server}}}\n",
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
