//! One entry of `imgsync.cache.upstreams`.

use std::path::PathBuf;

use imgsync_oci::{Registry, Repository};

use super::super::reader::ConfigReader;
use super::super::scalars::{parse_bool, parse_duration, parse_path, parse_with_from_str};
use super::super::tree::ValueOrigin;
use super::super::types::UpstreamConfig;
use super::remote::{build_login, parse_remote_url};
use super::{ParsedUpstream, UPSTREAMS_KEY, UpstreamPosition};

/// Builds the upstream at an index of the list. `freshness` applies when the entry sets none.
pub(super) fn build_upstream(
    reader: &mut ConfigReader<'_>,
    index: usize,
    freshness: &str,
) -> Option<ParsedUpstream> {
    let base = format!("{UPSTREAMS_KEY}.{index}");
    let key = |name: &str| format!("{base}.{name}");
    let origin = reader.origin(&base).unwrap_or(ValueOrigin::Default);
    let prefix = reader.required(&key("prefix"), &base, |text| {
        let invalid = || format!("must be a prefix of names such as docker.io, not {text:?}");
        text.parse::<Repository>().map_err(|_| invalid())
    });
    let remote = reader.required(&key("remoteurl"), &base, parse_remote_url);
    let login = build_login(reader, &base, true);
    let freshness = reader.value(&key("freshness"), freshness, parse_duration);
    let repositories = reader.list(&key("repositories"), &[], parse_with_from_str);
    let namespaces = reader.list(&key("namespaces"), &[], parse_with_from_str::<Registry>);
    let mirror = reader.optional(&key("mirror"), parse_bool);
    let ca_file = reader.optional(&key("cafile"), parse_path);
    let insecure = reader.value(&key("insecure"), "false", parse_bool);
    let (remote, is_tls) = remote?;
    let (ca_file, is_insecure, mirror): (Option<PathBuf>, bool, _) = (ca_file?, insecure?, mirror?);
    if is_insecure && let Some(origin) = reader.origin(&key("insecure")) {
        let text =
            "unsafe: certificates are not verified, so the connection can be read and modified";
        reader.diagnostics.warning(&origin, &key("insecure"), text);
    }
    if !is_tls && (ca_file.is_some() || is_insecure) {
        let text = "cafile and insecure have no effect: remoteurl is not an https:// URL";
        reader.diagnostics.warning(&origin, &base, text);
    }
    let position = UpstreamPosition {
        key: base.clone(),
        origin,
        has_mirror_key: mirror.is_some(),
    };
    let upstream = UpstreamConfig {
        prefix: Some(prefix?),
        remote,
        is_tls,
        login: login?,
        freshness: freshness?,
        repositories: repositories?,
        namespaces: namespaces?,
        is_mirror: mirror.unwrap_or(false),
        ca_file,
        is_insecure,
    };
    Some((position, upstream))
}
