//! Builds the typed [`Config`] from the merged tree: one function per section.
//!
//! Every problem goes to the reader's diagnostics. A function returns `None` when its section has
//! an error, after it has read the rest of the section, so that all errors are reported at once.
//! Start reading at [`build_config`].

/// Builds a section from fields that are `Option`s. All of them are evaluated, so that all errors
/// are reported; then the result is `None` if one of them is `None`.
macro_rules! build {
    ($section:ident { $($field:ident: $value:expr),* $(,)? }) => {{
        $(let $field = $value;)*
        Some($section { $($field: $field?),* })
    }};
}

mod headers;
mod http;
mod notifications;
mod retention;
mod space;
mod storage;
mod tls;
mod validation;
mod webhooks;

use super::cache;
use super::reader::ConfigReader;
use super::scalars::{
    parse_bool, parse_bytes, parse_duration, parse_header_value, parse_interval, parse_memory,
    parse_page_limit, parse_path, parse_positive_count, parse_timeout, parse_with_from_str,
};
use super::types::{
    Config, DeltaConfig, GarbageCollectionConfig, ImgsyncConfig, LogConfig, LogFormat, LogLevel,
};
use crate::auth::{HtpasswdConfig, RepositoryPattern};

/// Builds the whole configuration, or returns `None` when it has errors. The order of the sections
/// here is their order in the output of `imgsync-server config`.
pub(super) fn build_config(reader: &mut ConfigReader<'_>) -> Option<Config> {
    build!(Config {
        // Set by the caller, who read the file.
        file: Some(None),
        log: build_log(reader),
        storage: storage::build_storage(reader),
        auth: build_auth(reader),
        http: http::build_http(reader),
        catalog_max_entries: reader.value("catalog.maxentries", "1000", parse_page_limit),
        tags_max: reader.value("tags.maxtags", "1000", parse_page_limit),
        index_platforms: validation::build_index_platforms(reader),
        cache: cache::build_cache(reader),
        notifications: notifications::build_notifications(reader),
        imgsync: build_imgsync(reader),
    })
}

fn build_log(reader: &mut ConfigReader<'_>) -> Option<LogConfig> {
    // The stock registry's old key `loglevel` is used only when `log.level` is not set.
    let level_key = if reader.is_set("loglevel") && !reader.is_set("log.level") {
        "loglevel"
    } else {
        "log.level"
    };
    build!(LogConfig {
        level: reader.value(level_key, "info", parse_log_level),
        formatter: build_log_format(reader),
        fields: reader.string_map("log.fields"),
        is_access_log_enabled: reader.enabled("log.accesslog.disabled"),
    })
}

fn build_log_format(reader: &mut ConfigReader<'_>) -> Option<LogFormat> {
    let (format, is_replacement) = reader.value("log.formatter", "text", parse_formatter)?;
    if is_replacement && let Some(origin) = reader.origin("log.formatter") {
        let text = "not supported: the log is written as json instead of logstash";
        reader.diagnostics.warning(&origin, "log.formatter", text);
    }
    Some(format)
}

fn build_auth(reader: &mut ConfigReader<'_>) -> Option<Option<HtpasswdConfig>> {
    let methods = reader.map_entries("auth");
    if let [(_, first), .., (_, _)] = methods.as_slice() {
        let names: Vec<_> = methods.iter().map(|(name, _)| name.as_str()).collect();
        let text = format!(
            "only one authentication method can be configured, found {}",
            names.join(" and ")
        );
        reader.diagnostics.error(&first.origin, "auth", text);
        return None;
    }
    let Some(origin) = reader.origin("auth.htpasswd") else {
        return Some(None);
    };
    let realm = reader.value("auth.htpasswd.realm", "Registry", parse_header_value);
    let path = reader.optional("auth.htpasswd.path", parse_path)?;
    if path.is_none() {
        let text = "must be set to the path of the htpasswd file";
        reader
            .diagnostics
            .error(&origin, "auth.htpasswd.path", text);
    }
    Some(Some(HtpasswdConfig {
        realm: realm?,
        path: path?,
    }))
}

