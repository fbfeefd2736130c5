use super::super::types::{SecretSource, UpstreamLogin};
use super::super::{Config, ConfigInput, Secret, parse_config};
use super::*;

fn parse(text: &str) -> Result<Config, String> {
    let text = format!("version: 0.1\nstorage: filesystem\n{text}");
    let file = Some(("c.yml", text.as_str()));
    let loaded = parse_config(ConfigInput {
        file,
        ..ConfigInput::default()
    });
    loaded
        .map(|loaded| loaded.config)
        .map_err(|errors| errors.to_string())
}

fn cache(text: &str) -> CacheConfig {
    parse(text)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .cache
}

#[test]
fn the_proxy_section_serves_every_name() {
    let cache = cache(
        "proxy: {remoteurl: 'https://registry-1.docker.io/', username: u, password: p, ttl: 48h}\n",
    );
    let [proxy] = cache.upstreams.as_slice() else {
        panic!("{cache:?}");
    };
    assert_eq!(
        (proxy.prefix.as_ref(), proxy.is_tls, proxy.is_mirror),
        (None, true, false)
    );
    assert_eq!(proxy.name(), "registry-1.docker.io");
    let login = UpstreamLogin {
        username: "u".to_owned(),
        password: SecretSource::Inline(Secret("p".to_owned())),
    };
    assert_eq!(proxy.login, Some(login));
    assert_eq!(cache.max_age, Some(Duration::from_secs(48 * 3600)));
    assert_eq!(
        self::cache("proxy: {remoteurl: 'http://a:5000'}\n")
            .max_age
            .unwrap()
            .as_secs(),
        604_800
    );
    assert_eq!(
        self::cache("proxy: {remoteurl: 'http://a:5000', ttl: 0}\n").max_age,
        None
    );
    let ours = "proxy: {remoteurl: 'http://a:5000'}\nimgsync: {cache: {maxage: 1h}}\n";
    assert_eq!(self::cache(ours).max_age.unwrap().as_secs(), 3600);
}

#[test]
fn several_upstreams() {
    let cache = cache(
        "imgsync:\n  cache:\n    freshness: 10m\n    maxbytes: 50GiB\n    allowednetworks: [10.20.0.0/16]\n    upstreams:\n\
         \x20   - {prefix: docker.io, remoteurl: 'https://registry-1.docker.io'}\n\
         \x20   - {prefix: ghcr.io/team, remoteurl: 'http://localhost:5001', freshness: 0, username: u,\n\
         \x20      passwordfile: /p, repositories: ['app/*'], namespaces: [ghcr.io], cafile: /c}\n",
    );
    let [hub, team] = cache.upstreams.as_slice() else {
        panic!("{cache:?}");
    };
    assert!(hub.is_mirror && !team.is_mirror && hub.login.is_none());
    assert_eq!(
        (hub.freshness.as_secs(), team.freshness.as_secs()),
        (600, 0)
    );
    assert!(!team.is_tls && team.repositories[0].matches(&"app/x".parse().unwrap()));
    let files: Vec<_> = team
        .referenced_files()
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(files, ["/p", "/c"]);
    assert_eq!(
        (cache.max_bytes, cache.max_age.unwrap().as_secs()),
        (Some(50 << 30), 720 * 3600)
    );
    let is_allowed = |address: &str| {
        let mut networks = cache.allowed_networks.iter();
        networks.any(|network| network.contains(address.parse().unwrap()))
    };
    assert!(is_allowed("10.20.1.1") && !is_allowed("10.21.0.1"));
    let no_mirror = "imgsync: {cache: {upstreams: [{prefix: docker.io, remoteurl: 'https://a', mirror: false}]}}\n";
    assert!(!self::cache(no_mirror).upstreams[0].is_mirror);
    assert_eq!(
        self::cache("imgsync: {cache: {maxage: 1h}}\n"),
        CacheConfig::default()
    );
}

