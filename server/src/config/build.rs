//! A tree into a configuration.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::cache;
use super::reader::{ConfigReader, ShownValue};
use super::scalars::{parse_bool, parse_duration, parse_number};
use super::tree::ValueOrigin;
use super::types::{
    Config, HttpConfig, ImgsyncConfig, ListenAddress, LogConfig, LogFormat, LogLevel, PurgeConfig,
    StorageConfig, TlsConfig, TlsVersion,
};
use crate::auth::HtpasswdConfig;

/// What stands beside the driver under `storage`.
const STORAGE_NON_DRIVER_KEYS: &[&str] = &["delete", "redirect", "cache", "tag", "maintenance"];

/// The whole configuration, or nothing where the reader has told of problems. Sections are read in
/// the order in which they are shown.
pub(super) fn build_config(r: &mut ConfigReader<'_>) -> Option<Config> {
    let log = log(r);
    let storage = storage(r);
    let auth = auth(r);
    let http = http(r);
    let catalog_max_entries = r.value("catalog.maxentries", "1000", page_limit);
    let tags_max = r.value("tags.maxtags", "1000", page_limit);
    let cache = cache::build_cache(r);
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

fn log(r: &mut ConfigReader<'_>) -> Option<LogConfig> {
    // The old name counts where the new one says nothing.
    let is_old = r
        .tree
        .at("loglevel")
        .is_some_and(|node| !node.is_empty_or_disabled())
        && r.tree
            .at("log.level")
            .is_none_or(|node| node.is_empty_or_disabled());
    let level = r.value(if is_old { "loglevel" } else { "log.level" }, "info", level);
    let formatter = r.value("log.formatter", "text", formatter);
    if let (Some(origin), Some((_, true))) = (r.origin("log.formatter"), formatter) {
        let text = "not supported: lines are written as json";
        r.diagnostics.warning(&origin, "log.formatter", text);
    }
    let fields = r.string_map("log.fields");
    let quiet = r.value("log.accesslog.disabled", "false", parse_bool);
    Some(LogConfig {
        level: level?,
        formatter: formatter?.0,
        fields: fields?,
        is_access_log_enabled: !quiet?,
    })
}

fn storage(r: &mut ConfigReader<'_>) -> Option<StorageConfig> {
    let drivers: Vec<_> = r.map_entries("storage");
    let drivers: Vec<_> = drivers
        .iter()
        .filter(|(name, _)| !STORAGE_NON_DRIVER_KEYS.contains(&name.as_str()))
        .collect();
    match drivers.as_slice() {
        [_] => {}
        [] => {
            let origin = r.origin("storage").unwrap_or(ValueOrigin::Default);
            let text = "no storage configuration provided: it takes a driver, as filesystem";
            r.diagnostics.error(&origin, "storage", text);
        }
        [(_, node), ..] => {
            let named = drivers
                .iter()
                .map(|(name, node)| format!("{name} ({})", node.origin));
            let named: Vec<_> = named.collect();
            let text = format!("takes one driver, and has {}", named.join(" and "));
            let origin = node.origin.clone();
            r.diagnostics.error(&origin, "storage", text);
        }
    }
    let root = r.value(
        "storage.filesystem.rootdirectory",
        "/var/lib/registry",
        path,
    );
    let is_delete_enabled = r.value("storage.delete.enabled", "false", parse_bool);
    let within = "storage.maintenance.uploadpurging";
    let is_enabled = r.value(&format!("{within}.enabled"), "true", parse_bool);
    let age = r.value(&format!("{within}.age"), "168h", parse_duration);
    let interval = r.value(
        &format!("{within}.interval"),
        "24h",
        |text| match parse_duration(text)? {
            time if time.is_zero() => Err("must be longer than 0".to_owned()),
            time => Ok(time),
        },
    );
    let is_dry_run = r.value(&format!("{within}.dryrun"), "false", parse_bool);
    let is_read_only = r.value("storage.maintenance.readonly.enabled", "false", parse_bool);
    Some(StorageConfig {
        root: root?,
        is_delete_enabled: is_delete_enabled?,
        is_read_only: is_read_only?,
        purging: PurgeConfig {
            is_enabled: is_enabled?,
            age: age?,
            interval: interval?,
            is_dry_run: is_dry_run?,
        },
    })
}

fn auth(r: &mut ConfigReader<'_>) -> Option<Option<HtpasswdConfig>> {
    let ways = r.map_entries("auth");
    if let [(_, first), .., (_, _)] = ways.as_slice() {
        let named: Vec<_> = ways.iter().map(|(name, _)| name.as_str()).collect();
        let text = format!(
            "takes one way of logging in, and has {}",
            named.join(" and ")
        );
        r.diagnostics.error(&first.origin, "auth", text);
        return None;
    }
    let Some(origin) = r.origin("auth.htpasswd") else {
        return Some(None);
    };
    let realm = r.value("auth.htpasswd.realm", "Registry", header_value);
    let file = r.optional("auth.htpasswd.path", path)?;
    if file.is_none() {
        let text = "must be set: the file with the logins";
        r.diagnostics.error(&origin, "auth.htpasswd.path", text);
    }
    Some(Some(HtpasswdConfig {
        realm: realm?,
        path: file?,
    }))
}

fn http(r: &mut ConfigReader<'_>) -> Option<HttpConfig> {
    let bind = bind(r);
    let prefix = r.value("http.prefix", "/", prefix);
    let host = r.optional("http.host", host);
    let relative_urls = r.optional("http.relativeurls", parse_bool);
    let secret = r.secret("http.secret");
    let drain_time = r.value("http.draintimeout", "60s", parse_duration);
    let tls = tls(r);
    let headers = headers(r);
    let debug = r.optional("http.debug.addr", parse_as);
    let metrics = metrics(r);
    let is_http2_disabled = r.value("http.http2.disabled", "false", parse_bool);
    let is_h2c_enabled = r.value("http.h2c.enabled", "false", parse_bool);
    Some(HttpConfig {
        listen_address: bind?,
        prefix: prefix?,
        host: host?,
        relative_urls: relative_urls?,
        headers: headers?,
        secret: secret?,
        drain_timeout: drain_time?,
        tls: tls?,
        debug_address: debug?,
        metrics_path: metrics?,
        is_http2_enabled: !is_http2_disabled?,
        is_h2c_enabled: is_h2c_enabled?,
    })
}

fn bind(r: &mut ConfigReader<'_>) -> Option<ListenAddress> {
    let is_unix = r.value("http.net", "tcp", |text| match text {
        "tcp" => Ok(false),
        "unix" => Ok(true),
        _ => Err(format!("must be tcp or unix, not {text:?}")),
    });
    if is_unix? {
        let socket = r.optional("http.addr", path)?;
        if socket.is_none() {
            let origin = r.origin("http.net").unwrap_or(ValueOrigin::Default);
            let text = "must be set: the path of the socket";
            r.diagnostics.error(&origin, "http.addr", text);
        }
        return socket.map(ListenAddress::Unix);
    }
    r.value("http.addr", "127.0.0.1:5000", parse_as)
        .map(ListenAddress::Tcp)
}

fn tls(r: &mut ConfigReader<'_>) -> Option<Option<TlsConfig>> {
    let certificate = r.optional("http.tls.certificate", path);
    let key = r.optional("http.tls.key", path);
    let minimum = r.optional("http.tls.minimumtls", tls_version);
    let cipher_suites = r.list("http.tls.ciphersuites", &[], |text| Ok(text.to_owned()));
    let (minimum, cipher_suites) = (minimum?, cipher_suites?);
    if let (Some(origin), Some((_, true))) = (r.origin("http.tls.minimumtls"), minimum) {
        let text = "too old, not spoken: TLS 1.2 is the oldest";
        r.diagnostics.warning(&origin, "http.tls.minimumtls", text);
    }
    let missing = match (certificate?, key?) {
        (Some(certificate), Some(key)) => {
            return Some(Some(TlsConfig {
                certificate,
                key,
                min_version: minimum.map_or(TlsVersion::V1_2, |(version, _)| version),
                cipher_suites,
            }));
        }
        (None, None) if minimum.is_none() && cipher_suites.is_empty() => return Some(None),
        (Some(_), None) => "http.tls.key",
        (None, Some(_) | None) => "http.tls.certificate",
    };
    let origin = r.origin("http.tls").unwrap_or(ValueOrigin::Default);
    r.diagnostics
        .error(&origin, missing, "must be set where http.tls says anything");
    None
}

/// Under which path numbers are told at the debug address, where they are.
fn metrics(r: &mut ConfigReader<'_>) -> Option<Option<String>> {
    let section = "http.debug.prometheus";
    let is_enabled = r.optional(&format!("{section}.enabled"), parse_bool)?;
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
        r.diagnostics.warning(&origin, section, text);
    }
    Some(Some(path.unwrap_or_else(|| "/metrics".to_owned())))
}

