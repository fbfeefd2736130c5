//! The stock registry's section: `proxy`.

use super::super::read::Reader;
use super::super::types::Upstream;
use super::super::words::duration;
use super::remote::{login, remote};
use super::{Place, Said, is_said};

/// The stock registry's only upstream: it stands behind every name.
pub(super) fn proxy(r: &mut Reader<'_>, freshness: &str) -> Option<Option<Said>> {
    let Some(origin) = r
        .origin("proxy.remoteurl")
        .filter(|_| is_said(r, "proxy.remoteurl"))
    else {
        return Some(None);
    };
    let remote = r.optional("proxy.remoteurl", remote)?;
    let login = login(r, "proxy", false)?;
    let (remote, is_tls) = remote?;
    let place = Place {
        key: "proxy".to_owned(),
        origin,
        says_mirror: false,
    };
    let upstream = Upstream {
        prefix: None,
        remote,
        is_tls,
        login,
        // What is wrong with it is told where it stands.
        freshness: duration(freshness).unwrap_or_default(),
        repositories: Vec::new(),
        namespaces: Vec::new(),
        is_mirror: false,
        ca_file: None,
        is_insecure: false,
    };
    Some(Some((place, upstream)))
}
