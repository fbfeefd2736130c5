//! A tree into a configuration.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::cache;
use super::read::{Reader, Shown};
use super::tree::Origin;
use super::types::{
    Bind, Config, Formatter, Htpasswd, Http, Imgsync, Level, Log, Purging, Storage, Tls, TlsVersion,
};
use super::words::{boolean, duration, number};

/// What stands beside the driver under `storage`.
const STORAGE_SETTINGS: &[&str] = &["delete", "redirect", "cache", "tag", "maintenance"];

/// The whole configuration, or nothing where the reader has told of problems. Sections are read in
/// the order in which they are shown.
pub(super) fn config(r: &mut Reader<'_>) -> Option<Config> {
    let log = log(r);
    let storage = storage(r);
    let auth = auth(r);
    let http = http(r);
    let catalog_max_entries = r.value("catalog.maxentries", "1000", page);
    let tags_max = r.value("tags.maxtags", "1000", page);
    let cache = cache::cache(r);
    let imgsync = imgsync(r);
    Some(Config {
        log: log?,
        storage: storage?,
        auth: auth?,
        http: http?,
        catalog_max_entries: catalog_max_entries?,
        tags_max: tags_max?,
        cache: cache?,
        imgsync: imgsync?,
    })
}

fn log(r: &mut Reader<'_>) -> Option<Log> {
    // The old name counts where the new one says nothing.
    let is_old = r.tree.at("loglevel").is_some_and(|node| !node.is_silent())
        && r.tree.at("log.level").is_none_or(|node| node.is_silent());
    let level = r.value(if is_old { "loglevel" } else { "log.level" }, "info", level);
    let formatter = r.value("log.formatter", "text", formatter);
    if let (Some(origin), Some((_, true))) = (r.origin("log.formatter"), formatter) {
        let text = "not supported: lines are written as json";
        r.findings.warning(&origin, "log.formatter", text);
    }
    let fields = r.words("log.fields");
    let quiet = r.value("log.accesslog.disabled", "false", boolean);
    Some(Log {
        level: level?,
        formatter: formatter?.0,
        fields: fields?,
        access: !quiet?,
    })
}

fn storage(r: &mut Reader<'_>) -> Option<Storage> {
    let drivers: Vec<_> = r.free("storage");
    let drivers: Vec<_> = drivers
        .iter()
        .filter(|(name, _)| !STORAGE_SETTINGS.contains(&name.as_str()))
        .collect();
    match drivers.as_slice() {
        [_] => {}
        [] => {
            let origin = r.origin("storage").unwrap_or(Origin::Default);
            let text = "no storage configuration provided: it takes a driver, as filesystem";
            r.findings.problem(&origin, "storage", text);
        }
        [(_, node), ..] => {
            let named = drivers
                .iter()
                .map(|(name, node)| format!("{name} ({})", node.origin));
            let named: Vec<_> = named.collect();
            let text = format!("takes one driver, and has {}", named.join(" and "));
            let origin = node.origin.clone();
            r.findings.problem(&origin, "storage", text);
        }
    }
    let root = r.value(
        "storage.filesystem.rootdirectory",
        "/var/lib/registry",
        path,
    );
    let is_delete_enabled = r.value("storage.delete.enabled", "false", boolean);
    let within = "storage.maintenance.uploadpurging";
    let is_enabled = r.value(&format!("{within}.enabled"), "true", boolean);
    let age = r.value(&format!("{within}.age"), "168h", duration);
    let interval = r.value(
        &format!("{within}.interval"),
        "24h",
        |text| match duration(text)? {
            time if time.is_zero() => Err("must be longer than 0".to_owned()),
            time => Ok(time),
        },
    );
    let is_dry_run = r.value(&format!("{within}.dryrun"), "false", boolean);
    let is_read_only = r.value("storage.maintenance.readonly.enabled", "false", boolean);
    Some(Storage {
        root: root?,
        is_delete_enabled: is_delete_enabled?,
        is_read_only: is_read_only?,
        purging: Purging {
            is_enabled: is_enabled?,
            age: age?,
            interval: interval?,
            is_dry_run: is_dry_run?,
        },
    })
}

fn auth(r: &mut Reader<'_>) -> Option<Option<Htpasswd>> {
    let ways = r.free("auth");
    if let [(_, first), .., (_, _)] = ways.as_slice() {
        let named: Vec<_> = ways.iter().map(|(name, _)| name.as_str()).collect();
        let text = format!(
            "takes one way of logging in, and has {}",
            named.join(" and ")
        );
        r.findings.problem(&first.origin, "auth", text);
        return None;
    }
    let Some(origin) = r.origin("auth.htpasswd") else {
        return Some(None);
    };
    let realm = r.value("auth.htpasswd.realm", "Registry", header_value);
    let file = r.optional("auth.htpasswd.path", path)?;
    if file.is_none() {
        let text = "must be set: the file with the logins";
        r.findings.problem(&origin, "auth.htpasswd.path", text);
    }
    Some(Some(Htpasswd {
        realm: realm?,
        path: file?,
    }))
}