fn headers(r: &mut ConfigReader<'_>) -> Option<Vec<(String, Vec<String>)>> {
    let mut headers = Vec::new();
    for (name, node) in r.map_entries("http.headers") {
        let key = format!("http.headers.{name}");
        let values = r.list_texts(&key, &node)?;
        if let Err(text) = header_name(&name).and_then(|()| {
            values
                .iter()
                .try_for_each(|value| header_value(value).map(drop))
        }) {
            r.diagnostics.error(&node.origin, &key, text);
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
            ShownValue::Secret
        } else {
            ShownValue::List(values.clone())
        };
        r.record_map_entry("http.headers", &name, shown, node.origin);
        headers.push((name, values));
    }
    Some(headers)
}

fn imgsync(r: &mut ConfigReader<'_>) -> Option<ImgsyncConfig> {
    let anonymous_pull = r.list("imgsync.anonymous.pull", &[], parse_as);
    let trusted_proxies = r.list("imgsync.trustedproxies", &["127.0.0.0/8", "::1"], parse_as);
    if let (Some(patterns), Some(origin)) = (&anonymous_pull, r.origin("imgsync.anonymous.pull"))
        && !patterns.is_empty()
        && r.origin("auth.htpasswd").is_none()
    {
        let text = "has no effect: without auth anyone may pull, and push";
        r.diagnostics
            .warning(&origin, "imgsync.anonymous.pull", text);
    }
    let connections = r.value("imgsync.limits.connections", "512", positive_count);
    let open_uploads = r.value("imgsync.limits.openuploads", "1000", positive_count);
    let stall = r.value("imgsync.stall", "60s", timeout);
    let write_stall = r.value("imgsync.writestall", "1h", timeout);
    Some(ImgsyncConfig {
        anonymous_pull: anonymous_pull?,
        trusted_proxies: trusted_proxies?,
        max_connections: connections?,
        max_open_uploads: open_uploads?,
        read_timeout: stall?,
        write_timeout: write_stall?,
    })
}

