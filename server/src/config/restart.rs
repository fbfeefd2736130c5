//! Compares an old and a new configuration at a reload: what needs a restart.

use super::types::Config;

/// Keeps authentication when the new configuration has none, and returns whether it did.
///
/// Only a restart disables authentication. Otherwise a truncated configuration file would let
/// everyone in.
pub fn keep_auth(old: &Config, new: &mut Config) -> bool {
    let is_lost = old.auth.is_some() && new.auth.is_none();
    if is_lost {
        new.auth.clone_from(&old.auth);
    }
    is_lost
}

/// Returns the keys that differ between two configurations and take effect only after a restart.
pub fn keys_needing_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (old_http, new_http) = (&old.http, &new.http);
    let (old_own, new_own) = (&old.imgsync, &new.imgsync);
    #[rustfmt::skip]
    let comparisons = [
        ("storage.filesystem.rootdirectory", old.storage.root == new.storage.root),
        ("http.addr", old_http.listen_address == new_http.listen_address),
        ("http.tls", old_http.tls.is_some() == new_http.tls.is_some()),
        ("http.debug.addr", old_http.debug_address == new_http.debug_address),
        ("http.debug.prometheus", old_http.metrics_path == new_http.metrics_path),
        ("log.formatter", old.log.formatter == new.log.formatter),
        ("log.fields", old.log.fields == new.log.fields),
        ("imgsync.stall", old_own.read_timeout == new_own.read_timeout),
        ("imgsync.bodytimeout", old_own.body_timeout == new_own.body_timeout),
        ("imgsync.limits.bodymemory", old_own.max_body_memory == new_own.max_body_memory),
        ("imgsync.limits.connections", old_own.max_connections == new_own.max_connections),
    ];
    let changed = comparisons.into_iter().filter(|(_, is_same)| !is_same);
    changed.map(|(key, _)| key).collect()
}
