//! The section `storage`.

use super::super::reader::ConfigReader;
use super::super::scalars::{parse_bool, parse_duration, parse_interval, parse_path};
use super::super::tree::ValueOrigin;
use super::super::types::{PurgeConfig, StorageConfig};

/// The keys of `storage` that are not storage drivers.
const STORAGE_NON_DRIVER_KEYS: &[&str] = &["delete", "redirect", "cache", "tag", "maintenance"];

pub(super) fn build_storage(reader: &mut ConfigReader<'_>) -> Option<StorageConfig> {
    check_driver(reader);
    let root_key = "storage.filesystem.rootdirectory";
    build!(StorageConfig {
        root: reader.value(root_key, "/var/lib/registry", parse_path),
        is_delete_enabled: reader.value("storage.delete.enabled", "false", parse_bool),
        purging: build_purging(reader),
        is_read_only: reader.value("storage.maintenance.readonly.enabled", "false", parse_bool),
    })
}

/// Reports an error unless exactly one storage driver is configured.
fn check_driver(reader: &mut ConfigReader<'_>) {
    let mut drivers = reader.map_entries("storage");
    drivers.retain(|(name, _)| !STORAGE_NON_DRIVER_KEYS.contains(&name.as_str()));
    match drivers.as_slice() {
        [_] => {}
        [] => {
            let origin = reader.origin("storage").unwrap_or(ValueOrigin::Default);
            let text =
                "no storage configuration provided: set a storage driver, for example filesystem";
            reader.diagnostics.error(&origin, "storage", text);
        }
        [(_, first), ..] => {
            let names: Vec<_> = drivers
                .iter()
                .map(|(name, node)| format!("{name} ({})", node.origin))
                .collect();
            let text = format!(
                "only one storage driver can be configured, found {}",
                names.join(" and ")
            );
            reader.diagnostics.error(&first.origin, "storage", text);
        }
    }
}

fn build_purging(reader: &mut ConfigReader<'_>) -> Option<PurgeConfig> {
    let key = |name: &str| format!("storage.maintenance.uploadpurging.{name}");
    build!(PurgeConfig {
        is_enabled: reader.value(&key("enabled"), "true", parse_bool),
        age: reader.value(&key("age"), "168h", parse_duration),
        interval: reader.value(&key("interval"), "24h", parse_interval),
        is_dry_run: reader.value(&key("dryrun"), "false", parse_bool),
    })
}
