//! Tests invalid configurations, misspelled keys, and the output of `imgsync-server config`.

use crate::support::launch::{Setup, stderr, stdout};

const BASE: &str = "version: 0.1\nstorage: {filesystem: {rootdirectory: '{folder}/registry'}}\n";

#[test]
fn unsupported_and_misspelled_keys_prevent_the_start() {
    for (more, message) in [
        (
            "auth: {token: {realm: r, service: s, issuer: i, rootcertbundle: /x}}",
            "config.yml:3: auth.token: not supported: token authentication",
        ),
        (
            "auth: {htpaswd: {realm: r, path: /x}}",
            "did you mean auth.htpasswd?",
        ),
        (
            "auht: {htpasswd: {realm: r, path: /x}}",
            "config.yml:3: auht: unknown key; did you mean auth?",
        ),
        (
            "http: {tsl: {certificate: /c, key: /k}}",
            "http.tsl: unknown key; did you mean http.tls?",
        ),
        (
            "http: {tls: {certificate: /c, key: /k, clientcas: [/ca]}}",
            "config.yml:3: http.tls.clientcas: not supported",
        ),
        (
            "http: {tls: {certificate: /c, key: /k, clientca: [/ca]}}",
            "http.tls.clientca: unknown key; did you mean http.tls.clientcas?",
        ),
        (
            "proxy: {remoteurl: 'https://registry-1.docker.io', exec: {command: /x}}",
            "config.yml:3: proxy.exec: not supported",
        ),
        (
            "log: {level: loud}",
            "log.level: must be error, warn, info or debug",
        ),
        ("a: [", "invalid YAML"),
    ] {
        let setup = Setup::new(&format!("{BASE}{more}\n"));
        for command in ["serve", "config"] {
            let output = setup.run(&[command]);
            assert_eq!(output.status.code(), Some(2), "{more}");
            let text = stderr(&output);
            assert!(text.starts_with("error: invalid configuration\n"), "{text}");
            assert!(
                text.contains(message) && text.contains("\nhint: "),
                "{text}"
            );
            assert!(output.stdout.is_empty(), "{}", stdout(&output));
        }
        assert!(!setup.path("registry").exists());
    }
    // A container image has a configuration file with `filesystem`; the variable adds a second driver.
    let output = Setup::new(BASE)
        .with("REGISTRY_STORAGE_S3_BUCKET", "b")
        .run(&["serve"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text.contains("and s3 (REGISTRY_STORAGE_S3_BUCKET)"),
        "{text}"
    );
    let text = stderr(&Setup::new("storage: filesystem\n").run(&["serve"]));
    assert!(text.contains("unsupported version: \"\""), "{text}");
}

#[test]
fn a_missing_configuration_file_prevents_the_start() {
    let setup = Setup::new(BASE).with("REGISTRY_CONFIGURATION_PATH", "{folder}/missing.yml");
    for output in [
        setup.program(&["serve"]).output().unwrap(),
        setup.program(&["serve", "other.yml"]).output().unwrap(),
    ] {
        assert_eq!(output.status.code(), Some(2));
        let text = stderr(&output);
        assert!(text.contains("cannot read the configuration"), "{text}");
    }
}

#[test]
fn harmless_typos_and_unsupported_keys_are_warnings() {
    // The stock registry ignores both without a word.
    let config = format!("{BASE}http: {{adr: ':5000'}}\nredis: {{addrs: ['localhost:6379']}}\n");
    let output = Setup::new(&config).run(&["config"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stderr(&output);
    assert!(
        text.contains("warning: ")
            && text
                .contains("config.yml:3: http.adr: unknown key, ignored; did you mean http.addr?"),
        "{text}"
    );
    assert!(
        text.contains("config.yml:4: redis: not supported: redis is not used"),
        "{text}"
    );
}

#[test]
fn config_prints_effective_values_with_their_sources() {
    let setup = Setup::new(
        "version: 0.1\nlog: {fields: {service: registry}}\nstorage:\n  filesystem:\n    rootdirectory: /srv/registry\n\
         http:\n  addr: :5000\n  secret: swordfish\n  headers:\n    X-Content-Type-Options: [nosniff]\n    \
         X-Api-Token: [hush]\nauth:\n  htpasswd: {realm: a realm, path: /auth/htpasswd}\n",
    )
    .with("REGISTRY_LOG_LEVEL", "warn")
    .with("REGISTRY_STORAGE_DELETE_ENABLED", "true")
    .with("REGISTRY_IMGSYNC_ANONYMOUS_PULL_0", "public/*");
    let output = setup.run(&["config", "--addr", "127.0.0.1:0"]);
    let file = setup.path("config.yml");
    let printed = stdout(&output).replace(file.to_str().unwrap(), "config.yml");
    assert_eq!(
        printed,
        r#"version: 0.1
log:
  level: warn  # REGISTRY_LOG_LEVEL
  formatter: text  # default
  fields:
    service: registry  # config.yml:2
  accesslog:
    disabled: false  # default
storage:
  filesystem:
    rootdirectory: /srv/registry  # config.yml:5
  delete:
    enabled: true  # REGISTRY_STORAGE_DELETE_ENABLED
  maintenance:
    uploadpurging:
      enabled: true  # default
      age: 168h  # default
      interval: 24h  # default
      dryrun: false  # default
    readonly:
      enabled: false  # default
auth:
  htpasswd:
    realm: "a realm"  # config.yml:13
    path: /auth/htpasswd  # config.yml:13
http:
  net: tcp  # --addr
  addr: 127.0.0.1:0  # --addr
  prefix: /  # default
  secret: "******"  # config.yml:8
  draintimeout: 60s  # default
  headers:
    X-Content-Type-Options: [nosniff]  # config.yml:10
    X-Api-Token: "******"  # config.yml:11
  http2:
    disabled: false  # default
  h2c:
    enabled: false  # default
catalog:
  maxentries: 1000  # default
tags:
  maxtags: 1000  # default
imgsync:
  anonymous:
    pull: ["public/*"]  # REGISTRY_IMGSYNC_ANONYMOUS_PULL_0
  gc:
    enabled: true  # default
    interval: 24h  # default
    grace: 24h  # default
    undo: 24h  # default
  delta:
    enabled: true  # default
    maxsize: 4GiB  # default
  page: true  # default
  trustedproxies: [127.0.0.0/8, ::1]  # default
  limits:
    connections: 512  # default
    connectionsperclient: 128  # default
    bodymemory: 64MiB  # default
    openuploads: 1000  # default
  headertimeout: 10s  # default
  bodytimeout: 60s  # default
  stall: 60s  # default
  writestall: 1h  # default
# imgsync.space.reserve: 5 % of the disk, at most 512 MB  # default
"#
    );
    // The configuration is valid, but the server could not start.
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("cannot read the htpasswd file /auth/htpasswd"),
        "{text}"
    );
}

#[test]
fn the_commands_of_the_stock_registry() {
    let setup = Setup::new(BASE);
    let output = setup.program(&["--version"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).starts_with("imgsync-server "));
}
