//! The registries behind this one: the stock registry's `proxy`, and `imgsync.cache`.

use std::path::PathBuf;

use imgsync_oci::{Registry, Repository};

use super::build::{header_value, parsed, path};
use super::problem::Findings;
use super::read::Reader;
use super::tree::{Origin, Value};
use super::types::{Cache, Login, Password, Upstream};
use super::words::{boolean, bytes, duration};

const UPSTREAMS: &str = "imgsync.cache.upstreams";
/// The stock registry's, of version 3; version 2 cannot do otherwise.
const PROXY_TTL: &str = "168h";
const MAX_AGE: &str = "720h";
/// A HEAD is not counted by Docker Hub, so asking again soon costs little.
const FRESHNESS: &str = "1m";
/// The name under which people know Docker Hub.
const DOCKER_HUB: &str = "docker.io";

pub(super) fn cache(r: &mut Reader<'_>) -> Option<Cache> {
    let freshness_key = "imgsync.cache.freshness";
    let has_any = is_said(r, "proxy.remoteurl") || count(r)? > 0;
    if !has_any {
        // Read all the same: what is wrong is told, and what is right has no effect.
        if let Some(origin) = r.origin("imgsync.cache")
            && is_said(r, "imgsync.cache")
        {
            let text = "has no effect: it names no registry to fetch from";
            r.findings.warning(&origin, "imgsync.cache", text);
        }
        r.optional(freshness_key, duration)?;
        r.optional("imgsync.cache.maxbytes", bytes)?;
        r.optional("imgsync.cache.maxage", duration)?;
        r.optional("proxy.ttl", duration)?;
        return Some(Cache::default());
    }
    let text = r.tree.at(freshness_key).and_then(|node| match &node.value {
        Value::Scalar(text) => Some(text.clone()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    });
    let freshness = text.unwrap_or_else(|| FRESHNESS.to_owned());
    let proxy = proxy(r, &freshness);
    let ttl = match is_said(r, "proxy.remoteurl") {
        true => r.value("proxy.ttl", PROXY_TTL, duration).map(Some),
        false => Some(None),
    };
    let listed: Vec<_> = (0..count(r)?).map(|at| listed(r, at, &freshness)).collect();
    let said_freshness = r.value(freshness_key, FRESHNESS, duration);
    let max_bytes = r.optional("imgsync.cache.maxbytes", bytes);
    // The stock registry's time counts where ours says nothing.
    let max_age = match ttl? {
        Some(ttl) if !is_said(r, "imgsync.cache.maxage") => Some(ttl),
        Some(_) | None => r.value("imgsync.cache.maxage", MAX_AGE, duration),
    };
    let listed: Option<Vec<_>> = listed.into_iter().collect();
    said_freshness?;
    let mut upstreams: Vec<_> = proxy?.into_iter().collect();
    upstreams.extend(listed?);
    tell_apart(r.findings, &upstreams)?;
    choose_mirror(&mut upstreams);
    Some(Cache {
        upstreams: upstreams
            .into_iter()
            .map(|(_, upstream)| upstream)
            .collect(),
        max_bytes: max_bytes?.filter(|bytes| *bytes > 0),
        max_age: Some(max_age?).filter(|age| !age.is_zero()),
    })
}

/// An upstream, and where it was said.
type Said = (Place, Upstream);

/// Where something was said, and under which key.
#[derive(Clone)]
struct Place {
    key: String,
    origin: Origin,
    says_mirror: bool,
}

fn is_said(r: &Reader<'_>, key: &str) -> bool {
    r.tree.at(key).is_some_and(|node| !node.is_silent())
}

fn count(r: &mut Reader<'_>) -> Option<usize> {
    let Some(node) = r.tree.at(UPSTREAMS) else {
        return Some(0);
    };
    match &node.value {
        Value::Null => Some(0),
        Value::List(items) => Some(items.len()),
        Value::Scalar(_) | Value::Map(_) => {
            let text = "must be a list of registries, each with a prefix and a remoteurl";
            r.findings.problem(&node.origin, UPSTREAMS, text);
            None
        }
    }
}

/// The stock registry's only upstream: it stands behind every name.
fn proxy(r: &mut Reader<'_>, freshness: &str) -> Option<Option<Said>> {
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

fn listed(r: &mut Reader<'_>, at: usize, freshness: &str) -> Option<Said> {
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

fn login(r: &mut Reader<'_>, base: &str, takes_file: bool) -> Option<Option<Login>> {
    let key = |name: &str| format!("{base}.{name}");
    let username = r.optional(&key("username"), header_value)?;
    let password = r.secret(&key("password"))?;
    let file = match takes_file {
        true => r.optional(&key("passwordfile"), path)?,
        false => None,
    };
    let problem = |r: &mut Reader<'_>, name: &str, text: &str| {
        let origin = r.origin(base).unwrap_or(Origin::Default);
        r.findings.problem(&origin, &key(name), text);
        None
    };
    let password = match (password, file) {
        (Some(_), Some(_)) => {
            return problem(
                r,
                "passwordfile",
                "stands beside a password; one of them counts",
            );
        }
        (Some(password), None) => Some(Password::Here(password)),
        (None, Some(file)) => Some(Password::File(file)),
        (None, None) => None,
    };
    match (username, password) {
        (Some(username), Some(password)) => Some(Some(Login { username, password })),
        (None, None) => Some(None),
        (Some(_), None) => problem(r, "password", "must be set where there is a username"),
        (None, Some(_)) => problem(r, "username", "must be set where there is a password"),
    }
}

/// A registry's address, and whether it is spoken to with TLS.
fn remote(text: &str) -> Result<(Registry, bool), String> {
    let wrong = |why: &str| {
        Err(format!(
            "must be a registry's URL, as https://registry-1.docker.io{why}, not {text:?}"
        ))
    };
    let (rest, is_tls) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (rest, true),
        (None, Some(rest)) => (rest, false),
        (None, None) => return wrong(""),
    };
    if rest.contains('@') {
        return Err("must not hold a login: username and password are keys beside it".to_owned());
    }
    let host = rest.trim_end_matches('/');
    if host.contains(['/', '?', '#']) {
        return wrong(" without a path");
    }
    match host.parse() {
        Ok(registry) => Ok((registry, is_tls)),
        Err(_) => wrong(""),
    }
}

/// No name may mean two registries.
fn tell_apart(findings: &mut Findings, upstreams: &[Said]) -> Option<()> {
    let before = findings.problems.len();
    let has_proxy = upstreams
        .iter()
        .any(|(_, upstream)| upstream.prefix.is_none());
    for (at, (place, upstream)) in upstreams.iter().enumerate() {
        let earlier = &upstreams[..at];
        if upstream.prefix.is_some()
            && earlier
                .iter()
                .any(|(_, other)| other.prefix == upstream.prefix)
        {
            let text = "stands twice: names that begin with it would mean two registries";
            findings.problem(&place.origin, &format!("{}.prefix", place.key), text);
        }
        if !upstream.is_mirror {
            continue;
        }
        let key = format!("{}.mirror", place.key);
        if has_proxy {
            let text = "cannot stand beside proxy.remoteurl: names without a prefix belong to that";
            findings.problem(&place.origin, &key, text);
        } else if earlier.iter().any(|(_, other)| other.is_mirror) {
            let text = "stands twice: names without a prefix would mean two registries";
            findings.problem(&place.origin, &key, text);
        }
    }
    (findings.problems.len() == before).then_some(())
}

/// Docker's daemon asks its mirrors for the Hub's repositories and nothing else.
fn choose_mirror(upstreams: &mut [Said]) {
    let is_taken = |(_, upstream): &Said| upstream.is_mirror || upstream.prefix.is_none();
    if upstreams.iter().any(is_taken) {
        return;
    }
    for (place, upstream) in upstreams {
        let is_hub = upstream
            .prefix
            .as_ref()
            .is_some_and(|prefix| prefix.as_str() == DOCKER_HUB);
        upstream.is_mirror = is_hub && !place.says_mirror;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Config, Input, Secret, understand};
    use super::*;

    fn with(text: &str) -> Result<Config, String> {
        let text = format!("version: 0.1\nstorage: filesystem\n{text}");
        let file = Some(("c.yml", text.as_str()));
        let understood = understand(Input {
            file,
            ..Input::default()
        });
        understood
            .map(|understood| understood.config)
            .map_err(|problems| problems.to_string())
    }

    fn cache(text: &str) -> Cache {
        with(text)
            .unwrap_or_else(|problems| panic!("{problems}"))
            .cache
    }

    #[test]
    fn the_stock_section_stands_behind_every_name() {
        let cache = cache(
            "proxy: {remoteurl: 'https://registry-1.docker.io/', username: u, password: p, ttl: 48h}\n",
        );
        let [proxy] = cache.upstreams.as_slice() else {
            panic!("{cache:?}");
        };
        assert_eq!(
            (proxy.prefix.as_ref(), proxy.is_tls, proxy.is_mirror),
            (None, true, false)
        );
        assert_eq!(proxy.name(), "registry-1.docker.io");
        let login = Login {
            username: "u".to_owned(),
            password: Password::Here(Secret("p".to_owned())),
        };
        assert_eq!(proxy.login, Some(login));
        assert_eq!(cache.max_age, Some(Duration::from_secs(48 * 3600)));
        assert_eq!(
            self::cache("proxy: {remoteurl: 'http://a:5000'}\n")
                .max_age
                .unwrap()
                .as_secs(),
            604_800
        );
        assert_eq!(
            self::cache("proxy: {remoteurl: 'http://a:5000', ttl: 0}\n").max_age,
            None
        );
        let ours = "proxy: {remoteurl: 'http://a:5000'}\nimgsync: {cache: {maxage: 1h}}\n";
        assert_eq!(self::cache(ours).max_age.unwrap().as_secs(), 3600);
    }

    #[test]
    fn several_upstreams() {
        let cache = cache(
            "imgsync:\n  cache:\n    freshness: 10m\n    maxbytes: 50GiB\n    upstreams:\n\
             \x20   - {prefix: docker.io, remoteurl: 'https://registry-1.docker.io'}\n\
             \x20   - {prefix: ghcr.io/team, remoteurl: 'http://localhost:5001', freshness: 0, username: u,\n\
             \x20      passwordfile: /p, repositories: ['app/*'], namespaces: [ghcr.io], cafile: /c}\n",
        );
        let [hub, team] = cache.upstreams.as_slice() else {
            panic!("{cache:?}");
        };
        assert!(hub.is_mirror && !team.is_mirror && hub.login.is_none());
        assert_eq!(
            (hub.freshness.as_secs(), team.freshness.as_secs()),
            (600, 0)
        );
        assert!(!team.is_tls && team.repositories[0].matches(&"app/x".parse().unwrap()));
        let files: Vec<_> = team
            .files()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(files, ["/p", "/c"]);
        assert_eq!(
            (cache.max_bytes, cache.max_age.unwrap().as_secs()),
            (Some(50 << 30), 720 * 3600)
        );
        let no_mirror = "imgsync: {cache: {upstreams: [{prefix: docker.io, remoteurl: 'https://a', mirror: false}]}}\n";
        assert!(!self::cache(no_mirror).upstreams[0].is_mirror);
        assert_eq!(
            self::cache("imgsync: {cache: {maxage: 1h}}\n"),
            Cache::default()
        );
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_its_place() {
        let listed =
            |entries: &str| with(&format!("imgsync:\n  cache:\n    upstreams:\n{entries}"));
        let one = "    - {prefix: a, remoteurl: 'http://a:1'";
        for (text, said) in [
            (
                format!("{one}, passwrod: x}}\n"),
                "c.yml:6: imgsync.cache.upstreams.0.passwrod: unknown key",
            ),
            (
                format!("{one}, username: x}}\n"),
                "upstreams.0.password: must be set",
            ),
            (
                format!("{one}, password: x}}\n"),
                "upstreams.0.username: must be set",
            ),
            (
                format!("{one}, username: u, password: x, passwordfile: /x}}\n"),
                "0.passwordfile: stands beside",
            ),
            (
                format!("{one}}}\n    - {{prefix: a, remoteurl: 'http://b:1'}}\n"),
                "c.yml:7: imgsync.cache.upstreams.1.prefix: stands twice",
            ),
            (
                format!(
                    "{one}, mirror: true}}\n    - {{prefix: b, remoteurl: 'http://b:1', mirror: true}}\n"
                ),
                "1.mirror: stands twice",
            ),
            ("    - {prefix: a}\n".to_owned(), "0.remoteurl: must be set"),
            (
                "    - {remoteurl: 'http://a:1'}\n".to_owned(),
                "0.prefix: must be set",
            ),
            (
                "    - {prefix: A/, remoteurl: 'http://a:1'}\n".to_owned(),
                "0.prefix: must be what names begin with",
            ),
            (
                "    - {prefix: a, remoteurl: 'a:1'}\n".to_owned(),
                "0.remoteurl: must be a registry's URL",
            ),
            (
                "    - {prefix: a, remoteurl: 'http://a:1/x'}\n".to_owned(),
                "without a path",
            ),
            (
                "    - {prefix: a, remoteurl: 'http://u:p@a:1'}\n".to_owned(),
                "must not hold a login",
            ),
            (
                "    - {prefix: a, remoteurl: 'http://a:1', freshness: 5}\n".to_owned(),
                "0.freshness: must be a duration",
            ),
            (
                "    - {prefix: a, remoteurl: 'http://a:1', repositories: [A]}\n".to_owned(),
                "0.repositories: ",
            ),
        ] {
            let problems = listed(&text).unwrap_err();
            assert!(problems.contains(said), "{said}\n{problems}");
            assert!(!problems.contains("u:p@"), "{problems}");
        }
        let both = "proxy: {remoteurl: 'http://a:1'}\nimgsync: {cache: {upstreams: [{prefix: b, remoteurl: 'http://b:1', mirror: true}]}}\n";
        assert!(
            with(both)
                .unwrap_err()
                .contains("cannot stand beside proxy.remoteurl")
        );
        let many = "imgsync: {cache: {maxbytes: many, upstreams: [{prefix: b, remoteurl: 'http://b:1'}]}}\n";
        assert!(
            with(many)
                .unwrap_err()
                .contains("imgsync.cache.maxbytes: must be a number of bytes")
        );
        let exec = "proxy: {remoteurl: 'http://a:1', exec: {command: /x}}\n";
        assert!(
            with(exec)
                .unwrap_err()
                .contains("c.yml:3: proxy.exec: not supported")
        );
    }

    #[test]
    fn variables_and_what_is_printed_say_the_same() {
        let variables: Vec<_> = [
            ("REGISTRY_PROXY_REMOTEURL", "https://registry-1.docker.io"),
            ("REGISTRY_PROXY_USERNAME", "u"),
            ("REGISTRY_PROXY_PASSWORD", "swordfish"),
            ("REGISTRY_IMGSYNC_CACHE_UPSTREAMS_0_PREFIX", "ghcr.io"),
            (
                "REGISTRY_IMGSYNC_CACHE_UPSTREAMS_0_REMOTEURL",
                "https://ghcr.io",
            ),
            (
                "REGISTRY_IMGSYNC_CACHE_UPSTREAMS_0_REPOSITORIES_0",
                "team/**",
            ),
            ("REGISTRY_IMGSYNC_CACHE_UPSTREAMS_1_PREFIX", "quay.io"),
            (
                "REGISTRY_IMGSYNC_CACHE_UPSTREAMS_1_REMOTEURL",
                "https://quay.io",
            ),
            ("REGISTRY_IMGSYNC_CACHE_MAXBYTES", "1GB"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let understood = understand(Input {
            variables: &variables,
            ..Input::default()
        })
        .unwrap();
        let printed = understood.print();
        assert!(!printed.contains("swordfish"), "{printed}");
        assert!(
            printed.contains("    upstreams:\n      -\n        prefix: ghcr.io"),
            "{printed}"
        );
        let mut first = understood.config.cache;
        let again = understand(Input {
            file: Some(("again.yml", &printed)),
            ..Input::default()
        });
        let again = again.unwrap_or_else(|problems| panic!("{problems}\n{printed}"));
        if let Some(login) = &mut first.upstreams[0].login {
            login.password = Password::Here(Secret("******".to_owned()));
        }
        assert_eq!(first, again.config.cache);
    }
}
