//! Checks whether the server could start, for `imgsync-server config`.

use std::io;

use super::{ADDRESS_KEY, DEBUG_ADDRESS_KEY, Error, open_tls};
use crate::auth::AccessController;
use crate::config::{Config, ListenAddress};
use crate::events::Events;
use crate::listen::Listener;
use crate::registry::Registry;
use crate::upstream::Upstreams;

/// Checks whether [`run`](super::run) could start with a configuration: reads the files that it names,
/// and tries the storage folder and the addresses. Nothing is created or changed.
///
/// Returns warnings about users that cannot log in. A folder or an address that is in use is accepted, because the user of it may be the server that
/// the configuration is for.
///
/// # Errors
/// As [`run`](super::run), except for what is in use.
pub async fn check_start(config: &Config) -> Result<Vec<String>, Error> {
    let warnings = AccessController::check(&config.into())?;
    open_tls(config)?;
    let storage = &config.storage;
    Registry::check(&storage.root, storage.is_read_only)?;
    Upstreams::check(config)?;
    Events::check(config)?;
    let debug_address = config.http.debug_address.clone().map(ListenAddress::Tcp);
    for (address, key) in [
        (Some(&config.http.listen_address), ADDRESS_KEY),
        (debug_address.as_ref(), DEBUG_ADDRESS_KEY),
    ] {
        // To try a Unix socket would create a file.
        let Some(address @ ListenAddress::Tcp(_)) = address else {
            continue;
        };
        match Listener::bind(address, key).await {
            Err(error) if error.source.kind() != io::ErrorKind::AddrInUse => {
                return Err(error.into());
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(warnings)
}