fn build_imgsync(reader: &mut ConfigReader<'_>) -> Option<ImgsyncConfig> {
    let loopback = &["127.0.0.0/8", "::1"];
    build!(ImgsyncConfig {
        anonymous_pull: build_anonymous_pull(reader),
        gc: build_gc(reader),
        space: space::build_space(reader),
        delta: build_delta(reader),
        retention: retention::build_retention(reader, gc.as_ref()),
        webhooks: webhooks::build_webhooks(reader),
        is_page_enabled: reader.value("imgsync.page", "true", parse_bool),
        trusted_proxies: reader.list("imgsync.trustedproxies", loopback, parse_with_from_str),
        max_connections: reader.value("imgsync.limits.connections", "512", parse_positive_count),
        max_connections_per_client: build_connections_per_client(reader, max_connections),
        max_body_memory: reader.value("imgsync.limits.bodymemory", "64MiB", parse_memory),
        max_open_uploads: reader.value("imgsync.limits.openuploads", "1000", parse_positive_count),
        head_timeout: reader.value("imgsync.headertimeout", "10s", parse_timeout),
        body_timeout: reader.value("imgsync.bodytimeout", "60s", parse_timeout),
        read_timeout: reader.value("imgsync.stall", "60s", parse_timeout),
        write_timeout: reader.value("imgsync.writestall", "1h", parse_timeout),
    })
}

fn build_gc(reader: &mut ConfigReader<'_>) -> Option<GarbageCollectionConfig> {
    build!(GarbageCollectionConfig {
        is_enabled: reader.value("imgsync.gc.enabled", "true", parse_bool),
        interval: reader.value("imgsync.gc.interval", "24h", parse_interval),
        grace: reader.value("imgsync.gc.grace", "24h", parse_duration),
        undo: reader.value("imgsync.gc.undo", "24h", parse_duration),
    })
}

fn build_delta(reader: &mut ConfigReader<'_>) -> Option<DeltaConfig> {
    build!(DeltaConfig {
        is_enabled: reader.value("imgsync.delta.enabled", "true", parse_bool),
        max_layer_bytes: reader.value("imgsync.delta.maxsize", "4GiB", parse_bytes),
    })
}

/// Reads the share of one client. By default, a single client can use a quarter of all connections
/// while others need them.
fn build_connections_per_client(
    reader: &mut ConfigReader<'_>,
    max_connections: Option<usize>,
) -> Option<usize> {
    let default = max_connections.map_or(1, |all| all.div_ceil(4)).to_string();
    let key = "imgsync.limits.connectionsperclient";
    reader.value(key, &default, parse_positive_count)
}

fn build_anonymous_pull(reader: &mut ConfigReader<'_>) -> Option<Vec<RepositoryPattern>> {
    let key = "imgsync.anonymous.pull";
    let patterns = reader.list(key, &[], parse_with_from_str::<RepositoryPattern>)?;
    if let Some(origin) = reader.origin(key)
        && !patterns.is_empty()
        && reader.origin("auth.htpasswd").is_none()
    {
        let text = "has no effect: without auth, anyone can pull and push";
        reader.diagnostics.warning(&origin, key, text);
    }
    Some(patterns)
}

fn parse_log_level(text: &str) -> Result<LogLevel, String> {
    match text.to_lowercase().as_str() {
        "error" => Ok(LogLevel::Error),
        "warn" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        _ => Err(format!("must be error, warn, info or debug, not {text:?}")),
    }
}

/// Parses a log format. The flag is true when it replaces an unsupported format.
fn parse_formatter(text: &str) -> Result<(LogFormat, bool), String> {
    match text {
        "text" => Ok((LogFormat::Text, false)),
        "json" => Ok((LogFormat::Json, false)),
        "logstash" => Ok((LogFormat::Json, true)),
        _ => Err(format!("must be text or json, not {text:?}")),
    }
}
