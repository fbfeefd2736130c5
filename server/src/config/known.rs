//! Every key that a configuration may have: the stock registry's, of 2.x and 3.x, and our own.

/// What a key does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// What it says.
    Works,
    /// Nothing, and nothing is lost.
    Needless(&'static str),
    /// Nothing, and who set it should know.
    Missing(&'static str),
    /// Nothing, and the server would not be what was asked for: it does not start.
    Refused(&'static str),
}

/// A key's place, with dots between: `#` stands for an item of a list, `*` for a key that is free,
/// `**` for anything at all.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) path: &'static str,
    pub(super) support: Support,
}

/// What may stand at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One value.
    Leaf,
    /// Items.
    List,
    /// Keys, all of which are known.
    Section,
    /// Keys that are free.
    Free,
    /// Whatever the program that this was written for made of it.
    Any,
}

/// What may stand at a place of the table, or nothing where it is not known.
pub(super) fn shape(path: &str) -> Option<Shape> {
    let below = KEYS.iter().filter_map(|key| {
        let rest = key.path.strip_prefix(path)?;
        (rest.is_empty() || rest.starts_with('.')).then_some(rest)
    });
    below
        .map(|rest| match rest.get(1..) {
            None => Shape::Leaf,
            Some("**") => Shape::Any,
            Some(rest) if rest.starts_with('#') => Shape::List,
            Some(rest) if rest.starts_with('*') => Shape::Free,
            Some(_) => Shape::Section,
        })
        .max_by_key(|shape| match shape {
            Shape::Leaf => 0,
            Shape::List | Shape::Section | Shape::Free | Shape::Any => 1,
        })
}

/// What the key at a place does. A section that has no line of its own works.
pub(super) fn support(path: &str) -> Support {
    let key = KEYS.iter().find(|key| key.path == path);
    key.map_or(Support::Works, |key| key.support)
}

/// The keys below a place; "" is the top.
pub(super) fn names(path: &str) -> impl Iterator<Item = &'static str> {
    let prefix = if path.is_empty() {
        String::new()
    } else {
        format!("{path}.")
    };
    KEYS.iter()
        .filter_map(move |key| key.path.strip_prefix(prefix.as_str()))
        .filter_map(|rest| rest.split('.').next())
        .filter(|name| !name.starts_with(['#', '*']))
}

/// The other name of a key in variables, which the stock registry takes from its own source.
pub(super) fn other_name(path: &str) -> Option<&'static str> {
    match path {
        "notifications.events" => Some("EVENTCONFIG"),
        "health.file" => Some("FILECHECKERS"),
        "health.http" => Some("HTTPCHECKERS"),
        "health.tcp" => Some("TCPCHECKERS"),
        "compatibility.schema1.signingkeyfile" => Some("TRUSTKEY"),
        _ => None,
    }
}

/// The place of a key below another one.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

const fn works(path: &'static str) -> Key {
    let support = Support::Works;
    Key { path, support }
}

const fn needless(path: &'static str, why: &'static str) -> Key {
    let support = Support::Needless(why);
    Key { path, support }
}

const fn missing(path: &'static str, why: &'static str) -> Key {
    let support = Support::Missing(why);
    Key { path, support }
}

const fn refused(path: &'static str, why: &'static str) -> Key {
    let support = Support::Refused(why);
    Key { path, support }
}

const DRIVER: &str = "this storage driver is not there; the one that is there is filesystem";
const EVENTS: &str = "events are not sent";
const NO_REDIS: &str = "redis is not used";
const NO_CHECKS: &str = "only the store's own health is looked at";

