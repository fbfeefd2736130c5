//! Every key that a configuration may have: the stock registry's, of 2.x and 3.x, and our own.

/// What a key does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeySupport {
    /// What it says.
    Supported,
    /// Nothing, and nothing is lost.
    NoEffect(&'static str),
    /// Nothing, and who set it should know.
    Unsupported(&'static str),
    /// Nothing, and the server would not be what was asked for: it does not start.
    Rejected(&'static str),
}

/// A key's place, with dots between: `#` stands for an item of a list, `*` for a key that is free,
/// `**` for anything at all.
#[derive(Debug)]
pub(super) struct ConfigKey {
    pub(super) path: &'static str,
    pub(super) support: KeySupport,
}

/// What may stand at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyShape {
    /// One value.
    Scalar,
    /// Items.
    List,
    /// Keys, all of which are known.
    Section,
    /// Keys that are free.
    Map,
    /// Whatever the program that this was written for made of it.
    Any,
}

/// What may stand at a place of the table, or nothing where it is not known.
pub(super) fn shape(path: &str) -> Option<KeyShape> {
    let below = CONFIG_KEYS.iter().filter_map(|key| {
        let rest = key.path.strip_prefix(path)?;
        (rest.is_empty() || rest.starts_with('.')).then_some(rest)
    });
    below
        .map(|rest| match rest.get(1..) {
            None => KeyShape::Scalar,
            Some("**") => KeyShape::Any,
            Some(rest) if rest.starts_with('#') => KeyShape::List,
            Some(rest) if rest.starts_with('*') => KeyShape::Map,
            Some(_) => KeyShape::Section,
        })
        .max_by_key(|shape| match shape {
            KeyShape::Scalar => 0,
            KeyShape::List | KeyShape::Section | KeyShape::Map | KeyShape::Any => 1,
        })
}

/// What the key at a place does. A section that has no line of its own works.
pub(super) fn support(path: &str) -> KeySupport {
    let key = CONFIG_KEYS.iter().find(|key| key.path == path);
    key.map_or(KeySupport::Supported, |key| key.support)
}

/// The keys below a place; "" is the top.
pub(super) fn child_names(path: &str) -> impl Iterator<Item = &'static str> {
    let prefix = if path.is_empty() {
        String::new()
    } else {
        format!("{path}.")
    };
    CONFIG_KEYS
        .iter()
        .filter_map(move |key| key.path.strip_prefix(prefix.as_str()))
        .filter_map(|rest| rest.split('.').next())
        .filter(|name| !name.starts_with(['#', '*']))
}

