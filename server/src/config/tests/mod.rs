//! Tests of whole configurations, by subject. Helpers parse a base file with additions.

mod documents;
mod invalid;
mod notifications;
mod printing;
mod restart;
mod sections;
mod security;
mod variables;

use super::*;

/// A minimal valid file.
const BASE: &str =
    "version: 0.1\nstorage: {filesystem: {rootdirectory: /data}}\nhttp: {addr: ':5000'}\n";

/// The example of the stock registry's documentation, as far as it concerns a folder.
const FULL: &str = "\
version: 0.1
log:
  accesslog:
    disabled: true
  level: debug
  formatter: json
  fields:
    service: registry
    environment: staging
storage:
  filesystem:
    rootdirectory: /var/lib/registry
    maxthreads: 100
  delete:
    enabled: true
  redirect:
    disable: false
  cache:
    blobdescriptor: inmemory
    blobdescriptorsize: 10000
  tag:
    concurrencylimit: 8
  maintenance:
    uploadpurging:
      enabled: true
      age: 100h
      interval: 1h30m
      dryrun: false
    readonly:
      enabled: false
auth:
  htpasswd:
    realm: basic-realm
    path: /auth/htpasswd
http:
  addr: localhost:5000
  prefix: /my/nested/registry/
  host: https://myregistryaddress.org:5000/
  secret: asecretforlocaldevelopment
  relativeurls: false
  draintimeout: 90s
  tls:
    certificate: /path/to/x509/public
    key: /path/to/x509/private
    minimumtls: tls1.3
  headers:
    X-Content-Type-Options: [nosniff]
    Access-Control-Allow-Origin: ['*', 'null']
  debug:
    addr: localhost:5001
    prometheus:
      enabled: true
      path: /metrics
  http2:
    disabled: true
  h2c:
    enabled: false
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
catalog: {maxentries: 500}
tags: {maxtags: -1}
validation:
  manifests:
    urls:
      allow: ['^https?://([^/]+\\.)*example\\.com/']
";

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Parses a file with environment variables.
fn load(text: &str, pairs: &[(&str, &str)]) -> Result<LoadedConfig, ConfigErrors> {
    parse_config(ConfigInput {
        file: Some(("c.yml", text)),
        variables: &variables(pairs),
        arguments: &[],
    })
}

/// Parses the base file with more lines.
fn load_with(more: &str) -> LoadedConfig {
    load(&format!("{BASE}{more}"), &[]).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Parses the base file with environment variables.
fn load_with_variables(pairs: &[(&str, &str)]) -> LoadedConfig {
    load(BASE, pairs).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Returns the errors of an invalid file with environment variables.
fn load_errors(text: &str, pairs: &[(&str, &str)]) -> String {
    match load(text, pairs) {
        Ok(loaded) => panic!("not refused: {:?}", loaded.config),
        Err(errors) => errors.to_string(),
    }
}

/// Returns the errors of the base file with more lines.
fn load_errors_with(more: &str) -> String {
    load_errors(&format!("{BASE}{more}"), &[])
}

fn warnings(loaded: &LoadedConfig) -> Vec<String> {
    messages(loaded, true)
}

fn notes(loaded: &LoadedConfig) -> Vec<String> {
    messages(loaded, false)
}

fn messages(loaded: &LoadedConfig, are_warnings: bool) -> Vec<String> {
    loaded
        .notices
        .iter()
        .filter(|notice| notice.is_warning == are_warnings)
        .map(ToString::to_string)
        .collect()
}

/// Every effective setting must be in the table of keys, which `build` does not read.
#[test]
fn every_setting_that_is_read_is_in_the_table_of_keys() {
    let cache = "proxy: {remoteurl: 'http://a:1', username: u, password: p}\nimgsync: {anonymous: \
                 {pull: [a]}, cache: {maxbytes: 1GB, upstreams: [{prefix: b, remoteurl: \
                 'http://b:1', username: u, passwordfile: /p, repositories: [a], namespaces: [c], \
                 mirror: false, cafile: /c}]}}\n";
    let loaded = load(&format!("{FULL}{cache}"), &[]).unwrap();
    for setting in &loaded.settings {
        let path = keys::table_path(&setting.path);
        assert!(keys::shape(&path).is_some(), "{path}");
    }
}