#[test]
fn errors_name_the_key_and_the_line() {
    let parse_upstreams =
        |entries: &str| parse(&format!("imgsync:\n  cache:\n    upstreams:\n{entries}"));
    let one = "    - {prefix: a, remoteurl: 'http://a:1'";
    for (text, expected) in [
        (
            format!("{one}, passwrod: x}}\n"),
            "c.yml:6: imgsync.cache.upstreams.0.passwrod: unknown key",
        ),
        (
            format!("{one}, username: x}}\n"),
            "upstreams.0.password: must be set",
        ),
        (
            format!("{one}, password: x}}\n"),
            "upstreams.0.username: must be set",
        ),
        (
            format!("{one}, username: u, password: x, passwordfile: /x}}\n"),
            "0.passwordfile: cannot be set together with password",
        ),
        (
            format!("{one}}}\n    - {{prefix: a, remoteurl: 'http://b:1'}}\n"),
            "c.yml:7: imgsync.cache.upstreams.1.prefix: duplicate prefix",
        ),
        (
            format!(
                "{one}, mirror: true}}\n    - {{prefix: b, remoteurl: 'http://b:1', mirror: true}}\n"
            ),
            "1.mirror: only one upstream can be the mirror",
        ),
        ("    - {prefix: a}\n".to_owned(), "0.remoteurl: must be set"),
        (
            "    - {remoteurl: 'http://a:1'}\n".to_owned(),
            "0.prefix: must be set",
        ),
        (
            "    - {prefix: A/, remoteurl: 'http://a:1'}\n".to_owned(),
            "0.prefix: must be a prefix of names",
        ),
        (
            "    - {prefix: a, remoteurl: 'a:1'}\n".to_owned(),
            "0.remoteurl: must be a registry's URL",
        ),
        (
            "    - {prefix: a, remoteurl: 'http://a:1/x'}\n".to_owned(),
            "without a path",
        ),
        (
            "    - {prefix: a, remoteurl: 'http://u:p@a:1'}\n".to_owned(),
            "must not contain a login",
        ),
        (
            "    - {prefix: a, remoteurl: 'http://a:1', freshness: 5}\n".to_owned(),
            "0.freshness: must be a duration",
        ),
        (
            "    - {prefix: a, remoteurl: 'http://a:1', repositories: [A]}\n".to_owned(),
            "0.repositories: ",
        ),
    ] {
        let errors = parse_upstreams(&text).unwrap_err();
        assert!(errors.contains(expected), "{expected}\n{errors}");
        assert!(!errors.contains("u:p@"), "{errors}");
    }
    let both = "proxy: {remoteurl: 'http://a:1'}\nimgsync: {cache: {upstreams: [{prefix: b, remoteurl: 'http://b:1', mirror: true}]}}\n";
    assert!(
        parse(both)
            .unwrap_err()
            .contains("cannot be set together with proxy.remoteurl")
    );
    let many =
        "imgsync: {cache: {maxbytes: many, upstreams: [{prefix: b, remoteurl: 'http://b:1'}]}}\n";
    assert!(
        parse(many)
            .unwrap_err()
            .contains("imgsync.cache.maxbytes: must be a number of bytes")
    );
    let network = "imgsync: {cache: {allowednetworks: [10.20.0.0/33]}}\n";
    assert!(
        parse(network)
            .unwrap_err()
            .contains("imgsync.cache.allowednetworks: ")
    );
    let exec = "proxy: {remoteurl: 'http://a:1', exec: {command: /x}}\n";
    assert!(
        parse(exec)
            .unwrap_err()
            .contains("c.yml:3: proxy.exec: not supported")
    );
}

#[test]
fn printed_configuration_equals_the_variables() {
    let variables: Vec<_> = [
        ("REGISTRY_PROXY_REMOTEURL", "https://registry-1.docker.io"),
        ("REGISTRY_PROXY_USERNAME", "u"),
        ("REGISTRY_PROXY_PASSWORD", "swordfish"),
        ("REGISTRY_IMGSYNC_CACHE_UPSTREAMS_0_PREFIX", "ghcr.io"),
        (
            "REGISTRY_IMGSYNC_CACHE_UPSTREAMS_0_REMOTEURL",
            "https://ghcr.io",
        ),
        (
            "REGISTRY_IMGSYNC_CACHE_UPSTREAMS_0_REPOSITORIES_0",
            "team/**",
        ),
        ("REGISTRY_IMGSYNC_CACHE_UPSTREAMS_1_PREFIX", "quay.io"),
        (
            "REGISTRY_IMGSYNC_CACHE_UPSTREAMS_1_REMOTEURL",
            "https://quay.io",
        ),
        ("REGISTRY_IMGSYNC_CACHE_MAXBYTES", "1GB"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let loaded = parse_config(ConfigInput {
        variables: &variables,
        ..ConfigInput::default()
    })
    .unwrap();
    let printed = loaded.to_yaml();
    assert!(!printed.contains("swordfish"), "{printed}");
    assert!(
        printed.contains("    upstreams:\n      -\n        prefix: ghcr.io"),
        "{printed}"
    );
    let mut first = loaded.config.cache;
    let again = parse_config(ConfigInput {
        file: Some(("again.yml", &printed)),
        ..ConfigInput::default()
    });
    let again = again.unwrap_or_else(|errors| panic!("{errors}\n{printed}"));
    if let Some(login) = &mut first.upstreams[0].login {
        login.password = SecretSource::Inline(Secret("******".to_owned()));
    }
    assert_eq!(first, again.config.cache);
}
