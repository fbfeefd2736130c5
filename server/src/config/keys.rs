//! The table of all configuration keys: those of the stock registry (2.x and 3.x) and our own.
//!
//! The table says which keys exist and whether they are supported; `build` reads the values. Start
//! reading at [`ConfigKey`].

/// Whether and how a key is supported. The text is the reason, shown after `not supported:` or `has no
/// effect:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeySupport {
    /// The key works as in the stock registry.
    Supported,
    /// The key has no effect, and none is needed: a note.
    NoEffect(&'static str),
    /// The key is ignored: a warning.
    Unsupported(&'static str),
    /// Ignoring the key would weaken security or change what the server does: an error.
    Rejected(&'static str),
}

/// A key of the table. Its path has dots between the names; `#` stands for a list item, `*` for any
/// name, and `**` for anything below.
#[derive(Debug)]
pub(super) struct ConfigKey {
    pub(super) path: &'static str,
    pub(super) support: KeySupport,
}

/// The kind of value that a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyShape {
    /// A single value.
    Scalar,
    /// A list.
    List,
    /// A section with known keys.
    Section,
    /// A section with any keys.
    Map,
    /// Anything; the value is not checked.
    Any,
}

/// Returns the kind of value at a path of the table; `None` when the path is unknown.
pub(super) fn shape(path: &str) -> Option<KeyShape> {
    let subpaths = CONFIG_KEYS.iter().filter_map(|key| {
        let rest = key.path.strip_prefix(path)?;
        (rest.is_empty() || rest.starts_with('.')).then_some(rest)
    });
    subpaths
        .map(|rest| match rest.get(1..) {
            None => KeyShape::Scalar,
            Some("**") => KeyShape::Any,
            Some(rest) if rest.starts_with('#') => KeyShape::List,
            Some(rest) if rest.starts_with('*') => KeyShape::Map,
            Some(_) => KeyShape::Section,
        })
        .max_by_key(|shape| *shape != KeyShape::Scalar)
}

/// Returns how a key is supported. A section without its own entry is supported.
pub(super) fn support(path: &str) -> KeySupport {
    let key = CONFIG_KEYS.iter().find(|key| key.path == path);
    key.map_or(KeySupport::Supported, |key| key.support)
}

/// Returns the names of the keys directly below a path; the empty path is the top.
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

/// Returns the second name of a key in environment variables: the stock registry derives names from
/// its Go fields, and some differ from the YAML keys.
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

/// Returns the path in the table of a setting: list indices become `#`, and free names `*`.
pub(super) fn table_path(path: &[String]) -> String {
    path.iter()
        .fold(String::new(), |parent, name| match shape(&parent) {
            Some(KeyShape::List) => join_path(&parent, "#"),
            Some(KeyShape::Map) => join_path(&parent, "*"),
            _ => join_path(&parent, name),
        })
}

/// Joins a path and the name of a key below it.
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

const DRIVER_UNSUPPORTED: &str = "the only storage driver is filesystem";
const REDIS_UNSUPPORTED: &str = "redis is not used";
const HEALTH_CHECKS_UNSUPPORTED: &str = "health checks of files and other services are not run";

#[rustfmt::skip]
const CONFIG_KEYS: &[ConfigKey] = &[
    supported("version"),
    supported("log.level"),
    supported("log.formatter"),
    supported("log.fields.*"),
    supported("log.accesslog.disabled"),
    no_effect("log.reportcaller", "log lines do not name source locations"),
    unsupported("log.hooks", "the log is not sent by mail"),
    supported("log.hooks.**"),
    supported("loglevel"),

    supported("storage.filesystem.rootdirectory"),
    no_effect("storage.filesystem.maxthreads", "the number of disk threads is always bounded"),
    supported("storage.delete.enabled"),
    no_effect("storage.redirect", "blobs are always served by this server, never redirected"),
    supported("storage.redirect.disable"),
    no_effect("storage.cache", "a folder needs no cache of blob descriptors"),
    supported("storage.cache.**"),
    no_effect("storage.tag", "no request reads many tags at once"),
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
    rejected("auth.token", "token authentication is not implemented, and without it anyone could pull and push"),
    supported("auth.token.**"),
    rejected("auth.silly", "this method accepts any password"),
    supported("auth.silly.**"),

    unsupported("middleware", "middleware is not run"),
    supported("middleware.**"),
    unsupported("reporting", "errors are written to the log only"),
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
    rejected("http.tls.clientcas", "client certificates would not be verified"),
    supported("http.tls.clientcas.#"),
    rejected("http.tls.clientauth", "client certificates would not be verified"),
    supported("http.tls.minimumtls"),
    supported("http.tls.ciphersuites.#"),
    rejected("http.tls.letsencrypt", "certificates are not requested from Let's Encrypt, and without one connections are not encrypted"),
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

    no_effect("health.storagedriver", "disk errors are reported by the requests that meet them"),
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
    rejected("proxy.exec", "credential helpers are not run; set proxy.password, or passwordfile of an entry in imgsync.cache.upstreams"),
    supported("proxy.exec.command"),
    supported("proxy.exec.lifetime"),
    supported("proxy.ttl"),
    no_effect("proxy.cachewritetimeout", "downloads have their own timeouts"),

    supported("validation.enabled"),
    supported("validation.disabled"),
    unsupported("validation.manifests.urls", "layers may have any URLs; every layer must exist, except foreign layers"),
    supported("validation.manifests.urls.allow.#"),
    supported("validation.manifests.urls.deny.#"),
    supported("validation.manifests.indexes.platforms"),
    supported("validation.manifests.indexes.platformlist.#.architecture"),
    supported("validation.manifests.indexes.platformlist.#.os"),
    unsupported("policy", "repository classes are not used"),
    supported("policy.repository.classes.#"),
    unsupported("compatibility", "schema 1 manifests are not served"),
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
    supported("imgsync.cache.allowednetworks.#"),
    supported("imgsync.cache.freshness"),
    supported("imgsync.cache.maxbytes"),
    supported("imgsync.cache.maxage"),
    supported("imgsync.gc.enabled"),
    supported("imgsync.gc.interval"),
    supported("imgsync.gc.grace"),
    supported("imgsync.gc.undo"),
    supported("imgsync.delta.enabled"),
    supported("imgsync.delta.maxsize"),
    supported("imgsync.page"),
    supported("imgsync.space.reserve"),
    supported("imgsync.space.quotas.#.repositories.#"),
    supported("imgsync.space.quotas.#.maxbytes"),
    supported("imgsync.retention.#.repositories.#"),
    supported("imgsync.retention.#.keepnewest"),
    supported("imgsync.retention.#.keeptags.#"),
    supported("imgsync.retention.#.keeppushed"),
    supported("imgsync.retention.#.keeppulled"),
    supported("imgsync.retention.#.untagged"),
    supported("imgsync.webhooks.#.url"),
    supported("imgsync.webhooks.#.secret"),
    supported("imgsync.webhooks.#.secretfile"),
    supported("imgsync.webhooks.#.repositories.#"),
    supported("imgsync.webhooks.#.tags.#"),
    supported("imgsync.webhooks.#.timeout"),
    supported("imgsync.limits.bodymemory"),
    supported("imgsync.limits.connections"),
    supported("imgsync.limits.connectionsperclient"),
    supported("imgsync.limits.openuploads"),
    supported("imgsync.bodytimeout"),
    supported("imgsync.headertimeout"),
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

    /// Returns the first cells of the tables in `docs/server.md`.
    fn documented() -> Vec<&'static str> {
        let text = include_str!("../../../docs/server.md");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.filter_map(|row| row.split(" |").next()).collect()
    }

    /// Returns a key without the wildcard at its end.
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
            let unsupported_section = CONFIG_KEYS.iter().find(|other| {
                let rest = key.path.strip_prefix(other.path);
                let is_above = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
                is_above && other.support != KeySupport::Supported
            });
            let is_documented = match unsupported_section {
                Some(key) => {
                    let names =
                        |cell: &&str| cell.split(['`', ',', ' ']).any(|name| name == key.path);
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
            .filter_map(|cell| cell.split_once("`<br>"));
        for (path, _) in with_variable {
            let is_known = CONFIG_KEYS
                .iter()
                .any(|key| without_wildcard(key.path) == path);
            assert!(is_known, "docs/server.md has {path}");
        }
    }

    #[test]
    fn keys_are_unique_and_have_no_underscores() {
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
