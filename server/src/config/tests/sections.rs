//! Files as users write them: sections, drivers, old keys and values.

use std::path::Path;
use std::time::Duration;

use super::*;

#[test]
fn the_full_example_is_parsed() {
    let loaded = load(FULL, &[]).unwrap();
    let Config {
        file,
        log,
        storage,
        auth,
        http,
        catalog_max_entries,
        tags_max,
        cache,
        notifications,
        index_platforms,
        imgsync,
    } = &loaded.config;
    assert_eq!(file.as_deref(), Some("c.yml"));
    assert!(notifications.endpoints.is_empty() && imgsync.webhooks.is_empty());
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
    assert!(!format!("{:?}", loaded.config).contains("asecret"));
    let messages = warnings(&loaded);
    assert_eq!(http.metrics_path.as_deref(), Some("/metrics"));
    assert!(cache.upstreams.is_empty());
    assert_eq!(*index_platforms, IndexPlatforms::All);
    assert_eq!(messages.len(), 1, "{messages:#?}");
    assert!(messages[0].starts_with("c.yml:67: validation.manifests.urls: not supported"));
    let messages = notes(&loaded).join("\n");
    for key in [
        "maxthreads",
        "storage.redirect",
        "storage.cache",
        "storage.tag",
        "health.storagedriver",
    ] {
        assert!(messages.contains(key), "{key}: {messages}");
    }
}

#[test]
fn defaults_without_a_file() {
    let loaded = parse_config(ConfigInput::default()).unwrap();
    assert_eq!(loaded.config.storage.root, Path::new("./data"));
    assert_eq!(
        loaded.config.http.listen_address,
        ListenAddress::Tcp("127.0.0.1:5000".parse().unwrap())
    );
    assert!(loaded.config.storage.is_delete_enabled);
    assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
}

#[test]
fn the_version_is_required() {
    for text in [
        "",
        "storage: filesystem\n",
        "version: 0.2\nstorage: filesystem\n",
        "version: [0.1]\n",
    ] {
        assert!(
            load_errors(text, &[]).contains("unsupported version"),
            "{text:?}"
        );
    }
    assert!(load_errors("", &[]).contains("c.yml:1: version: unsupported version: \"\""));
    load("version: '0.1'\nstorage: filesystem\n", &[]).unwrap();
    let loaded = load_with_variables(&[("REGISTRY_VERSION", "0.3")]);
    assert!(warnings(&loaded)[0].starts_with("REGISTRY_VERSION: version: ignored"));
}

#[test]
fn invalid_yaml_and_duplicate_keys() {
    assert!(load_errors("version: 0.1\nlog: [\n", &[]).contains("c.yml:3: invalid YAML"));
    let twice = load_with("log: {level: info}\nlog: {level: debug}\n");
    assert_eq!(twice.config.log.level, LogLevel::Debug);
    assert!(
        warnings(&twice)[0].contains("c.yml:5: log: duplicate key"),
        "{:?}",
        warnings(&twice)
    );
}

#[test]
fn exactly_one_storage_driver() {
    let root = |text: &str| load(text, &[]).unwrap().config.storage.root;
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
            load_errors(text, &[]).contains("no storage configuration provided"),
            "{text}"
        );
    }
    for driver in ["s3", "azure", "gcs", "swift", "oss", "inmemory"] {
        let text = load_errors(
            &format!("version: 0.1\nstorage: {{{driver}: {{bucket: b}}}}\n"),
            &[],
        );
        assert!(
            text.contains(&format!(
                "c.yml:2: storage.{driver}: not supported: the only storage driver is filesystem"
            )),
            "{text}"
        );
        let text = load_errors(BASE, &[("REGISTRY_STORAGE", driver)]);
        assert!(
            text.contains(&format!(
                "REGISTRY_STORAGE: storage.{driver}: not supported"
            )),
            "{text}"
        );
    }
    let text = load_errors("version: 0.1\nstorage: {filesystem: {}, s3: {}}\n", &[]);
    assert!(
        text.contains(
            "only one storage driver can be configured, found filesystem (c.yml:2) and s3 (c.yml:2)"
        ),
        "{text}"
    );
    let text = load_errors(BASE, &[("REGISTRY_STORAGE_S3_BUCKET", "b")]);
    assert!(
        text.contains("found filesystem (c.yml:2) and s3 (REGISTRY_STORAGE_S3_BUCKET)"),
        "{text}"
    );
    let text = load_errors("version: 0.1\nstorage: {filesytem: {}}\n", &[]);
    assert!(
        text.contains(
            "storage.filesytem: unknown storage driver or setting; did you mean storage.filesystem?"
        ),
        "{text}"
    );
}

