//! Configurations as people have them, and what becomes of them.

use std::path::Path;
use std::time::Duration;

use super::reader::ShownValue;
use super::*;

const BASE: &str =
    "version: 0.1\nstorage: {filesystem: {rootdirectory: /data}}\nhttp: {addr: ':5000'}\n";

fn variables(given: &[(&str, &str)]) -> Vec<(String, String)> {
    let given = given.iter();
    given
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn with(text: &str, given: &[(&str, &str)]) -> Result<LoadedConfig, ConfigErrors> {
    parse_config(ConfigInput {
        file: Some(("c.yml", text)),
        variables: &variables(given),
        arguments: &[],
    })
}

/// The base and some more lines.
fn file(more: &str) -> LoadedConfig {
    with(&format!("{BASE}{more}"), &[]).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The base under some variables.
fn environment(given: &[(&str, &str)]) -> LoadedConfig {
    with(BASE, given).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Why a file, and variables, are refused.
fn refusal(text: &str, given: &[(&str, &str)]) -> String {
    match with(text, given) {
        Ok(understood) => panic!("not refused: {:?}", understood.config),
        Err(problems) => problems.to_string(),
    }
}

fn refused(more: &str) -> String {
    refusal(&format!("{BASE}{more}"), &[])
}

fn warnings(understood: &LoadedConfig) -> Vec<String> {
    let told = understood.notices.iter().filter(|remark| remark.is_warning);
    told.map(ToString::to_string).collect()
}

fn notes(understood: &LoadedConfig) -> Vec<String> {
    let told = understood
        .notices
        .iter()
        .filter(|remark| !remark.is_warning);
    told.map(ToString::to_string).collect()
}

/// The whole example of the stock registry's documentation that can be served from a folder.
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

#[test]
fn everything_at_once() {
    let understood = with(FULL, &[]).unwrap();
    let Config {
        log,
        storage,
        auth,
        http,
        catalog_max_entries,
        tags_max,
        cache,
        imgsync,
    } = &understood.config;
    assert_eq!(
        (log.level, log.formatter),
        (LogLevel::Debug, LogFormat::Json)
    );
    assert!(!log.is_access_log_enabled && log.fields.len() == 2);
    assert_eq!(storage.root, Path::new("/var/lib/registry"));
    assert!(storage.is_delete_enabled && !storage.is_read_only);
    assert_eq!(storage.purging.age, Duration::from_secs(100 * 3600));
    assert_eq!(storage.purging.interval, Duration::from_secs(5400));
    assert!(storage.purging.is_enabled && !storage.purging.is_dry_run);
    let auth = auth.as_ref().unwrap();
    assert_eq!(
        (auth.realm.as_str(), auth.path.as_path()),
        ("basic-realm", Path::new("/auth/htpasswd"))
    );
    assert_eq!(
        http.listen_address,
        ListenAddress::Tcp("localhost:5000".parse().unwrap())
    );
    assert_eq!(http.prefix, "/my/nested/registry");
    assert_eq!(
        http.host.as_deref(),
        Some("https://myregistryaddress.org:5000")
    );
    assert_eq!(
        (http.relative_urls, http.drain_timeout),
        (Some(false), Duration::from_secs(90))
    );
    let tls = http.tls.as_ref().unwrap();
    assert_eq!(
        (tls.min_version, tls.certificate.to_str()),
        (TlsVersion::V1_3, Some("/path/to/x509/public"))
    );
    assert_eq!(
        http.headers[1],
        (
            "Access-Control-Allow-Origin".to_owned(),
            vec!["*".to_owned(), "null".to_owned()]
        )
    );
    assert_eq!(http.debug_address, Some("localhost:5001".parse().unwrap()));
    assert!(!http.is_http2_enabled && !http.is_h2c_enabled);
    assert_eq!((*catalog_max_entries, *tags_max), (500, 1000));
    assert_eq!(imgsync.read_timeout, Duration::from_secs(60));
    assert!(!format!("{:?}", understood.config).contains("asecret"));
    let told = warnings(&understood);
    assert_eq!(http.metrics_path.as_deref(), Some("/metrics"));
    assert!(cache.upstreams.is_empty());
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("c.yml:65: validation: not supported"));
    let told = notes(&understood).join("\n");
    for key in [
        "maxthreads",
        "storage.redirect",
        "storage.cache",
        "storage.tag",
        "health.storagedriver",
    ] {
        assert!(told.contains(key), "{key}: {told}");
    }
}

#[test]
fn what_counts_is_printed_with_where_it_came_from() {
    let given = [
        ("REGISTRY_LOG_LEVEL", "warn"),
        ("REGISTRY_HTTP_HEADERS_Authorization", "[Bearer abc]"),
    ];
    let given = variables(&given);
    let understood = parse_config(ConfigInput {
        file: Some((
            "c.yml",
            "version: 0.1\nlog: {fields: {a.b: 'x: y'}}\nstorage: filesystem\nhttp:\n  \
                              secret: swordfish\n  headers: {X-A: [nosniff, '']}\nauth: {htpasswd: {path: /p}}\n",
        )),
        variables: &given,
        arguments: &[("--addr", "http.addr", ":0".to_owned())],
    });
    let printed = understood.unwrap().to_yaml();
    assert_eq!(
        printed,
        r#"version: 0.1
log:
  level: warn  # REGISTRY_LOG_LEVEL
  formatter: text  # default
  fields:
    a.b: "x: y"  # c.yml:2
  accesslog:
    disabled: false  # default
storage:
  filesystem:
    rootdirectory: /var/lib/registry  # default
  delete:
    enabled: false  # default
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
    realm: Registry  # default
    path: /p  # c.yml:7
http:
  net: tcp  # default
  addr: :0  # --addr
  prefix: /  # default
  secret: "******"  # c.yml:5
  draintimeout: 60s  # default
  headers:
    X-A: [nosniff, ""]  # c.yml:6
    authorization: "******"  # REGISTRY_HTTP_HEADERS_Authorization
  http2:
    disabled: false  # default
  h2c:
    enabled: false  # default
catalog:
  maxentries: 1000  # default
tags:
  maxtags: 1000  # default
imgsync:
  trustedproxies: [127.0.0.0/8, ::1]  # default
  limits:
    connections: 512  # default
    openuploads: 1000  # default
  stall: 60s  # default
  writestall: 1h  # default
"#
    );
}

#[test]
fn what_is_printed_says_the_same_again() {
    let quirks = format!(
        "{BASE}auth: {{htpasswd: {{path: /p}}}}\nlog: {{level: WARN, fields: {{a: 'yes: #', b: \"line\\nend\", c: null, d: '~', 'e f': '- x'}}}}\n\
         imgsync: {{anonymous: {{pull: ['public/*', '*']}}, trustedproxies: [127.0.0.1/8, '::1']}}\n"
    );
    for text in [FULL, BASE, &quirks] {
        let mut first = with(text, &[]).unwrap();
        let again = with(&first.to_yaml(), &[]).unwrap_or_else(|problems| panic!("{problems}"));
        if first.config.http.secret.is_some() {
            first.config.http.secret = Some(Secret("******".to_owned()));
        }
        assert_eq!(first.config, again.config);
    }
}

#[test]
fn without_a_file() {
    let understood = parse_config(ConfigInput::default()).unwrap();
    assert_eq!(understood.config.storage.root, Path::new("./data"));
    assert_eq!(
        understood.config.http.listen_address,
        ListenAddress::Tcp("127.0.0.1:5000".parse().unwrap())
    );
    assert!(understood.config.storage.is_delete_enabled);
    assert!(understood.notices.is_empty(), "{:?}", understood.notices);
}

#[test]
fn the_version_must_be_said() {
    for text in [
        "",
        "storage: filesystem\n",
        "version: 0.2\nstorage: filesystem\n",
        "version: [0.1]\n",
    ] {
        assert!(
            refusal(text, &[]).contains("unsupported version"),
            "{text:?}"
        );
    }
    assert!(refusal("", &[]).contains("c.yml:1: version: unsupported version: \"\""));
    with("version: '0.1'\nstorage: filesystem\n", &[]).unwrap();
    let understood = environment(&[("REGISTRY_VERSION", "0.3")]);
    assert!(warnings(&understood)[0].starts_with("REGISTRY_VERSION: version: ignored"));
}

#[test]
fn what_is_not_yaml() {
    assert!(refusal("version: 0.1\nlog: [\n", &[]).contains("c.yml:3: not YAML"));
    let twice = file("log: {level: info}\nlog: {level: debug}\n");
    assert_eq!(twice.config.log.level, LogLevel::Debug);
    assert!(
        warnings(&twice)[0].contains("c.yml:5: log: stands twice"),
        "{:?}",
        warnings(&twice)
    );
}

#[test]
fn one_storage_driver() {
    let root = |text: &str| with(text, &[]).unwrap().config.storage.root;
    assert_eq!(
        root("version: 0.1\nstorage: filesystem\n"),
        Path::new("/var/lib/registry")
    );
    assert_eq!(
        root("version: 0.1\nstorage: {filesystem: }\n"),
        Path::new("/var/lib/registry")
    );
    for text in [
        "version: 0.1\n",
        "version: 0.1\nstorage: {delete: {enabled: true}}\n",
    ] {
        assert!(
            refusal(text, &[]).contains("no storage configuration provided"),
            "{text}"
        );
    }
    for driver in ["s3", "azure", "gcs", "swift", "oss", "inmemory"] {
        let text = refusal(
            &format!("version: 0.1\nstorage: {{{driver}: {{bucket: b}}}}\n"),
            &[],
        );
        assert!(
            text.contains(&format!(
                "c.yml:2: storage.{driver}: not supported: this storage driver is not there"
            )),
            "{text}"
        );
        let text = refusal(BASE, &[("REGISTRY_STORAGE", driver)]);
        assert!(
            text.contains(&format!(
                "REGISTRY_STORAGE: storage.{driver}: not supported"
            )),
            "{text}"
        );
    }
    let text = refusal("version: 0.1\nstorage: {filesystem: {}, s3: {}}\n", &[]);
    assert!(
        text.contains("takes one driver, and has filesystem (c.yml:2) and s3 (c.yml:2)"),
        "{text}"
    );
    let text = refusal(BASE, &[("REGISTRY_STORAGE_S3_BUCKET", "b")]);
    assert!(
        text.contains("has filesystem (c.yml:2) and s3 (REGISTRY_STORAGE_S3_BUCKET)"),
        "{text}"
    );
    let text = refusal("version: 0.1\nstorage: {filesytem: {}}\n", &[]);
    assert!(text.contains("storage.filesytem: neither a storage driver nor a setting; did you mean storage.filesystem?"), "{text}");
}

#[test]
fn a_typo_is_told_with_what_was_meant() {
    // F12: the stock registry reads this without a word, and listens nowhere in particular.
    let understood = with(
        "version: 0.1\nstorage: filesystem\nhttp: {adr: ':5000'}\nlgo: {}\nlog:\n  feilds: {}\n",
        &[],
    );
    let understood = understood.unwrap();
    assert_eq!(
        warnings(&understood),
        [
            "c.yml:3: http.adr: unknown key, ignored; did you mean http.addr?",
            "c.yml:4: lgo: unknown key, ignored; did you mean log?",
            "c.yml:6: log.feilds: unknown key, ignored; did you mean log.fields?",
        ]
    );
    assert_eq!(
        warnings(&file("whatever: 1\n")),
        ["c.yml:4: whatever: unknown key, ignored"]
    );
    for (more, text) in [
        (
            "auth: {htpasswd: {realm: r, path: /p, pth: /q}}",
            "auth.htpasswd.pth: unknown key; did you mean auth.htpasswd.path?",
        ),
        (
            "auth: {htpaswd: {realm: r, path: /p}}",
            "auth.htpaswd: unknown way of logging in; did you mean auth.htpasswd?",
        ),
        ("auth: ldap", "auth.ldap: unknown way of logging in"),
        (
            "imgsync: {anonymus: {}}",
            "imgsync.anonymus: unknown key; did you mean imgsync.anonymous?",
        ),
    ] {
        let refused = refused(more);
        assert!(refused.contains(text), "{refused}");
    }
    let text = refusal(
        "version: 0.1\nstorage: filesystem\nhttp: {tls: {clientca: [/x]}}\n",
        &[],
    );
    assert!(
        text.contains("http.tls.clientca: unknown key; did you mean http.tls.clientcas?"),
        "{text}"
    );
}

#[test]
fn what_would_weaken_security_or_make_another_server_is_refused() {
    for (more, key) in [
        (
            "auth: {token: {realm: r, service: s, issuer: i, rootcertbundle: /x}}",
            "auth.token",
        ),
        ("auth: {silly: {realm: r, service: s}}", "auth.silly"),
        ("auth: silly", "auth.silly"),
        (
            "proxy: {remoteurl: 'https://registry-1.docker.io', exec: {command: /x}}",
            "proxy.exec",
        ),
        ("auth: {htpasswd: {realm: r}}", "auth.htpasswd.path"),
        ("auth: {htpasswd: {path: /p}, none: {}}", "auth"),
    ] {
        let text = refused(more);
        assert!(text.contains(&format!("c.yml:4: {key}: ")), "{text}");
    }
    for (tls, key) in [
        ("clientcas: [/ca.pem]", "http.tls.clientcas"),
        ("clientauth: request-client-cert", "http.tls.clientauth"),
        (
            "letsencrypt: {email: a@b, hosts: [a.example.com]}",
            "http.tls.letsencrypt",
        ),
        ("certificate: /c", "http.tls.key"),
        ("key: /k", "http.tls.certificate"),
        ("minimumtls: tls1.2", "http.tls.certificate"),
        (
            "{certificate: /c, key: /k, minimumtls: ssl3}",
            "http.tls.minimumtls",
        ),
    ] {
        let tls = tls.trim_matches(['{', '}']);
        let braces = if tls.starts_with("letsencrypt") {
            "}"
        } else {
            ""
        };
        let text = format!("version: 0.1\nstorage: filesystem\nhttp: {{tls: {{{tls}{braces}}}}}\n");
        let text = refusal(&text, &[]);
        assert!(text.contains(&format!("c.yml:3: {key}: ")), "{text}");
    }
}

#[test]
fn what_says_nothing_is_not_refused() {
    let understood = file(
        "auth: none\nproxy: {remoteurl: '', ttl: 168h}\nnotifications: {endpoints: []}\nredis:\n\
         health: {storagedriver: {enabled: false}, file: []}\nvalidation: {disabled: true}\n",
    );
    assert_eq!(understood.config.auth, None);
    assert!(understood.notices.is_empty(), "{:?}", understood.notices);
    let text = "version: 0.1\nstorage: filesystem\nhttp: {tls: {clientcas: [], letsencrypt: {email: ''}}, debug: {prometheus: {enabled: false, path: /m}}}\n";
    let understood = with(text, &[]).unwrap();
    assert_eq!(
        (&understood.config.http.tls, understood.notices.len()),
        (&None, 0)
    );
}

#[test]
fn what_is_not_supported_is_named_once() {
    for (more, key) in [
        (
            "notifications: {events: {includereferences: true}, endpoints: [{name: a, url: 'http://x', headers: {A: [b]}}]}",
            "notifications",
        ),
        ("redis: {addrs: ['localhost:6379'], db: 0}", "redis"),
        ("health: {http: [{uri: 'http://x'}]}", "health.http"),
        (
            "health: {file: [{file: /tmp/down, interval: 10s}]}",
            "health.file",
        ),
        ("health: {tcp: [{addr: 'redis:6379'}]}", "health.tcp"),
        ("policy: {repository: {classes: [image]}}", "policy"),
        (
            "validation: {manifests: {indexes: {platforms: list, platformlist: [{architecture: amd64, os: linux}]}}}",
            "validation",
        ),
        (
            "middleware: {storage: [{name: redirect, options: {baseurl: 'https://x'}}]}",
            "middleware",
        ),
        ("log: {hooks: [{type: mail}]}", "log.hooks"),
        ("log: {formatter: logstash}", "log.formatter"),
    ] {
        let understood = file(more);
        let told = warnings(&understood);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with(&format!("c.yml:4: {key}: not supported: ")),
            "{told:?}"
        );
    }
    let told = warnings(&file("notifications: {endpoints: [{nmae: a}]}")).join("\n");
    assert!(told.contains("notifications.endpoints.0.nmae: unknown key, ignored; did you mean notifications.endpoints.0.name?"), "{told}");
}

#[test]
fn values_that_are_wrong_name_their_key() {
    for (more, text) in [
        (
            "log: {level: loud}",
            "c.yml:4: log.level: must be error, warn, info or debug, not \"loud\"",
        ),
        ("log: {formatter: xml}", "log.formatter: must be"),
        ("log: text", "log: must be a section"),
        ("log: {fields: [a]}", "log.fields: must be a section"),
        (
            "catalog: {maxentries: many}",
            "catalog.maxentries: must be a whole number",
        ),
        (
            "imgsync: {trustedproxies: [10/8]}",
            "imgsync.trustedproxies: ",
        ),
        (
            "imgsync: {limits: {connections: 0}}",
            "imgsync.limits.connections: must be a number above 0",
        ),
        (
            "imgsync: {stall: 5}",
            "imgsync.stall: must be a duration with its unit",
        ),
    ] {
        let refused = refused(more);
        assert!(refused.contains(text), "{refused}");
    }
    for (http, text) in [
        ("addr: 5000", "http.addr: "),
        ("addr: [a]", "http.addr: must be a single value"),
        ("net: udp", "http.net: must be tcp or unix"),
        ("net: unix", "http.addr: must be set"),
        ("host: reg.example.com", "http.host: must be a URL"),
        ("prefix: '/a b/'", "http.prefix: must be a path"),
        (
            "draintimeout: 60",
            "http.draintimeout: must be a duration with its unit",
        ),
        (
            "relativeurls: maybe",
            "http.relativeurls: must be true or false",
        ),
        (
            "headers: {'X Y': [a]}",
            "http.headers.X Y: must be the name of a header",
        ),
        (
            "headers: {X: [\"a\\r\\nSet-Cookie: b\"]}",
            "http.headers.X: must be plain ASCII",
        ),
        (
            "headers: {Content-Length: ['0']}",
            "http.headers.Content-Length: says how long an answer is",
        ),
        ("headers: {X: {y: z}}", "http.headers.X: must be a list"),
    ] {
        let refused = refusal(
            &format!("version: 0.1\nstorage: filesystem\nhttp: {{{http}}}\n"),
            &[],
        );
        assert!(refused.contains(text), "{refused}");
    }
    // All of them at once.
    let refused = refused("log: {level: loud}\ncatalog: {maxentries: x}\nproxy: {remoteurl: x}\n");
    assert_eq!(refused.lines().count(), 4, "{refused}");
}

#[test]
fn old_and_lax_words() {
    assert_eq!(file("loglevel: debug\n").config.log.level, LogLevel::Debug);
    assert_eq!(
        file("loglevel: debug\nlog: {level: Error}\n")
            .config
            .log
            .level,
        LogLevel::Error
    );
    let text = "version: 0.1\nstorage: {filesystem: {}, delete: {enabled: yes}, maintenance: {readonly: {enabled: 'on'}}}\n";
    let storage = with(text, &[]).unwrap().config.storage;
    assert!(storage.is_delete_enabled && storage.is_read_only);
    let text = "version: 0.1\nstorage: filesystem\nhttp: {net: unix, addr: /run/r.sock, headers: {X-A: b}, tls: {certificate: /c, key: /k, minimumtls: tls1.0}}\n";
    let understood = with(text, &[]).unwrap();
    assert_eq!(
        understood.config.http.listen_address,
        ListenAddress::Unix("/run/r.sock".into())
    );
    assert_eq!(
        understood.config.http.headers,
        [("X-A".to_owned(), vec!["b".to_owned()])]
    );
    assert!(warnings(&understood)[0].contains("TLS 1.2 is the oldest"));
}

#[test]
fn variables_of_every_tutorial() {
    let given = [
        ("REGISTRY_AUTH", "htpasswd"),
        ("REGISTRY_AUTH_HTPASSWD_REALM", "Registry Realm"),
        ("REGISTRY_AUTH_HTPASSWD_PATH", "/auth/htpasswd"),
        ("REGISTRY_HTTP_ADDR", "0.0.0.0:443"),
        ("REGISTRY_HTTP_TLS_CERTIFICATE", "/certs/domain.crt"),
        ("REGISTRY_HTTP_TLS_KEY", "/certs/domain.key"),
        ("REGISTRY_HTTP_SECRET", "asecret"),
        ("REGISTRY_HTTP_HOST", "https://reg.example.com"),
        ("REGISTRY_HTTP_RELATIVEURLS", "true"),
        (
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY",
            "/data/registry",
        ),
        ("REGISTRY_STORAGE_DELETE_ENABLED", "true"),
        ("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "inmemory"),
        (
            "REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_ENABLED",
            "false",
        ),
        ("REGISTRY_LOG_LEVEL", "warn"),
        ("REGISTRY_HTTP_DEBUG_ADDR", ":5001"),
        ("REGISTRY_HTTP_HEADERS_Access-Control-Allow-Origin", "['*']"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("PATH", "/bin"),
    ];
    let understood = environment(&given);
    assert_eq!(warnings(&understood), [""; 0]);
    let config = understood.config;
    let auth = config.auth.unwrap();
    assert_eq!(
        (auth.realm.as_str(), auth.path.to_str()),
        ("Registry Realm", Some("/auth/htpasswd"))
    );
    assert_eq!(
        config.http.listen_address,
        ListenAddress::Tcp("0.0.0.0:443".parse().unwrap())
    );
    assert_eq!(config.http.tls.unwrap().key, Path::new("/certs/domain.key"));
    assert_eq!(config.http.secret, Some(Secret("asecret".to_owned())));
    assert_eq!(config.http.relative_urls, Some(true));
    assert_eq!(config.storage.root, Path::new("/data/registry"));
    assert!(config.storage.is_delete_enabled && !config.storage.purging.is_enabled);
    assert_eq!(config.log.level, LogLevel::Warn);
    assert_eq!(config.http.debug_address, Some(":5001".parse().unwrap()));
    assert_eq!(
        config.http.headers,
        [(
            "access-control-allow-origin".to_owned(),
            vec!["*".to_owned()]
        )]
    );
    // The same without the short form, and without a file.
    let given = variables(&given[1..3]);
    let understood = parse_config(ConfigInput {
        variables: &given,
        ..ConfigInput::default()
    });
    assert!(understood.unwrap().config.auth.is_some());
}

#[test]
fn read_only_by_the_documented_rule() {
    // F11: the first of these makes the stock registry panic.
    for (name, value) in [
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true"),
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{enabled: true}"),
        (
            "REGISTRY_STORAGE_MAINTENANCE",
            "{readonly: {enabled: true}}",
        ),
    ] {
        assert!(
            environment(&[(name, value)]).config.storage.is_read_only,
            "{name}"
        );
    }
    let text = "version: 0.1\nstorage: {filesystem: , maintenance: {readonly: , uploadpurging: {age: 1h}}}\n";
    let understood = with(
        text,
        &[("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")],
    )
    .unwrap();
    let storage = understood.config.storage;
    assert!(storage.is_read_only && storage.purging.age == Duration::from_secs(3600));
}

#[test]
fn lists_by_item() {
    // F12: the stock registry makes one empty word of these.
    let text = refusal(
        BASE,
        &[("REGISTRY_HTTP_TLS_LETSENCRYPT_HOSTS_0", "a.example.com")],
    );
    assert!(
        text.contains("REGISTRY_HTTP_TLS_LETSENCRYPT_HOSTS_0: http.tls.letsencrypt: not supported"),
        "{text}"
    );
    let pull = |given: &[(&str, &str)]| {
        let patterns = environment(given).config.imgsync.anonymous_pull;
        patterns.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let mut given: Vec<_> = (0..12)
        .map(|i| {
            (
                format!("REGISTRY_IMGSYNC_ANONYMOUS_PULL_{i}"),
                format!("r{i}/*"),
            )
        })
        .collect();
    given.reverse();
    let given: Vec<_> = given
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        pull(&given),
        (0..12).map(|i| format!("r{i}/*")).collect::<Vec<_>>()
    );
    assert_eq!(
        pull(&[("REGISTRY_IMGSYNC_ANONYMOUS_PULL", "[a, b/*]")]),
        ["a", "b/*"]
    );
    assert_eq!(pull(&[("REGISTRY_IMGSYNC_ANONYMOUS_PULL", "a")]), ["a"]);
    let both = [
        ("REGISTRY_IMGSYNC_ANONYMOUS_PULL", "[a, b]"),
        ("REGISTRY_IMGSYNC_ANONYMOUS_PULL_1", "c"),
    ];
    assert_eq!(pull(&both), ["a", "c"]);
    let text = refusal(BASE, &[("REGISTRY_IMGSYNC_ANONYMOUS_PULL_1", "a")]);
    assert!(
        text.contains(
            "REGISTRY_IMGSYNC_ANONYMOUS_PULL_1: imgsync.anonymous.pull.1: item 1 without an item 0"
        ),
        "{text}"
    );
    let understood = environment(&[
        ("REGISTRY_HTTP_HEADERS_X-A_0", "b"),
        ("REGISTRY_HTTP_HEADERS_X-A_1", "c"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", "http://x"),
    ]);
    assert_eq!(
        understood.config.http.headers,
        [("x-a".to_owned(), vec!["b".to_owned(), "c".to_owned()])]
    );
    assert_eq!(warnings(&understood).len(), 1);
}

#[test]
fn both_spellings() {
    for (name, key) in [
        (
            "REGISTRY_NOTIFICATIONS_EVENTS_INCLUDEREFERENCES",
            "notifications",
        ),
        (
            "REGISTRY_NOTIFICATIONS_EVENTCONFIG_INCLUDEREFERENCES",
            "notifications",
        ),
        ("REGISTRY_HEALTH_FILE_0_FILE", "health.file"),
        ("REGISTRY_HEALTH_FILECHECKERS_0_FILE", "health.file"),
        ("REGISTRY_HEALTH_HTTPCHECKERS_0_URI", "health.http"),
        ("REGISTRY_HEALTH_TCPCHECKERS_0_ADDR", "health.tcp"),
    ] {
        let told = warnings(&environment(&[(name, "true")]));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with(&format!("{name}: {key}: not supported")),
            "{told:?}"
        );
    }
}

#[test]
fn unknown_variables_only_warn() {
    let understood = environment(&[
        ("REGISTRY_FOO_BAR", "x"),
        ("REGISTRY_HTTP_ADR", ":1"),
        ("REGISTRY_http_addr", ":1"),
        ("registry_http_addr", ":1"),
        ("REGISTRY_HTTP_ADDR_X", ":1"),
        ("REGISTRY_", "x"),
        ("REGISTRY_STORAGE_FILESYSTEM", ""),
    ]);
    assert_eq!(
        understood.config.http.listen_address,
        ListenAddress::Tcp(":5000".parse().unwrap())
    );
    assert_eq!(
        warnings(&understood),
        [
            "REGISTRY_: no such setting, ignored",
            "REGISTRY_FOO_BAR: no such setting, ignored",
            "REGISTRY_HTTP_ADDR_X: no such setting, ignored",
            "REGISTRY_HTTP_ADR: no such setting, ignored; did you mean REGISTRY_HTTP_ADDR?",
            "REGISTRY_STORAGE_FILESYSTEM: storage.filesystem: empty, ignored; {} says that nothing is wanted",
            "REGISTRY_http_addr: no such setting, ignored; did you mean REGISTRY_HTTP_ADDR?",
        ]
    );
}

#[test]
fn links_to_services_are_no_settings() {
    // Kubernetes, with services called registry, registry-auth and registry-storage.
    let understood = environment(&[
        ("REGISTRY_PORT", "tcp://10.0.0.1:5000"),
        ("REGISTRY_PORT_5000_TCP", "tcp://10.0.0.1:5000"),
        ("REGISTRY_PORT_5000_TCP_ADDR", "10.0.0.1"),
        ("REGISTRY_PORT_5000_TCP_PORT", "5000"),
        ("REGISTRY_PORT_5000_TCP_PROTO", "tcp"),
        ("REGISTRY_SERVICE_HOST", "10.0.0.1"),
        ("REGISTRY_SERVICE_PORT", "5000"),
        ("REGISTRY_SERVICE_PORT_HTTP", "5000"),
        ("REGISTRY_AUTH_SERVICE_HOST", "10.0.0.2"),
        ("REGISTRY_AUTH_PORT", "tcp://10.0.0.2:5001"),
        ("REGISTRY_STORAGE_PORT_9000_TCP_ADDR", "10.0.0.3"),
    ]);
    assert_eq!(warnings(&understood), [""; 0]);
    assert_eq!(
        (notes(&understood).len(), understood.config.auth),
        (11, None)
    );
}

#[test]
fn a_typo_in_a_variable_that_locks_the_door_is_refused() {
    for (name, text) in [
        (
            "REGISTRY_AUTH_HTPASWD_PATH",
            "no such setting; did you mean REGISTRY_AUTH_HTPASSWD_PATH?",
        ),
        (
            "REGISTRY_AUTH_HTPASSWD_PTH",
            "no such setting; did you mean REGISTRY_AUTH_HTPASSWD_PATH?",
        ),
        (
            "REGISTRY_HTTP_TLS_CLIENTCA",
            "no such setting; did you mean REGISTRY_HTTP_TLS_CLIENTCAS?",
        ),
        ("REGISTRY_AUTH_TOKEN_REALM", "auth.token: not supported"),
        ("REGISTRY_PROXY_EXEC_COMMAND", "proxy.exec: not supported"),
        (
            "REGISTRY_STORAGE_FILESYTEM_ROOTDIRECTORY",
            "did you mean REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY?",
        ),
    ] {
        let refused = refusal(BASE, &[(name, "/x")]);
        assert!(
            refused.contains(&format!("{name}: ")) && refused.contains(text),
            "{refused}"
        );
    }
    // An empty one takes nothing away.
    let text = format!("{BASE}auth: {{htpasswd: {{path: /p}}}}\n");
    let understood = with(&text, &[("REGISTRY_AUTH", "")]).unwrap();
    assert!(understood.config.auth.is_some());
    assert!(warnings(&understood)[0].starts_with("REGISTRY_AUTH: auth: empty, ignored"));
}

#[test]
fn a_lock_that_is_misspelt_or_stands_in_the_wrong_place_is_refused() {
    for more in [
        "auht: {htpasswd: {realm: r, path: /p}}",
        "Auth: {htpasswd: {realm: r, path: /p}}",
        "AUTH: htpasswd",
        "aut:",
        "htpasswd: {realm: r, path: /p}",
        "Htpasswd: {path: /p}",
        "security: {htpasswd: {path: /p}}",
        "login: [{realm: r, path: /p}]",
        "tls: {certificate: /c, key: /k}",
        "tsl: {key: /k}",
        "Http: {tls: {certificate: /c, key: /k}}",
        "Storage: {filesystem: {}}",
        "log: {auth: {htpasswd: {path: /p}}}",
        "log: {htpasswd: {path: /p}}",
    ] {
        let text = refused(more);
        assert!(
            text.contains("c.yml:4: ") && text.contains(": unknown key"),
            "{text}"
        );
    }
    for http in [
        "tsl: {certificate: /c, key: /k}",
        "TLS: {certificate: /c, key: /k}",
        "certificate: /c, key: /k",
        "https: {certificate: /c, key: /k}",
        "auth: {htpasswd: {path: /p}}",
    ] {
        let text = format!("version: 0.1\nstorage: filesystem\nhttp: {{{http}}}\n");
        let text = refusal(&text, &[]);
        assert!(
            text.contains("c.yml:3: http.") && text.contains(": unknown key"),
            "{text}"
        );
    }
    for name in [
        "REGISTRY_AUHT_HTPASSWD_PATH",
        "REGISTRY_auth_htpasswd_path",
        "REGISTRY_Auth_HTPASSWD_PATH",
        "REGISTRY_HTPASSWD_PATH",
        "REGISTRY_LOGIN_HTPASSWD_PATH",
        "REGISTRY_HTTP_TSL_CERTIFICATE",
        "REGISTRY_HTTP_TSL_KEY",
        "REGISTRY_HTTP_CERTIFICATE",
        "REGISTRY_HTP_TLS_CERTIFICATE",
        "REGISTRY_TLS_KEY",
        "REGISTRY_STORGE_FILESYSTEM_ROOTDIRECTORY",
    ] {
        let text = refusal(BASE, &[(name, "/x")]);
        assert!(text.contains(&format!("{name}: no such setting")), "{text}");
    }
    // Kubernetes, with services called registry-auht, registry-tls and registry-htpasswd; and what
    // old Dockers tell of a linked container's variables.
    let understood = environment(&[
        ("REGISTRY_AUHT_PORT", "tcp://10.0.0.2:5001"),
        ("REGISTRY_AUHT_PORT_5001_TCP_PROTO", "tcp"),
        ("REGISTRY_HTPASSWD_SERVICE_HOST", "10.0.0.1"),
        ("REGISTRY_TLS_SERVICE_PORT_HTTPS", "443"),
        ("REGISTRY_ENV_REGISTRY_AUTH_HTPASSWD_PATH", "/p"),
    ]);
    assert_eq!(
        (warnings(&understood).len(), notes(&understood).len()),
        (0, 5)
    );
}

#[test]
fn an_empty_variable_takes_no_lock_away() {
    let text = "version: 0.1\nstorage: filesystem\nhttp: {tls: {certificate: /c, key: /k}}\n\
                auth: {htpasswd: {realm: r, path: /p}}\n";
    let names = [
        "REGISTRY_AUTH_HTPASSWD_PATH",
        "REGISTRY_AUTH_HTPASSWD_REALM",
        "REGISTRY_HTTP_TLS_CERTIFICATE",
        "REGISTRY_HTTP_TLS_KEY",
    ];
    for empty in ["", " ", "''", "~"] {
        let understood = with(text, &names.map(|name| (name, empty))).unwrap();
        assert_eq!(understood.config, with(text, &[]).unwrap().config);
        let told = warnings(&understood);
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(
            told.iter().all(|text| text.contains("empty, ignored")),
            "{told:?}"
        );
    }
}

#[test]
fn values_that_are_not_yaml_are_what_they_are() {
    for addr in ["[::]:5000", ":5000", "'127.0.0.1:5000'"] {
        let bind = environment(&[("REGISTRY_HTTP_ADDR", addr)])
            .config
            .http
            .listen_address;
        assert_eq!(
            bind,
            ListenAddress::Tcp(addr.trim_matches('\'').parse().unwrap())
        );
    }
    let secret = environment(&[("REGISTRY_HTTP_SECRET", "%a{b: *c")])
        .config
        .http
        .secret;
    assert_eq!(secret, Some(Secret("%a{b: *c".to_owned())));
    assert_eq!(
        environment(&[("REGISTRY_HTTP_ADDR", "")])
            .config
            .http
            .listen_address,
        ListenAddress::Tcp("127.0.0.1:5000".parse().unwrap())
    );
    let text = refusal(BASE, &[("REGISTRY_HTTP_HEADERS", "{a: [")]);
    assert!(
        text.contains("REGISTRY_HTTP_HEADERS: http.headers: not YAML"),
        "{text}"
    );
    let fields = environment(&[("REGISTRY_LOG_FIELDS_MY_FIELD", "x")])
        .config
        .log
        .fields;
    assert_eq!(fields, [("my_field".to_owned(), "x".to_owned())]);
}

#[test]
fn arguments_count_most() {
    let given = variables(&[("REGISTRY_HTTP_ADDR", ":1")]);
    let input = ConfigInput {
        file: Some(("c.yml", BASE)),
        variables: &given,
        arguments: &[
            ("--addr", "http.addr", ":2".to_owned()),
            (
                "--root",
                "storage.filesystem.rootdirectory",
                "/r: #".to_owned(),
            ),
        ],
    };
    let config = parse_config(input).unwrap().config;
    assert_eq!(
        (config.http.listen_address, config.storage.root.to_str()),
        (ListenAddress::Tcp(":2".parse().unwrap()), Some("/r: #"))
    );
}

#[test]
fn logins_end_only_with_a_restart() {
    let open = file("").config;
    let locked = |path: &str| file(&format!("auth: {{htpasswd: {{path: {path}}}}}\n")).config;
    for (old, new, kept) in [
        (&locked("/p"), &open, Some("/p")),
        (&locked("/p"), &locked("/q"), None),
        (&open, &locked("/q"), None),
        (&open, &open, None),
    ] {
        let mut now = new.clone();
        assert_eq!(keep_auth(old, &mut now), kept.is_some());
        assert_eq!(
            now.auth,
            if kept.is_some() { &old.auth } else { &new.auth }.clone()
        );
    }
}

#[test]
fn what_counts_only_after_a_restart() {
    let changed = |more: &str, given: &[(&str, &str)]| {
        let text = format!("{BASE}{more}");
        let new = with(&text, given).unwrap_or_else(|problems| panic!("{problems}"));
        keys_needing_restart(&environment(&[]).config, &new.config)
    };
    assert_eq!(changed("", &[]), [""; 0]);
    for (name, value, key) in [
        (
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY",
            "/other",
            "storage.filesystem.rootdirectory",
        ),
        ("REGISTRY_HTTP_ADDR", ":5001", "http.addr"),
        ("REGISTRY_HTTP_NET", "unix", "http.addr"),
        (
            "REGISTRY_HTTP_TLS",
            "{certificate: /c, key: /k}",
            "http.tls",
        ),
        ("REGISTRY_HTTP_DEBUG_ADDR", ":5001", "http.debug.addr"),
        ("REGISTRY_LOG_FORMATTER", "json", "log.formatter"),
        ("REGISTRY_LOG_FIELDS_A", "b", "log.fields"),
        ("REGISTRY_IMGSYNC_STALL", "5s", "imgsync.stall"),
        (
            "REGISTRY_IMGSYNC_LIMITS_CONNECTIONS",
            "5",
            "imgsync.limits.connections",
        ),
    ] {
        assert_eq!(changed("", &[(name, value)]), [key]);
    }
    let live = "log: {level: debug}\ncatalog: {maxentries: 5}\nauth: {htpasswd: {path: /p}}\n\
                imgsync: {anonymous: {pull: [a]}, trustedproxies: [10.0.0.1], limits: {openuploads: 3}}\n";
    let given = [
        ("REGISTRY_HTTP_HEADERS_X-A", "[b]"),
        ("REGISTRY_HTTP_PREFIX", "/x/"),
        ("REGISTRY_STORAGE_DELETE_ENABLED", "true"),
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true"),
    ];
    assert_eq!(changed(live, &given), [""; 0]);
}

#[test]
fn defaults_are_documented() {
    let text = include_str!("../../../docs/server.md");
    let more = "auth: {htpasswd: {path: /users}}\n\
                imgsync: {cache: {upstreams: [{prefix: a, remoteurl: 'https://a.example'}]}}\n";
    let proxy = "proxy: {remoteurl: 'https://b.example'}\n";
    for file in [more.to_owned(), format!("{more}{proxy}")] {
        let file = format!("version: 0.1\nstorage: filesystem\n{file}");
        let input = ConfigInput {
            file: Some(("config.yml", &file)),
            ..ConfigInput::default()
        };
        let entries = parse_config(input).unwrap().settings;
        let defaults = entries
            .iter()
            .filter(|it| it.origin == ValueOrigin::Default);
        // An upstream takes the default of another key.
        for entry in defaults.filter(|it| it.path.last().unwrap() != "freshness") {
            let name = |part: &String| match part.parse::<usize>() {
                Ok(_) => "#".to_owned(),
                Err(_) => part.clone(),
            };
            let path = entry.path.iter().map(name).collect::<Vec<_>>().join(".");
            let value = match &entry.value {
                ShownValue::Scalar(value) => format!("`{value}`"),
                ShownValue::List(values) => format!("`{}`", values.join("`, `")),
                ShownValue::Secret => panic!("{path} has a default"),
            };
            let row = text
                .lines()
                .find(|row| row.starts_with(&format!("| `{path}`<br>")));
            let cell = row
                .and_then(|row| row.split(" | ").nth(2))
                .unwrap_or_default();
            assert!(cell.starts_with(&value), "{path}: {value} is not {cell}");
        }
    }
}
