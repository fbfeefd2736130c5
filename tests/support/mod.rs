//! Helpers for the tests: starts real programs in temporary folders, makes images with known bytes,
//! disturbs connections, and checks what a registry serves.

#![allow(
    unreachable_pub,
    reason = "nothing in a test program is public; `pub` marks what tests may use"
)]

pub mod archive;
pub mod authority;
pub mod bytes;
pub mod cache;
pub mod check;
pub mod chromium;
pub mod containerd;
pub mod content_service;
pub mod disk;
pub mod docker;
pub mod docker_socket;
pub mod engine;
pub mod fake;
pub mod http;
pub mod image;
pub mod imgsync;
pub mod kills;
pub mod layer_pairs;
pub mod listener;
pub mod meddler;
pub mod nginx;
pub mod older_server;
pub mod peers;
pub mod podman;
pub mod prelude;
pub mod process;
pub mod proxy;
pub mod quirky;
pub mod random;
pub mod recorded;
pub mod relay;
pub mod request_parser;
pub mod reserved_port;
pub mod run;
pub mod scratch;
pub mod seed;
pub mod serial;
pub mod server;
pub mod skopeo;
pub mod socks_proxy;
pub mod ssh;
pub mod stock;
pub mod store;
pub mod terminal;
pub mod transcript;
pub mod upstream;
pub mod wine;
pub mod zip;

pub use authority::CertificateAuthority;
pub use containerd::Containerd;
pub use disk::SmallDisk;
pub use docker::DockerImage;
pub use docker_socket::DockerSocketProxy;
pub use image::Image;
pub use imgsync::Imgsync;
pub use nginx::{Nginx, NginxOptions};
pub use podman::Podman;
pub use proxy::HttpProxy;
pub use random::Random;
pub use relay::{Relay, RelayFault, Throttle, Trigger};
pub use reserved_port::ReservedPort;
pub use scratch::Scratch;
pub use server::Server;
pub use socks_proxy::SocksProxy;
pub use ssh::SshServer;
pub use stock::StockRegistry;
pub use terminal::Terminal;
pub use upstream::Upstream;