#[test]
fn old_keys_and_yaml_1_1_booleans() {
    assert_eq!(
        load_with("loglevel: debug\n").config.log.level,
        LogLevel::Debug
    );
    assert_eq!(
        load_with("loglevel: debug\nlog: {level: Error}\n")
            .config
            .log
            .level,
        LogLevel::Error
    );
    let text = "version: 0.1\nstorage: {filesystem: {}, delete: {enabled: yes}, maintenance: {readonly: {enabled: 'on'}}}\n";
    let storage = load(text, &[]).unwrap().config.storage;
    assert!(storage.is_delete_enabled && storage.is_read_only);
    let text = "version: 0.1\nstorage: filesystem\nhttp: {net: unix, addr: /run/r.sock, headers: {X-A: b}, tls: {certificate: /c, key: /k, minimumtls: tls1.0}}\n";
    let loaded = load(text, &[]).unwrap();
    assert_eq!(
        loaded.config.http.listen_address,
        ListenAddress::Unix("/run/r.sock".into())
    );
    assert_eq!(
        loaded.config.http.headers,
        [("X-A".to_owned(), vec!["b".to_owned()])]
    );
    assert!(warnings(&loaded)[0].contains("TLS 1.2 is the oldest"));
}

#[test]
fn the_platforms_of_an_index() {
    let platforms = |section: &str| {
        let file = format!("validation: {{manifests: {{indexes: {section}}}}}\n");
        load_with(&file).config.index_platforms
    };
    let listed = IndexPlatforms::Listed(vec![("amd64".to_owned(), "linux".to_owned())]);
    let list = "platformlist: [{architecture: amd64, os: linux}]";
    assert_eq!(platforms(&format!("{{platforms: List, {list}}}")), listed);
    assert_eq!(platforms("{platforms: none}"), IndexPlatforms::None);
    assert_eq!(platforms(&format!("{{{list}}}")), IndexPlatforms::All);
    let errors = load_errors_with("validation: {manifests: {indexes: {platforms: some}}}\n");
    assert!(errors.contains("must be all, none or list"), "{errors}");
}

#[test]
fn quotas_have_repositories_and_a_size() {
    let text = format!(
        "{BASE}imgsync:\n  space:\n    reserve: 1GiB\n    quotas:\n    - {{repositories: ['team/**', ci], \
         maxbytes: 5GiB}}\n    - {{repositories: '**', maxbytes: 20GB}}\n"
    );
    let space = load(&text, &[]).unwrap().config.imgsync.space;
    assert_eq!(space.reserve, Some(1 << 30));
    let sizes: Vec<u64> = space.quotas.iter().map(|quota| quota.max_bytes).collect();
    assert_eq!(sizes, [5 << 30, 20_000_000_000]);
    let applies = |name: &str| {
        let name = name.parse().unwrap();
        let quotas = space.quotas.iter();
        quotas
            .map(|quota| quota.applies_to(&name))
            .collect::<Vec<_>>()
    };
    assert_eq!(applies("team/a/b"), [true, true]);
    assert_eq!(applies("other"), [false, true]);
    for (entry, expected) in [
        ("{maxbytes: 5GiB}", "imgsync.space.quotas.0.repositories"),
        ("{repositories: a}", "imgsync.space.quotas.0.maxbytes"),
        ("{repositories: A, maxbytes: 1}", "repository pattern"),
        (
            "{repositories: a, maxbytes: much}",
            "must be a number of bytes",
        ),
    ] {
        let text = format!("{BASE}imgsync: {{space: {{quotas: [{entry}]}}}}\n");
        let error = load(&text, &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{entry}: {error}");
    }
    let default = load(BASE, &[]).unwrap().config.imgsync.space;
    assert_eq!(default, SpaceConfig::default());
}

#[test]
fn rules_of_retention_apply_to_the_first_repository_that_matches() {
    let text = format!(
        "{BASE}imgsync:\n  retention:\n  - {{repositories: 'ci/**', keepnewest: 10, keeptags: [v*, latest], \
         keeppushed: 24h, keeppulled: 48h}}\n  - {{repositories: ['**'], untagged: 168h}}\n"
    );
    let rules = load(&text, &[]).unwrap().config.imgsync.retention;
    let rule = |name: &str| RetentionRule::find(&rules, &name.parse().unwrap()).unwrap();
    let hours = |count: u64| Some(Duration::from_secs(count * 3600));
    let ci = rule("ci/app");
    assert_eq!((ci.keep_newest, ci.keep_tags.len()), (Some(10), 2));
    assert_eq!((ci.keep_pushed, ci.keep_pulled), (hours(24), hours(48)));
    assert!(ci.limits_tags() && ci.untagged.is_none());
    assert!(!rule("app").limits_tags());
    assert_eq!(rule("app").untagged, hours(168));
    for (entry, expected) in [
        ("{untagged: 1h}", "imgsync.retention.0.repositories"),
        (
            "{repositories: a, keepnewest: 0}",
            "must be a number greater than 0",
        ),
        ("{repositories: a, untagged: 0s}", "must be longer than 0"),
        ("{repositories: a, keeptags: 'a/b'}", "tag pattern"),
        ("{repositories: a, keepnewst: 1}", "keepnewest"),
    ] {
        let text = format!("{BASE}imgsync: {{retention: [{entry}]}}\n");
        let loaded = load(&text, &[]);
        let shown = match loaded {
            Ok(loaded) => warnings(&loaded).join("\n"),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{entry}: {shown}");
    }
    let text = format!(
        "{BASE}imgsync: {{gc: {{enabled: false}}, retention: [{{repositories: a, untagged: 1h}}]}}\n"
    );
    let warning = &warnings(&load(&text, &[]).unwrap())[0];
    assert!(
        warning.contains("only by the command retention"),
        "{warning}"
    );
}
