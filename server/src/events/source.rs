//! The name of this server in events.

use std::path::Path;

use uuid::Uuid;

use super::document::EventSource;
use crate::bounded_file;
use crate::config::ListenAddress;

/// The file in which Linux tells the name of the machine.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";
const MAX_HOST_NAME_BYTES: u64 = 1024;

/// Returns the name of the machine with the port of the server, and a new id of this run.
pub(super) fn this_server(address: &ListenAddress) -> EventSource {
    let name = bounded_file::read(Path::new(HOST_NAME_FILE), MAX_HOST_NAME_BYTES);
    let name = name.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let name = name.map(|name| name.trim().to_owned()).unwrap_or_default();
    let addr = match address {
        ListenAddress::Tcp(tcp) if name.is_empty() => tcp.to_string(),
        ListenAddress::Tcp(tcp) => format!("{name}:{}", tcp.port),
        ListenAddress::Unix(path) if name.is_empty() => path.display().to_string(),
        ListenAddress::Unix(_) => name,
    };
    EventSource {
        addr,
        instance_id: Uuid::new_v4().to_string(),
    }
}
