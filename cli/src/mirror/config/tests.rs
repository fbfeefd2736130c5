//! Valid and invalid files.

use super::*;
use crate::mirror::selection::TagOrder;
use crate::transports::ReferrersPolicy;

fn read(text: &str) -> Result<MirrorConfig, String> {
    parse(text, Path::new("/etc/imgsync"))
}

#[test]
fn a_duplicate_key_is_refused() {
    let keys = "mirrors:\n  - source: a.io/b\n    source: a.io/c\n    target: c.io/d\n";
    let text = read(keys).unwrap_err();
    assert!(text.contains("source") && text.contains("line 3"), "{text}");
    assert!(!text.contains("Policy"), "{text}");
}

#[test]
fn entries_defaults_and_registries() {
    let config = read(
        "defaults:
  platforms: [linux/amd64, linux/arm64]
  prune: true
  exclude: ['*-windows*']
  newest: 3
  by: date
registries:
  registry.example.com:
    username: ci
    passwordFile: secret.txt
  ghcr.io: {username: bot, passwordEnv: GHCR_TOKEN}
  10.0.0.5:5000: {plainHttp: true}
mirrors:
  - source: nginx
    target: registry.example.com/mirror/nginx
    tags: [1.10, '1.2*']
    semver: '>=1.25'
    newest: 5
    by: version
    minAge: 7d
  - source: ghcr.io/owner/app
    target: oci:app
    prune: false
    exclude: []
    referrers: all
  - {source: 'ghcr.io/owner/app:v1', target: host}
",
    )
    .unwrap();
    let nginx = &config.jobs[0];
    assert_eq!(nginx.source(), "docker.io/library/nginx");
    assert_eq!(nginx.to.to_string(), "registry.example.com/mirror/nginx");
    let rules = &nginx.rules[0];
    let patterns: Vec<_> = rules.patterns.iter().map(ToString::to_string).collect();
    assert_eq!(patterns, ["1.10", "1.2*"]);
    assert_eq!(rules.exclude.len(), 1);
    assert_eq!((rules.newest, rules.order), (Some(5), TagOrder::Version));
    assert_eq!(rules.min_age.unwrap().as_secs(), 7 * 86_400);
    assert!(nginx.prune && nginx.platforms.to_string() == "linux/amd64, linux/arm64");
    let app = &config.jobs[1];
    let rules = &app.rules[0];
    assert!(!app.prune && rules.exclude.is_empty());
    assert_eq!((rules.newest, rules.order), (Some(3), TagOrder::Date));
    assert_eq!(app.referrers, ReferrersPolicy::All);
    assert_eq!(app.to.to_string(), "oci:/etc/imgsync/app");
    let one = &config.jobs[2];
    assert!(one.rules[0].is_empty() && !one.prune && !one.platforms.is_empty());
    let registry = |name: &str| config.registries[&name.parse().unwrap()].settings.clone();
    let ci = RegistrySettings {
        username: Some("ci".to_owned()),
        password_file: Some("/etc/imgsync/secret.txt".into()),
        ..RegistrySettings::default()
    };
    assert_eq!(registry("registry.example.com"), ci);
    let bot = RegistrySettings {
        username: Some("bot".to_owned()),
        password_env: Some("GHCR_TOKEN".to_owned()),
        ..RegistrySettings::default()
    };
    assert_eq!(registry("ghcr.io"), bot);
    assert!(registry("10.0.0.5:5000").plain_http);
}

#[test]
fn entries_with_the_same_source_and_target_are_one_mirror() {
    let entry = |more: &str| format!("  - {{source: a.io/b, target: host, {more}}}\n");
    let two = format!("mirrors:\n{}{}", entry("semver: '1'"), entry("semver: '2'"));
    let config = read(&two).unwrap();
    assert_eq!((config.jobs.len(), config.jobs[0].rules.len()), (1, 2));
    let different = format!("mirrors:\n{}{}", entry("semver: '1'"), entry("prune: true"));
    let error = read(&different).unwrap_err();
    assert!(
        error.starts_with("line 3: ") && error.contains("same source and target"),
        "{error}"
    );
}

#[test]
fn problems_are_reported_with_their_line() {
    let entry = "mirrors:\n  - source: a.io/b\n    target: host\n";
    for (text, words) in [
        (
            format!("{entry}    tagz: [x]\n"),
            &["line 4", "tagz", "did you mean tags?"][..],
        ),
        (
            format!("{entry}    min-age: 7d\n"),
            &["line 4", "did you mean minAge?"],
        ),
        (
            format!("{entry}    colour: red\n"),
            &["line 4", "the keys are source, target"],
        ),
        (format!("{entry}    tags: x\n"), &["line 4", "list"]),
        (format!("{entry}    newest: many\n"), &["line 4"]),
        (format!("{entry}    newest: 0\n"), &["line 2", "newest"]),
        (format!("{entry}    semver: new\n"), &["line 2", "semver"]),
        (format!("{entry}    tags: ['[']\n"), &["line 2", "glob"]),
        (format!("{entry}    minAge: soon\n"), &["line 2", "minAge"]),
        (
            format!("{entry}    platforms: [amd64]\n"),
            &["line 2", "amd64"],
        ),
        (format!("{entry}    source: b\n"), &["line 4"]),
        (
            "mirrors:\n  - source: a.io/b\n".to_owned(),
            &["line 2", "target is missing"],
        ),
        (
            "mirrors:\n  - {source: a.io/b:1, target: host, prune: true}\n".to_owned(),
            &["line 2", "prun"],
        ),
        (format!("{entry}  bad\n"), &["line 4"]),
        ("mirrors: []\n".to_owned(), &["no mirror"]),
        (String::new(), &[]),
        (
            "defaults: {source: a}\nmirrors: []\n".to_owned(),
            &["line 1", "default"],
        ),
        (
            "registries:\n  a.io: {username: x}\n".to_owned(),
            &["line 2", "passwordFile"],
        ),
        (
            "registries:\n  a.io: {passwordEnv: x}\n".to_owned(),
            &["line 2", "username"],
        ),
        (
            "registries:\n  A.io: {}\n  a.io: {}\n".to_owned(),
            &["line 3", "twice"],
        ),
        (
            "registries:\n  'a b': {}\n".to_owned(),
            &["line 2", "registry"],
        ),
        (
            "registries:\n  a.io: {plainHttp: true, insecure: true}\n".to_owned(),
            &["line 2", "plainHttp"],
        ),
    ] {
        let error = read(&text).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}

#[test]
fn no_secret_is_shown() {
    let error = read("registries:\n  a.io:\n    username: x\n    password: hunter2\n").unwrap_err();
    assert!(
        error.contains("line 4") && error.contains("passwordFile"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn alias_bombs_and_deep_nesting_are_refused() {
    let mut bomb =
        "defaults:\n  tags: &a0 [x, x, x, x, x, x, x, x, x, x]\nregistries:\n".to_owned();
    for i in 1..9 {
        let of = format!("*a{}", i - 1);
        bomb += &format!("  h{i}: &a{i} [{}]\n", [of.as_str(); 10].join(", "));
    }
    read(&bomb).unwrap_err();
    let deep = format!("mirrors: {}{}", "[".repeat(1000), "]".repeat(1000));
    read(&deep).unwrap_err();
    read(&"#".repeat(2 << 20)).unwrap_err();
}