fn http(r: &mut Reader<'_>) -> Option<Http> {
    let bind = bind(r);
    let prefix = r.value("http.prefix", "/", prefix);
    let host = r.optional("http.host", host);
    let relative_urls = r.optional("http.relativeurls", boolean);
    let secret = r.secret("http.secret");
    let drain_time = r.value("http.draintimeout", "60s", duration);
    let tls = tls(r);
    let headers = headers(r);
    let debug = r.optional("http.debug.addr", parsed);
    let metrics = metrics(r);
    let is_http2_disabled = r.value("http.http2.disabled", "false", boolean);
    let is_h2c_enabled = r.value("http.h2c.enabled", "false", boolean);
    Some(Http {
        bind: bind?,
        prefix: prefix?,
        host: host?,
        relative_urls: relative_urls?,
        headers: headers?,
        secret: secret?,
        drain_time: drain_time?,
        tls: tls?,
        debug: debug?,
        metrics: metrics?,
        is_http2_enabled: !is_http2_disabled?,
        is_h2c_enabled: is_h2c_enabled?,
    })
}

fn bind(r: &mut Reader<'_>) -> Option<Bind> {
    let is_unix = r.value("http.net", "tcp", |text| match text {
        "tcp" => Ok(false),
        "unix" => Ok(true),
        _ => Err(format!("must be tcp or unix, not {text:?}")),
    });
    if is_unix? {
        let socket = r.optional("http.addr", path)?;
        if socket.is_none() {
            let origin = r.origin("http.net").unwrap_or(Origin::Default);
            let text = "must be set: the path of the socket";
            r.findings.problem(&origin, "http.addr", text);
        }
        return socket.map(Bind::Unix);
    }
    r.value("http.addr", "127.0.0.1:5000", parsed)
        .map(Bind::Tcp)
}

fn tls(r: &mut Reader<'_>) -> Option<Option<Tls>> {
    let certificate = r.optional("http.tls.certificate", path);
    let key = r.optional("http.tls.key", path);
    let minimum = r.optional("http.tls.minimumtls", tls_version);
    let cipher_suites = r.list("http.tls.ciphersuites", &[], |text| Ok(text.to_owned()));
    let (minimum, cipher_suites) = (minimum?, cipher_suites?);
    if let (Some(origin), Some((_, true))) = (r.origin("http.tls.minimumtls"), minimum) {
        let text = "too old, not spoken: TLS 1.2 is the oldest";
        r.findings.warning(&origin, "http.tls.minimumtls", text);
    }
    let missing = match (certificate?, key?) {
        (Some(certificate), Some(key)) => {
            return Some(Some(Tls {
                certificate,
                key,
                minimum: minimum.map_or(TlsVersion::V1_2, |(version, _)| version),
                cipher_suites,
            }));
        }
        (None, None) if minimum.is_none() && cipher_suites.is_empty() => return Some(None),
        (Some(_), None) => "http.tls.key",
        (None, Some(_) | None) => "http.tls.certificate",
    };
    let origin = r.origin("http.tls").unwrap_or(Origin::Default);
    r.findings
        .problem(&origin, missing, "must be set where http.tls says anything");
    None
}

/// Under which path numbers are told at the debug address, where they are.
fn metrics(r: &mut Reader<'_>) -> Option<Option<String>> {
    let section = "http.debug.prometheus";
    let is_enabled = r.optional(&format!("{section}.enabled"), boolean)?;
    let path = r.optional(&format!("{section}.path"), |text| {
        match text.starts_with('/') && !text.contains(['?', '#', ' ']) {
            true => Ok(text.to_owned()),
            false => Err(format!("must be a path, as /metrics, not {text:?}")),
        }
    })?;
    if is_enabled != Some(true) {
        return Some(None);
    }
    if let Some(origin) = r.origin(section)
        && r.origin("http.debug.addr").is_none()
    {
        let text = "has no effect: http.debug.addr is not set";
        r.findings.warning(&origin, section, text);
    }
    Some(Some(path.unwrap_or_else(|| "/metrics".to_owned())))
}

fn headers(r: &mut Reader<'_>) -> Option<Vec<(String, Vec<String>)>> {
    let mut headers = Vec::new();
    for (name, node) in r.free("http.headers") {
        let key = format!("http.headers.{name}");
        let values = r.texts(&key, &node)?;
        if let Err(text) = header_name(&name).and_then(|()| {
            values
                .iter()
                .try_for_each(|value| header_value(value).map(drop))
        }) {
            r.findings.problem(&node.origin, &key, text);
            return None;
        }
        let lower = name.to_ascii_lowercase();
        let is_secret = [
            "authorization",
            "cookie",
            "token",
            "secret",
            "password",
            "key",
        ]
        .iter()
        .any(|word| lower.contains(word));
        let shown = if is_secret {
            Shown::Secret
        } else {
            Shown::Items(values.clone())
        };
        r.free_entry("http.headers", &name, shown, node.origin);
        headers.push((name, values));
    }
    Some(headers)
}