fn timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if time.as_secs() == 0 => Err("must be 1s or longer".to_owned()),
        time => Ok(time),
    }
}

fn level(text: &str) -> Result<LogLevel, String> {
    match text.to_lowercase().as_str() {
        "error" => Ok(LogLevel::Error),
        "warn" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        _ => Err(format!("must be error, warn, info or debug, not {text:?}")),
    }
}

/// A formatter, and whether it only comes close to what was asked for.
fn formatter(text: &str) -> Result<(LogFormat, bool), String> {
    match text {
        "text" => Ok((LogFormat::Text, false)),
        "json" => Ok((LogFormat::Json, false)),
        "logstash" => Ok((LogFormat::Json, true)),
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
pub(super) fn parse_as<T: FromStr<Err = imgsync_oci::ParseError>>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|error: imgsync_oci::ParseError| error.to_string())
}

/// How many names a page may have; for the stock registry nothing and less mean the default.
fn page_limit(text: &str) -> Result<u64, String> {
    match text.strip_prefix('-') {
        Some(rest) => parse_number(rest).map(|_| 1000),
        None => parse_number(text).map(|number| if number == 0 { 1000 } else { number }),
    }
}

fn positive_count(text: &str) -> Result<usize, String> {
    let number = parse_number(text)?;
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
