//! Environment variables and command-line options.

use std::path::Path;
use std::time::Duration;

use super::*;

#[test]
fn variables_of_every_tutorial() {
    let tutorial = [
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
    let loaded = load_with_variables(&tutorial);
    assert_eq!(warnings(&loaded), [""; 0]);
    let config = loaded.config;
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
    // Without `REGISTRY_AUTH`, and without a file.
    let loaded = parse_config(ConfigInput {
        variables: &variables(&tutorial[1..3]),
        ..ConfigInput::default()
    });
    assert!(loaded.unwrap().config.auth.is_some());
}

#[test]
fn read_only_by_the_documented_rule() {
    // The first of these makes the stock registry panic.
    for (name, value) in [
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true"),
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{enabled: true}"),
        (
            "REGISTRY_STORAGE_MAINTENANCE",
            "{readonly: {enabled: true}}",
        ),
    ] {
        assert!(
            load_with_variables(&[(name, value)])
                .config
                .storage
                .is_read_only,
            "{name}"
        );
    }
    let text = "version: 0.1\nstorage: {filesystem: , maintenance: {readonly: , uploadpurging: {age: 1h}}}\n";
    let loaded = load(
        text,
        &[("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")],
    )
    .unwrap();
    let storage = loaded.config.storage;
    assert!(storage.is_read_only && storage.purging.age == Duration::from_secs(3600));
}

#[test]
fn list_items_by_index() {
    // The stock registry makes a list with one empty item of these.
    let text = load_errors(
        BASE,
        &[("REGISTRY_HTTP_TLS_LETSENCRYPT_HOSTS_0", "a.example.com")],
    );
    assert!(
        text.contains("REGISTRY_HTTP_TLS_LETSENCRYPT_HOSTS_0: http.tls.letsencrypt: not supported"),
        "{text}"
    );
    let pull = |pairs: &[(&str, &str)]| {
        let patterns = load_with_variables(pairs).config.imgsync.anonymous_pull;
        patterns.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let items: Vec<_> = (0..12)
        .rev()
        .map(|index| {
            (
                format!("REGISTRY_IMGSYNC_ANONYMOUS_PULL_{index}"),
                format!("r{index}/*"),
            )
        })
        .collect();
    let items: Vec<_> = items
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        pull(&items),
        (0..12)
            .map(|index| format!("r{index}/*"))
            .collect::<Vec<_>>()
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
    let text = load_errors(BASE, &[("REGISTRY_IMGSYNC_ANONYMOUS_PULL_1", "a")]);
    assert!(
        text.contains(
            "REGISTRY_IMGSYNC_ANONYMOUS_PULL_1: imgsync.anonymous.pull.1: item 1 is set, but item 0 is not"
        ),
        "{text}"
    );
    let loaded = load_with_variables(&[
        ("REGISTRY_HTTP_HEADERS_X-A_0", "b"),
        ("REGISTRY_HTTP_HEADERS_X-A_1", "c"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", "http://x"),
    ]);
    assert_eq!(
        loaded.config.http.headers,
        [("x-a".to_owned(), vec!["b".to_owned(), "c".to_owned()])]
    );
    let endpoint = &loaded.config.notifications.endpoints[0];
    assert_eq!(endpoint.url.as_ref().unwrap().to_string(), "http://x/");
    assert!(warnings(&loaded).is_empty());
}

#[test]
fn second_names_of_the_stock_registry() {
    for (name, key) in [
        ("REGISTRY_HEALTH_FILE_0_FILE", "health.file"),
        ("REGISTRY_HEALTH_FILECHECKERS_0_FILE", "health.file"),
        ("REGISTRY_HEALTH_HTTPCHECKERS_0_URI", "health.http"),
        ("REGISTRY_HEALTH_TCPCHECKERS_0_ADDR", "health.tcp"),
    ] {
        let messages = warnings(&load_with_variables(&[(name, "true")]));
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(
            messages[0].starts_with(&format!("{name}: {key}: not supported")),
            "{messages:?}"
        );
    }
}

#[test]
fn unknown_variables_only_warn() {
    let loaded = load_with_variables(&[
        ("REGISTRY_FOO_BAR", "x"),
        ("REGISTRY_HTTP_ADR", ":1"),
        ("REGISTRY_http_addr", ":1"),
        ("registry_http_addr", ":1"),
        ("REGISTRY_HTTP_ADDR_X", ":1"),
        ("REGISTRY_", "x"),
        ("REGISTRY_STORAGE_FILESYSTEM", ""),
    ]);
    assert_eq!(
        loaded.config.http.listen_address,
        ListenAddress::Tcp(":5000".parse().unwrap())
    );
    assert_eq!(
        warnings(&loaded),
        [
            "REGISTRY_: no such setting, ignored",
            "REGISTRY_FOO_BAR: no such setting, ignored",
            "REGISTRY_HTTP_ADDR_X: no such setting, ignored",
            "REGISTRY_HTTP_ADR: no such setting, ignored; did you mean REGISTRY_HTTP_ADDR?",
            "REGISTRY_STORAGE_FILESYSTEM: storage.filesystem: empty, ignored; use {} for an empty section",
            "REGISTRY_http_addr: no such setting, ignored; did you mean REGISTRY_HTTP_ADDR?",
        ]
    );
}

#[test]
fn service_links_are_no_settings() {
    // As Kubernetes sets them for the services registry, registry-auth and registry-storage.
    let loaded = load_with_variables(&[
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
    assert_eq!(warnings(&loaded), [""; 0]);
    assert_eq!((notes(&loaded).len(), loaded.config.auth), (11, None));
}

#[test]
fn values_that_are_not_yaml_are_plain_text() {
    for addr in ["[::]:5000", ":5000", "'127.0.0.1:5000'"] {
        let bind = load_with_variables(&[("REGISTRY_HTTP_ADDR", addr)])
            .config
            .http
            .listen_address;
        assert_eq!(
            bind,
            ListenAddress::Tcp(addr.trim_matches('\'').parse().unwrap())
        );
    }
    let secret = load_with_variables(&[("REGISTRY_HTTP_SECRET", "%a{b: *c")])
        .config
        .http
        .secret;
    assert_eq!(secret, Some(Secret("%a{b: *c".to_owned())));
    assert_eq!(
        load_with_variables(&[("REGISTRY_HTTP_ADDR", "")])
            .config
            .http
            .listen_address,
        ListenAddress::Tcp("127.0.0.1:5000".parse().unwrap())
    );
    let text = load_errors(BASE, &[("REGISTRY_HTTP_HEADERS", "{a: [")]);
    assert!(
        text.contains("REGISTRY_HTTP_HEADERS: http.headers: invalid YAML"),
        "{text}"
    );
    let fields = load_with_variables(&[("REGISTRY_LOG_FIELDS_MY_FIELD", "x")])
        .config
        .log
        .fields;
    assert_eq!(fields, [("my_field".to_owned(), "x".to_owned())]);
}

#[test]
fn options_override_variables_and_file() {
    let variables = variables(&[("REGISTRY_HTTP_ADDR", ":1")]);
    let input = ConfigInput {
        file: Some(("c.yml", BASE)),
        variables: &variables,
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