/// The other name of a key in variables, which the stock registry takes from its own source.
pub(super) fn variable_alias(path: &str) -> Option<&'static str> {
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
pub(super) fn join_path(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

const fn supported(path: &'static str) -> ConfigKey {
    let support = KeySupport::Supported;
    ConfigKey { path, support }
}

const fn no_effect(path: &'static str, why: &'static str) -> ConfigKey {
    let support = KeySupport::NoEffect(why);
    ConfigKey { path, support }
}

const fn unsupported(path: &'static str, why: &'static str) -> ConfigKey {
    let support = KeySupport::Unsupported(why);
    ConfigKey { path, support }
}

const fn rejected(path: &'static str, why: &'static str) -> ConfigKey {
    let support = KeySupport::Rejected(why);
    ConfigKey { path, support }
}

const DRIVER_UNSUPPORTED: &str =
    "this storage driver is not there; the one that is there is filesystem";
const EVENTS_UNSUPPORTED: &str = "events are not sent";
const REDIS_UNSUPPORTED: &str = "redis is not used";
const HEALTH_CHECKS_UNSUPPORTED: &str = "only the store's own health is looked at";

#[rustfmt::skip]
const CONFIG_KEYS: &[ConfigKey] = &[
    supported("version"),
    supported("log.level"),
    supported("log.formatter"),
    supported("log.fields.*"),
    supported("log.accesslog.disabled"),
    no_effect("log.reportcaller", "lines of the log do not name places in the source"),
    unsupported("log.hooks", "the log is not mailed"),
    supported("log.hooks.**"),
    supported("loglevel"),

    supported("storage.filesystem.rootdirectory"),
    no_effect("storage.filesystem.maxthreads", "the number of threads that use the disk is bounded anyway"),
    supported("storage.delete.enabled"),
    no_effect("storage.redirect", "blobs in a folder are never redirected"),
    supported("storage.redirect.disable"),
    no_effect("storage.cache", "nothing needs to be cached in front of a folder"),
    supported("storage.cache.**"),
    no_effect("storage.tag", "no request looks at many tags"),
    supported("storage.tag.concurrencylimit"),
    supported("storage.maintenance.uploadpurging.enabled"),
    supported("storage.maintenance.uploadpurging.age"),
    supported("storage.maintenance.uploadpurging.interval"),
    supported("storage.maintenance.uploadpurging.dryrun"),
    supported("storage.maintenance.readonly.enabled"),
    rejected("storage.inmemory", DRIVER_UNSUPPORTED), supported("storage.inmemory.**"),
    rejected("storage.s3", DRIVER_UNSUPPORTED), supported("storage.s3.**"),
    rejected("storage.s3aws", DRIVER_UNSUPPORTED), supported("storage.s3aws.**"),
    rejected("storage.azure", DRIVER_UNSUPPORTED), supported("storage.azure.**"),
    rejected("storage.gcs", DRIVER_UNSUPPORTED), supported("storage.gcs.**"),
    rejected("storage.swift", DRIVER_UNSUPPORTED), supported("storage.swift.**"),
    rejected("storage.oss", DRIVER_UNSUPPORTED), supported("storage.oss.**"),
    rejected("storage.cos", DRIVER_UNSUPPORTED), supported("storage.cos.**"),

    supported("auth.htpasswd.realm"),
    supported("auth.htpasswd.path"),
    supported("auth.none.**"),
    rejected("auth.token", "logins by token are not there, and without them anyone could pull and push"),
    supported("auth.token.**"),
    rejected("auth.silly", "this lets in whoever sends any password, and is not there"),
    supported("auth.silly.**"),

    unsupported("middleware", "nothing is put between the registry and its store"),
    supported("middleware.**"),
    unsupported("reporting", "errors are reported in the log only"),
    supported("reporting.**"),

    supported("http.addr"),
    supported("http.net"),
    supported("http.prefix"),
    supported("http.host"),
    supported("http.secret"),
    supported("http.relativeurls"),
    supported("http.draintimeout"),
    supported("http.tls.certificate"),
    supported("http.tls.key"),
    rejected("http.tls.clientcas", "clients' certificates would not be checked"),
    supported("http.tls.clientcas.#"),
    rejected("http.tls.clientauth", "clients' certificates would not be checked"),
    supported("http.tls.minimumtls"),
    supported("http.tls.ciphersuites.#"),
    rejected("http.tls.letsencrypt", "certificates are not fetched yet, and without one everything would be readable on the way"),
    supported("http.tls.letsencrypt.cachefile"),
    supported("http.tls.letsencrypt.email"),
    supported("http.tls.letsencrypt.hosts.#"),
    supported("http.tls.letsencrypt.directoryurl"),
    supported("http.headers.*.#"),
    supported("http.debug.addr"),
    supported("http.debug.prometheus.enabled"),
    supported("http.debug.prometheus.path"),
    supported("http.http2.disabled"),
    supported("http.h2c.enabled"),

    unsupported("notifications", EVENTS_UNSUPPORTED),
    supported("notifications.events.includereferences"),
    supported("notifications.endpoints.#.name"),
    supported("notifications.endpoints.#.disabled"),
    supported("notifications.endpoints.#.url"),
    supported("notifications.endpoints.#.headers.*.#"),
    supported("notifications.endpoints.#.timeout"),
    supported("notifications.endpoints.#.threshold"),
    supported("notifications.endpoints.#.backoff"),
    supported("notifications.endpoints.#.ignoredmediatypes.#"),
    supported("notifications.endpoints.#.ignore.mediatypes.#"),
    supported("notifications.endpoints.#.ignore.actions.#"),

    unsupported("redis", REDIS_UNSUPPORTED),
    supported("redis.**"),

    no_effect("health.storagedriver", "a failing disk is told by every request that meets it"),
    supported("health.storagedriver.enabled"),
    supported("health.storagedriver.interval"),
    supported("health.storagedriver.threshold"),
    unsupported("health.file", HEALTH_CHECKS_UNSUPPORTED),
    supported("health.file.#.file"),
    supported("health.file.#.interval"),
    supported("health.file.#.threshold"),
    unsupported("health.http", HEALTH_CHECKS_UNSUPPORTED),
    supported("health.http.#.uri"),
    supported("health.http.#.headers.*.#"),
    supported("health.http.#.timeout"),
    supported("health.http.#.interval"),
    supported("health.http.#.threshold"),
    supported("health.http.#.statuscode"),
    unsupported("health.tcp", HEALTH_CHECKS_UNSUPPORTED),
    supported("health.tcp.#.addr"),
    supported("health.tcp.#.timeout"),
    supported("health.tcp.#.interval"),
    supported("health.tcp.#.threshold"),

    supported("catalog.maxentries"),
    supported("tags.maxtags"),

    supported("proxy.remoteurl"),
    supported("proxy.username"),
    supported("proxy.password"),
    rejected("proxy.exec", "no program is run for a password; put it into proxy.password, or into the passwordfile of an entry of imgsync.cache.upstreams"),
    supported("proxy.exec.command"),
    supported("proxy.exec.lifetime"),
    supported("proxy.ttl"),
    no_effect("proxy.cachewritetimeout", "what a download waits for is bounded anyway"),

    unsupported("validation", "manifests are not held against these rules; every layer that is not marked as foreign must be there"),
    supported("validation.enabled"),
    supported("validation.disabled"),
    supported("validation.manifests.urls.allow.#"),
    supported("validation.manifests.urls.deny.#"),
    supported("validation.manifests.indexes.platforms"),
    supported("validation.manifests.indexes.platformlist.#.architecture"),
    supported("validation.manifests.indexes.platformlist.#.os"),
    unsupported("policy", "repositories are not told apart by class"),
    supported("policy.repository.classes.#"),
    unsupported("compatibility", "manifests of schema 1 are not served"),
    supported("compatibility.schema1.signingkeyfile"),
    supported("compatibility.schema1.enabled"),

    supported("imgsync.anonymous.pull.#"),
    supported("imgsync.trustedproxies.#"),
    supported("imgsync.cache.upstreams.#.prefix"),
    supported("imgsync.cache.upstreams.#.remoteurl"),
    supported("imgsync.cache.upstreams.#.username"),
    supported("imgsync.cache.upstreams.#.password"),
    supported("imgsync.cache.upstreams.#.passwordfile"),
    supported("imgsync.cache.upstreams.#.freshness"),
    supported("imgsync.cache.upstreams.#.repositories.#"),
    supported("imgsync.cache.upstreams.#.namespaces.#"),
    supported("imgsync.cache.upstreams.#.mirror"),
    supported("imgsync.cache.upstreams.#.cafile"),
    supported("imgsync.cache.upstreams.#.insecure"),
    supported("imgsync.cache.freshness"),
    supported("imgsync.cache.maxbytes"),
    supported("imgsync.cache.maxage"),
    supported("imgsync.limits.connections"),
    supported("imgsync.limits.openuploads"),
    supported("imgsync.stall"),
    supported("imgsync.writestall"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        for (path, expected) in [
            ("http", Some(KeyShape::Section)),
            ("http.addr", Some(KeyShape::Scalar)),
            ("http.headers", Some(KeyShape::Map)),
            ("http.headers.*", Some(KeyShape::List)),
            ("http.headers.*.#", Some(KeyShape::Scalar)),
            ("http.tls.clientcas", Some(KeyShape::List)),
            ("storage.s3", Some(KeyShape::Any)),
            ("storage.redirect", Some(KeyShape::Section)),
            ("log.fields.*", Some(KeyShape::Scalar)),
            ("http.adr", None),
            ("htt", None),
        ] {
            assert_eq!(shape(path), expected, "{path}");
        }
        assert!(child_names("").any(|name| name == "http"));
        assert!(child_names("http.tls").any(|name| name == "key"));
        assert_eq!(child_names("http.headers").next(), None);
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
        for key in CONFIG_KEYS.iter().filter(|key| key.path != "version") {
            let has_no_effect = CONFIG_KEYS.iter().find(|other| {
                let rest = key.path.strip_prefix(other.path);
                let is_above = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
                is_above && other.support != KeySupport::Supported
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
            let is_known = CONFIG_KEYS
                .iter()
                .any(|key| without_wildcard(key.path) == path);
            assert!(is_known, "docs/server.md has {path}");
        }
    }

    #[test]
    fn no_key_stands_twice_and_none_needs_an_underscore() {
        for (at, key) in CONFIG_KEYS.iter().enumerate() {
            assert!(!key.path.contains(['_', ' ']), "{}", key.path);
            assert!(
                CONFIG_KEYS[..at].iter().all(|other| other.path != key.path),
                "{}",
                key.path
            );
        }
    }
}
