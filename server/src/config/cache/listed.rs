//! One registry of `imgsync.cache.upstreams`.

use std::path::PathBuf;

use imgsync_oci::{Registry, Repository};

use super::super::build::{parsed, path};
use super::super::read::Reader;
use super::super::tree::Origin;
use super::super::types::Upstream;
use super::super::words::{boolean, duration};
use super::remote::{login, remote};
use super::{Place, Said, UPSTREAMS};

/// The registry at this place in the list; `freshness` counts where it says none.
pub(super) fn listed(r: &mut Reader<'_>, at: usize, freshness: &str) -> Option<Said> {
    let base = format!("{UPSTREAMS}.{at}");
    let key = |name: &str| format!("{base}.{name}");
    let origin = r.origin(&base).unwrap_or(Origin::Default);
    let prefix = needed(r, &key("prefix"), &origin, |text| {
        let wrong = || format!("must be what names begin with, as docker.io, not {text:?}");
        text.parse::<Repository>().map_err(|_| wrong())
    });
    let remote = needed(r, &key("remoteurl"), &origin, remote);
    let login = login(r, &base, true);
    let freshness = r.value(&key("freshness"), freshness, duration);
    let repositories = r.list(&key("repositories"), &[], parsed);
    let namespaces = r.list(&key("namespaces"), &[], |text| {
        text.parse::<Registry>().map_err(|error| error.to_string())
    });
    let mirror = r.optional(&key("mirror"), boolean);
    let ca_file = r.optional(&key("cafile"), path);
    let insecure = r.value(&key("insecure"), "false", boolean);
    let (remote, is_tls) = remote?;
    let (ca_file, is_insecure, mirror): (Option<PathBuf>, bool, _) = (ca_file?, insecure?, mirror?);
    if is_insecure && let Some(origin) = r.origin(&key("insecure")) {
        let text = "whoever is between here and there can read and change everything";
        r.findings.warning(&origin, &key("insecure"), text);
    }
    if !is_tls && (ca_file.is_some() || is_insecure) {
        let text = "has no effect on certificates: the remoteurl is not https";
        r.findings.warning(&origin, &base, text);
    }
    let place = Place {
        key: base.clone(),
        origin,
        says_mirror: mirror.is_some(),
    };
    let upstream = Upstream {
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
fn needed<T>(
    r: &mut Reader<'_>,
    key: &str,
    origin: &Origin,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let value = r.optional(key, parse)?;
    if value.is_none() {
        r.findings.problem(origin, key, "must be set");
    }
    value
}
