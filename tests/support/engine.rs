//! A Docker daemon with the containerd image store: describes one image, exports it, and serves
//! containerd's content service as BuildKit does inside Docker.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::archive::{Entry, tar_of};
use super::authority::CertificateAndKey;
use super::bytes::digest;
use super::content_service::{ContentService, serve};
use super::image::Image;
use super::imgsync::Imgsync;
use super::seed::OCI_MANIFEST;

/// The start of an HTTP/2 connection without an upgrade, up to the first empty line.
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\n";

/// How a client reaches the content service.
#[derive(Clone)]
pub enum ContentAccess {
    /// By an upgrade of `POST /grpc`.
    Upgrade(ContentService),
    /// By HTTP/2 without an upgrade; `POST /grpc` is not found.
    PriorKnowledge(ContentService),
    /// Not at all: `POST /grpc` is answered with this status line.
    Refused(&'static str),
    /// By an upgrade, from a containerd that listens on this socket.
    Containerd(PathBuf),
}

/// A running daemon, stopped on drop.
pub struct FakeEngine {
    socket: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// The answers of the daemon.
struct Script {
    inspected: String,
    export: Vec<u8>,
    access: ContentAccess,
}

impl FakeEngine {
    /// Starts a daemon with its socket in `folder`. It describes its image as `inspected`, and
    /// exports `entries`.
    pub fn start(
        folder: &Path,
        inspected: &serde_json::Value,
        entries: &[Entry],
        access: ContentAccess,
    ) -> Self {
        let socket = folder.join("engine.sock");
        let script = Arc::new(Script {
            inspected: inspected.to_string(),
            export: tar_of(entries),
            access,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, path) = (Arc::clone(&requests), socket.clone());
        let listener = runtime.block_on(async move { UnixListener::bind(path) });
        let listener = listener.expect("a socket");
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                tokio::spawn(async move {
                    // The client may close the connection at any time.
                    let _ = answer(stream, &script, &log).await;
                });
            }
        });
        Self {
            socket,
            requests,
            runtime: Some(runtime),
        }
    }

    /// Returns the tool with the address of this daemon.
    pub fn command(&self, imgsync: &Imgsync) -> Command {
        let mut command = imgsync.command();
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        command
    }

    /// Also listens on a TCP port, with TLS and without a check of the client's certificate.
    pub fn listen_with_tls(&self, files: &CertificateAndKey) -> SocketAddr {
        let chain = CertificateDer::pem_file_iter(&files.certificate).expect("a certificate");
        let chain = chain.map(|part| part.expect("a certificate")).collect();
        let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("a protocol version")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        self.forward(move |stream| acceptor.accept(stream))
    }

    /// Also listens on a TCP port.
    pub fn listen_on_tcp(&self) -> SocketAddr {
        self.forward(|stream| std::future::ready(Ok(stream)))
    }

    /// Listens on a TCP port, and forwards each connection to the daemon after `accept`.
    fn forward<F, S>(&self, accept: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> SocketAddr
    where
        F: Future<Output = std::io::Result<S>> + Send,
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let runtime = self.runtime.as_ref().expect("a running daemon");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        let socket = self.socket.clone();
        let accept = Arc::new(accept);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (accept, socket) = (Arc::clone(&accept), socket.clone());
                tokio::spawn(async move {
                    // A client may refuse the certificate, or close the connection at any time.
                    let mut client = accept(stream).await?;
                    let mut daemon = UnixStream::connect(socket).await?;
                    copy_bidirectional(&mut client, &mut daemon).await
                });
            }
        });
        address
    }

    /// Returns the socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the number of requests whose first line contains `text`.
    pub fn count(&self, text: &str) -> usize {
        let requests = self.requests.lock().expect("the log");
        requests.iter().filter(|line| line.contains(text)).count()
    }

    /// Returns the number of exports.
    pub fn exports(&self) -> usize {
        self.count("/get")
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    script: &Script,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let line = head.lines().next().unwrap_or_default().to_owned();
    log.lock().expect("the log").push(line.clone());
    if head == PREFACE {
        if let ContentAccess::PriorKnowledge(service) = &script.access {
            let (read, write) = stream.into_split();
            let read = PREFACE.as_bytes().chain(read);
            serve(tokio::io::join(read, write), service.clone()).await;
        }
        return Ok(());
    }
    if line.starts_with("POST /grpc ") {
        let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                         Upgrade: h2c\r\n\r\n";
        match &script.access {
            ContentAccess::Upgrade(service) => {
                stream.write_all(switching.as_bytes()).await?;
                serve(stream, service.clone()).await;
            }
            ContentAccess::Containerd(socket) => {
                stream.write_all(switching.as_bytes()).await?;
                let mut containerd = UnixStream::connect(socket).await?;
                copy_bidirectional(&mut stream, &mut containerd).await?;
            }
            ContentAccess::PriorKnowledge(_) => {
                respond(&mut stream, "404 Not Found", b"{}").await?
            }
            ContentAccess::Refused(status) => respond(&mut stream, status, b"{}").await?,
        }
        return Ok(());
    }
    let path = line.split(' ').nth(1).unwrap_or_default();
    let info = json!({"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]});
    if path == "/info" {
        respond(&mut stream, "200 OK", info.to_string().as_bytes()).await
    } else if path.contains("/json") {
        respond(&mut stream, "200 OK", script.inspected.as_bytes()).await
    } else if path.contains("/get") {
        respond(&mut stream, "200 OK", &script.export).await
    } else {
        respond(&mut stream, "404 Not Found", b"{}").await
    }
}

async fn respond(stream: &mut UnixStream, status: &str, body: &[u8]) -> std::io::Result<()> {
    let len = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}

/// Returns the blobs of an OCI layout, by digest.
pub fn layout_blobs(entries: &[Entry]) -> HashMap<String, Vec<u8>> {
    let blobs = entries.iter().filter_map(|entry| {
        let digest = entry.name.strip_prefix("blobs/")?.replace('/', ":");
        Some((digest, entry.bytes.clone()))
    });
    blobs.collect()
}

/// Returns how a daemon with Docker's classic image store describes an image named `app:v1`.
pub fn inspect_classic(image: &Image) -> serde_json::Value {
    let diff_ids: Vec<_> = image.layers.iter().map(|layer| digest(layer)).collect();
    json!({
        "Id": image.id(), "RepoTags": ["app:v1"], "Os": "linux", "Architecture": "amd64",
        "Size": image.layers.iter().map(Vec::len).sum::<usize>(),
        "RootFS": {"Type": "layers", "Layers": diff_ids},
    })
}

/// Returns how a daemon with the containerd image store describes an image with compressed layers.
pub fn inspect_containerd(image: &Image) -> serde_json::Value {
    let manifest = digest(&image.oci_manifest(&image.compressed()));
    inspect_with_root(image, OCI_MANIFEST, &manifest)
}

/// Returns how a daemon with the containerd image store describes an image with this manifest or
/// index.
pub fn inspect_with_root(image: &Image, media_type: &str, root: &str) -> serde_json::Value {
    let mut inspected = inspect_classic(image);
    inspected["Id"] = json!(root);
    inspected["Descriptor"] = json!({"mediaType": media_type, "digest": root});
    inspected
}
