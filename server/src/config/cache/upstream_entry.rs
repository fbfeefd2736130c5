//! One registry of `imgsync.cache.upstreams`.

use std::path::PathBuf;

use imgsync_oci::{Registry, Repository};

use super::super::build::{parse_as, path};
use super::super::reader::ConfigReader;
use super::super::scalars::{parse_bool, parse_duration};
use super::super::tree::ValueOrigin;
use super::super::types::UpstreamConfig;
use super::remote::{build_login, parse_remote_url};
use super::{ParsedUpstream, UPSTREAMS_KEY, UpstreamPosition};

/// The registry at this place in the list; `freshness` counts where it says none.
pub(super) fn build_upstream(
    r: &mut ConfigReader<'_>,
    at: usize,
    freshness: &str,
) -> Option<ParsedUpstream> {
    let base = format!("{UPSTREAMS_KEY}.{at}");
    let key = |name: &str| format!("{base}.{name}");
    let origin = r.origin(&base).unwrap_or(ValueOrigin::Default);
    let prefix = required(r, &key("prefix"), &origin, |text| {
        let wrong = || format!("must be what names begin with, as docker.io, not {text:?}");
        text.parse::<Repository>().map_err(|_| wrong())
    });
    let remote = required(r, &key("remoteurl"), &origin, parse_remote_url);
    let login = build_login(r, &base, true);
    let freshness = r.value(&key("freshness"), freshness, parse_duration);
    let repositories = r.list(&key("repositories"), &[], parse_as);
    let namespaces = r.list(&key("namespaces"), &[], |text| {
        text.parse::<Registry>().map_err(|error| error.to_string())
    });
    let mirror = r.optional(&key("mirror"), parse_bool);
    let ca_file = r.optional(&key("cafile"), path);
    let insecure = r.value(&key("insecure"), "false", parse_bool);
    let (remote, is_tls) = remote?;
    let (ca_file, is_insecure, mirror): (Option<PathBuf>, bool, _) = (ca_file?, insecure?, mirror?);
    if is_insecure && let Some(origin) = r.origin(&key("insecure")) {
        let text = "whoever is between here and there can read and change everything";
        r.diagnostics.warning(&origin, &key("insecure"), text);
    }
    if !is_tls && (ca_file.is_some() || is_insecure) {
        let text = "has no effect on certificates: the remoteurl is not https";
        r.diagnostics.warning(&origin, &base, text);
    }
    let place = UpstreamPosition {
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
    Some((place, upstream))
}

/// A value that must be there.
fn required<T>(
    r: &mut ConfigReader<'_>,
    key: &str,
    origin: &ValueOrigin,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let value = r.optional(key, parse)?;
    if value.is_none() {
        r.diagnostics.error(origin, key, "must be set");
    }
    value
}
