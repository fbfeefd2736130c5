//! Starts nginx as a reverse proxy for a registry: TLS for clients, plain HTTP to the registry.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::authority::CertificateAndKey;
use super::peers;
use super::process::Process;
use super::reserved_port::ReservedPort;

/// A running nginx, killed on drop.
pub struct Nginx {
    _process: Process,
    port: ReservedPort,
    log: PathBuf,
}

/// The settings of nginx for request bodies.
#[derive(Debug, Clone, Copy)]
pub struct NginxOptions {
    /// `client_max_body_size`. `None` keeps nginx's default, which is `1m`.
    pub max_body_size: Option<&'static str>,
    /// `proxy_request_buffering`: whether nginx reads a whole body before it forwards the request.
    pub buffers_requests: bool,
}

impl NginxOptions {
    /// The settings that the manuals of registries recommend: no limit and no buffering.
    pub const RECOMMENDED: Self = Self {
        max_body_size: Some("0"),
        buffers_requests: false,
    };
}

impl Nginx {
    /// Starts nginx with the recommended settings in front of `target`, with its files in `folder`.
    pub fn start(folder: &Path, target: SocketAddr, pair: &CertificateAndKey) -> Self {
        Self::start_with(folder, target, pair, NginxOptions::RECOMMENDED)
    }

    /// Starts nginx with these settings.
    pub fn start_with(
        folder: &Path,
        target: SocketAddr,
        pair: &CertificateAndKey,
        options: NginxOptions,
    ) -> Self {
        Self::start_server(folder, |listen| server_block(listen, target, pair, options))
    }

    /// Starts nginx with the `server` block of an example. Replaces only the port, the certificate
    /// and the address of the registry.
    pub fn start_example(
        example: &str,
        folder: &Path,
        target: SocketAddr,
        pair: &CertificateAndKey,
    ) -> Self {
        let (certificate, key) = (&pair.certificate, &pair.key);
        Self::start_server(folder, |listen| {
            let changes = [
                ("listen 443", format!("listen {listen}")),
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

    /// Starts nginx in front of `target`, which gets the paths without `prefix`.
    pub fn start_prefixed(
        folder: &Path,
        prefix: &str,
        target: SocketAddr,
        pair: &CertificateAndKey,
    ) -> Self {
        let (location, pass) = (
            format!("location {prefix} {{"),
            format!("http://{target}/;"),
        );
        Self::start_server(folder, |listen| {
            server_block(listen, target, pair, NginxOptions::RECOMMENDED)
                .replace("location / {", &location)
                .replace(&format!("http://{target};"), &pass)
        })
    }

    /// Starts nginx with the `server` block that `server` returns for a listening address.
    fn start_server(folder: &Path, server: impl Fn(SocketAddr) -> String) -> Self {
        // nginx cannot choose a free port itself.
        let port = ReservedPort::new();
        Self {
            _process: launch(folder, &server(port.address())),
            port,
            log: folder.join(LOG),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Returns the access log. Each line has the status, the method and the size of a request.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("nginx's log")
    }

    /// Returns how many requests nginx refused with 413.
    pub fn too_large_count(&self) -> usize {
        let log = self.log();
        log.lines().filter(|line| line.starts_with("413 ")).count()
    }
}

const LOG: &str = "access.log";

/// Returns the `server` block of a reverse proxy for `target`.
fn server_block(
    listen: SocketAddr,
    target: SocketAddr,
    pair: &CertificateAndKey,
    options: NginxOptions,
) -> String {
    let limit = options
        .max_body_size
        .map(|size| format!("client_max_body_size {size};\n"));
    let limit = limit.unwrap_or_default();
    let buffering = if options.buffers_requests {
        "on"
    } else {
        "off"
    };
    let (certificate, key) = (&pair.certificate, &pair.key);
    format!(
        "server {{\nlisten {listen} ssl http2;\nssl_certificate {certificate:?};\n\
         ssl_certificate_key {key:?};\n\
         {limit}proxy_request_buffering {buffering};\nproxy_buffering off;\n\
         proxy_http_version 1.1;\n\
         location / {{\nproxy_pass http://{target};\nproxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_set_header X-Forwarded-Proto $scheme;\n}}\n}}\n"
    )
}

fn launch(folder: &Path, server: &str) -> Process {
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
    std::fs::write(&config, text).expect("a configuration file");
    let mut command = Command::new(peers::program("nginx"));
    command.arg("-p").arg(folder).arg("-c").arg(&config);
    let mut process = Process::start("nginx", &mut command, folder);
    // nginx logs its version when it listens.
    process.wait_for("nginx", |text| text.contains("nginx/").then_some(()));
    process
}