fn imgsync(r: &mut Reader<'_>) -> Option<Imgsync> {
    let anonymous_pull = r.list("imgsync.anonymous.pull", &[], parsed);
    let trusted_proxies = r.list("imgsync.trustedproxies", &["127.0.0.0/8", "::1"], parsed);
    if let (Some(patterns), Some(origin)) = (&anonymous_pull, r.origin("imgsync.anonymous.pull"))
        && !patterns.is_empty()
        && r.origin("auth.htpasswd").is_none()
    {
        let text = "has no effect: without auth anyone may pull, and push";
        r.findings.warning(&origin, "imgsync.anonymous.pull", text);
    }
    let connections = r.value("imgsync.limits.connections", "512", amount);
    let open_uploads = r.value("imgsync.limits.openuploads", "1000", amount);
    let stall = r.value("imgsync.stall", "60s", patience);
    let write_stall = r.value("imgsync.writestall", "1h", patience);
    Some(Imgsync {
        anonymous_pull: anonymous_pull?,
        trusted_proxies: trusted_proxies?,
        connections: connections?,
        open_uploads: open_uploads?,
        stall: stall?,
        write_stall: write_stall?,
    })
}

fn patience(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time.as_secs() == 0 => Err("must be 1s or longer".to_owned()),
        time => Ok(time),
    }
}

fn level(text: &str) -> Result<Level, String> {
    match text.to_lowercase().as_str() {
        "error" => Ok(Level::Error),
        "warn" => Ok(Level::Warn),
        "info" => Ok(Level::Info),
        "debug" => Ok(Level::Debug),
        _ => Err(format!("must be error, warn, info or debug, not {text:?}")),
    }
}

/// A formatter, and whether it only comes close to what was asked for.
fn formatter(text: &str) -> Result<(Formatter, bool), String> {
    match text {
        "text" => Ok((Formatter::Text, false)),
        "json" => Ok((Formatter::Json, false)),
        "logstash" => Ok((Formatter::Json, true)),
        _ => Err(format!("must be text or json, not {text:?}")),
    }
}

/// A version, and whether an older one was asked for.
fn tls_version(text: &str) -> Result<(TlsVersion, bool), String> {
    match text {
        "tls1.0" | "tls1.1" => Ok((TlsVersion::V1_2, true)),
        "tls1.2" => Ok((TlsVersion::V1_2, false)),
        "tls1.3" => Ok((TlsVersion::V1_3, false)),
        _ => Err(format!("must be tls1.2 or tls1.3, not {text:?}")),
    }
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.contains('\0') {
        return Err("must be a path".to_owned());
    }
    Ok(text.into())
}

/// What knows itself how it is written.
pub(super) fn parsed<T: FromStr<Err = imgsync_oci::Invalid>>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|error: imgsync_oci::Invalid| error.to_string())
}

/// How many names a page may have; for the stock registry nothing and less mean the default.
fn page(text: &str) -> Result<u64, String> {
    match text.strip_prefix('-') {
        Some(rest) => number(rest).map(|_| 1000),
        None => number(text).map(|number| if number == 0 { 1000 } else { number }),
    }
}

fn amount(text: &str) -> Result<usize, String> {
    let number = number(text)?;
    usize::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("must be a number above 0, not {text:?}"))
}

fn prefix(text: &str) -> Result<String, String> {
    let text = text.trim_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
    if !text.chars().all(is_plain) || text.split('/').any(|part| part == "." || part == "..") {
        return Err(format!("must be a path, as /registry/, not {text:?}"));
    }
    Ok(if text.is_empty() {
        String::new()
    } else {
        format!("/{text}")
    })
}

fn host(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.trim_matches('/').is_empty() => {
            header_value(text).map(|text| text.trim_end_matches('/').to_owned())
        }
        Some(_) | None => Err(format!(
            "must be a URL, as https://registry.example.com, not {text:?}"
        )),
    }
}

/// RFC 9110, section 5.6.2.
fn header_name(text: &str) -> Result<(), String> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if text.is_empty() || !text.chars().all(is_token) {
        return Err("must be the name of a header".to_owned());
    }
    let lower = text.to_ascii_lowercase();
    if [
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
    ]
    .contains(&lower.as_str())
    {
        return Err("says how long an answer is, or how it is sent, and cannot be set".to_owned());
    }
    Ok(())
}

pub(super) fn header_value(text: &str) -> Result<String, String> {
    if !text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return Err("must be plain ASCII without line ends: it becomes a header".to_owned());
    }
    Ok(text.to_owned())
}