#[rustfmt::skip]
const KEYS: &[Key] = &[
    works("version"),
    works("log.level"),
    works("log.formatter"),
    works("log.fields.*"),
    works("log.accesslog.disabled"),
    needless("log.reportcaller", "lines of the log do not name places in the source"),
    missing("log.hooks", "the log is not mailed"),
    works("log.hooks.**"),
    works("loglevel"),

    works("storage.filesystem.rootdirectory"),
    needless("storage.filesystem.maxthreads", "the number of threads that use the disk is bounded anyway"),
    works("storage.delete.enabled"),
    needless("storage.redirect", "blobs in a folder are never redirected"),
    works("storage.redirect.disable"),
    needless("storage.cache", "nothing needs to be cached in front of a folder"),
    works("storage.cache.**"),
    needless("storage.tag", "no request looks at many tags"),
    works("storage.tag.concurrencylimit"),
    works("storage.maintenance.uploadpurging.enabled"),
    works("storage.maintenance.uploadpurging.age"),
    works("storage.maintenance.uploadpurging.interval"),
    works("storage.maintenance.uploadpurging.dryrun"),
    works("storage.maintenance.readonly.enabled"),
    refused("storage.inmemory", DRIVER), works("storage.inmemory.**"),
    refused("storage.s3", DRIVER), works("storage.s3.**"),
    refused("storage.s3aws", DRIVER), works("storage.s3aws.**"),
    refused("storage.azure", DRIVER), works("storage.azure.**"),
    refused("storage.gcs", DRIVER), works("storage.gcs.**"),
    refused("storage.swift", DRIVER), works("storage.swift.**"),
    refused("storage.oss", DRIVER), works("storage.oss.**"),
    refused("storage.cos", DRIVER), works("storage.cos.**"),

    works("auth.htpasswd.realm"),
    works("auth.htpasswd.path"),
    works("auth.none.**"),
    refused("auth.token", "logins by token are not there, and without them anyone could pull and push"),
    works("auth.token.**"),
    refused("auth.silly", "this lets in whoever sends any password, and is not there"),
    works("auth.silly.**"),

    missing("middleware", "nothing is put between the registry and its store"),
    works("middleware.**"),
    missing("reporting", "errors are reported in the log only"),
    works("reporting.**"),

    works("http.addr"),
    works("http.net"),
    works("http.prefix"),
    works("http.host"),
    works("http.secret"),
    works("http.relativeurls"),
    works("http.draintimeout"),
    works("http.tls.certificate"),
    works("http.tls.key"),
    refused("http.tls.clientcas", "clients' certificates would not be checked"),
    works("http.tls.clientcas.#"),
    refused("http.tls.clientauth", "clients' certificates would not be checked"),
    works("http.tls.minimumtls"),
    works("http.tls.ciphersuites.#"),
    refused("http.tls.letsencrypt", "certificates are not fetched yet, and without one everything would be readable on the way"),
    works("http.tls.letsencrypt.cachefile"),
    works("http.tls.letsencrypt.email"),
    works("http.tls.letsencrypt.hosts.#"),
    works("http.tls.letsencrypt.directoryurl"),
    works("http.headers.*.#"),
    works("http.debug.addr"),
    works("http.debug.prometheus.enabled"),
    works("http.debug.prometheus.path"),
    works("http.http2.disabled"),
    works("http.h2c.enabled"),

    missing("notifications", EVENTS),
    works("notifications.events.includereferences"),
    works("notifications.endpoints.#.name"),
    works("notifications.endpoints.#.disabled"),
    works("notifications.endpoints.#.url"),
    works("notifications.endpoints.#.headers.*.#"),
    works("notifications.endpoints.#.timeout"),
    works("notifications.endpoints.#.threshold"),
    works("notifications.endpoints.#.backoff"),
    works("notifications.endpoints.#.ignoredmediatypes.#"),
    works("notifications.endpoints.#.ignore.mediatypes.#"),
    works("notifications.endpoints.#.ignore.actions.#"),

    missing("redis", NO_REDIS),
    works("redis.**"),

    needless("health.storagedriver", "a failing disk is told by every request that meets it"),
    works("health.storagedriver.enabled"),
    works("health.storagedriver.interval"),
    works("health.storagedriver.threshold"),
    missing("health.file", NO_CHECKS),
    works("health.file.#.file"),
    works("health.file.#.interval"),
    works("health.file.#.threshold"),
    missing("health.http", NO_CHECKS),
    works("health.http.#.uri"),
    works("health.http.#.headers.*.#"),
    works("health.http.#.timeout"),
    works("health.http.#.interval"),
    works("health.http.#.threshold"),
    works("health.http.#.statuscode"),
    missing("health.tcp", NO_CHECKS),
    works("health.tcp.#.addr"),
    works("health.tcp.#.timeout"),
    works("health.tcp.#.interval"),
    works("health.tcp.#.threshold"),

    works("catalog.maxentries"),
    works("tags.maxtags"),

    works("proxy.remoteurl"),
    works("proxy.username"),
    works("proxy.password"),
    refused("proxy.exec", "no program is run for a password; put it into proxy.password, or into the passwordfile of an entry of imgsync.cache.upstreams"),
    works("proxy.exec.command"),
    works("proxy.exec.lifetime"),
    works("proxy.ttl"),
    needless("proxy.cachewritetimeout", "what a download waits for is bounded anyway"),

    missing("validation", "manifests are not held against these rules; every layer that is not marked as foreign must be there"),
    works("validation.enabled"),
    works("validation.disabled"),
    works("validation.manifests.urls.allow.#"),
    works("validation.manifests.urls.deny.#"),
    works("validation.manifests.indexes.platforms"),
    works("validation.manifests.indexes.platformlist.#.architecture"),
    works("validation.manifests.indexes.platformlist.#.os"),
    missing("policy", "repositories are not told apart by class"),
    works("policy.repository.classes.#"),
    missing("compatibility", "manifests of schema 1 are not served"),
    works("compatibility.schema1.signingkeyfile"),
    works("compatibility.schema1.enabled"),

    works("imgsync.anonymous.pull.#"),
    works("imgsync.trustedproxies.#"),
    works("imgsync.cache.upstreams.#.prefix"),
    works("imgsync.cache.upstreams.#.remoteurl"),
    works("imgsync.cache.upstreams.#.username"),
    works("imgsync.cache.upstreams.#.password"),
    works("imgsync.cache.upstreams.#.passwordfile"),
    works("imgsync.cache.upstreams.#.freshness"),
    works("imgsync.cache.upstreams.#.repositories.#"),
    works("imgsync.cache.upstreams.#.namespaces.#"),
    works("imgsync.cache.upstreams.#.mirror"),
    works("imgsync.cache.upstreams.#.cafile"),
    works("imgsync.cache.upstreams.#.insecure"),
    works("imgsync.cache.freshness"),
    works("imgsync.cache.maxbytes"),
    works("imgsync.cache.maxage"),
    works("imgsync.limits.connections"),
    works("imgsync.limits.openuploads"),
    works("imgsync.stall"),
    works("imgsync.writestall"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        for (path, expected) in [
            ("http", Some(Shape::Section)),
            ("http.addr", Some(Shape::Leaf)),
            ("http.headers", Some(Shape::Free)),
            ("http.headers.*", Some(Shape::List)),
            ("http.headers.*.#", Some(Shape::Leaf)),
            ("http.tls.clientcas", Some(Shape::List)),
            ("storage.s3", Some(Shape::Any)),
            ("storage.redirect", Some(Shape::Section)),
            ("log.fields.*", Some(Shape::Leaf)),
            ("http.adr", None),
            ("htt", None),
        ] {
            assert_eq!(shape(path), expected, "{path}");
        }
        assert!(names("").any(|name| name == "http"));
        assert!(names("http.tls").any(|name| name == "key"));
        assert_eq!(names("http.headers").next(), None);
    }

    /// The first cells of the tables in `docs/server.md`.
    fn documented() -> Vec<&'static str> {
        let text = include_str!("../../../docs/server.md");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.filter_map(|row| row.split(" |").next()).collect()
    }

    /// A key without what stands for all items of a list, or for anything.
    fn without_wildcard(path: &str) -> &str {
        path.trim_end_matches(".**").trim_end_matches(".#")
    }

    fn variable(path: &str) -> String {
        let name = path.to_uppercase().replace('.', "_");
        format!("REGISTRY_{}", name.replace('#', "0").replace('*', "NAME"))
    }

    #[test]
    fn every_key_is_documented_with_its_variable() {
        let cells = documented();
        for key in KEYS.iter().filter(|key| key.path != "version") {
            let has_no_effect = KEYS.iter().find(|other| {
                let rest = key.path.strip_prefix(other.path);
                let is_above = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
                is_above && other.support != Support::Works
            });
            let is_documented = match has_no_effect {
                Some(key) => {
                    let names = |cell: &&str| cell.split(['`', ',', ' ']).any(|it| it == key.path);
                    cells.iter().any(names)
                }
                None => {
                    let path = without_wildcard(key.path);
                    cells.contains(&format!("{path}`<br>`{}`", variable(path)).as_str())
                }
            };
            assert!(is_documented, "docs/server.md lacks {}", key.path);
        }
    }

    #[test]
    fn every_documented_key_exists() {
        let with_variable = documented()
            .into_iter()
            .filter_map(|it| it.split_once("`<br>"));
        for (path, _) in with_variable {
            let is_known = KEYS.iter().any(|key| without_wildcard(key.path) == path);
            assert!(is_known, "docs/server.md has {path}");
        }
    }

    #[test]
    fn no_key_stands_twice_and_none_needs_an_underscore() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(!key.path.contains(['_', ' ']), "{}", key.path);
            assert!(
                KEYS[..at].iter().all(|other| other.path != key.path),
                "{}",
                key.path
            );
        }
    }
}
