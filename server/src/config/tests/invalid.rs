//! Unknown keys, unsupported sections and invalid values in a file.

use super::*;

#[test]
fn unknown_keys_are_reported_with_a_suggestion() {
    // The stock registry ignores these keys silently, and listens on a random address.
    let loaded = load(
        "version: 0.1\nstorage: filesystem\nhttp: {adr: ':5000'}\nlgo: {}\nlog:\n  feilds: {}\n",
        &[],
    );
    let loaded = loaded.unwrap();
    assert_eq!(
        warnings(&loaded),
        [
            "c.yml:3: http.adr: unknown key, ignored; did you mean http.addr?",
            "c.yml:4: lgo: unknown key, ignored; did you mean log?",
            "c.yml:6: log.feilds: unknown key, ignored; did you mean log.fields?",
        ]
    );
    assert_eq!(
        warnings(&load_with("whatever: 1\n")),
        ["c.yml:4: whatever: unknown key, ignored"]
    );
    for (more, text) in [
        (
            "auth: {htpasswd: {realm: r, path: /p, pth: /q}}",
            "auth.htpasswd.pth: unknown key; did you mean auth.htpasswd.path?",
        ),
        (
            "auth: {htpaswd: {realm: r, path: /p}}",
            "auth.htpaswd: unknown authentication method; did you mean auth.htpasswd?",
        ),
        ("auth: ldap", "auth.ldap: unknown authentication method"),
        (
            "imgsync: {anonymus: {}}",
            "imgsync.anonymus: unknown key; did you mean imgsync.anonymous?",
        ),
    ] {
        let errors = load_errors_with(more);
        assert!(errors.contains(text), "{errors}");
    }
    let text = load_errors(
        "version: 0.1\nstorage: filesystem\nhttp: {tls: {clientca: [/x]}}\n",
        &[],
    );
    assert!(
        text.contains("http.tls.clientca: unknown key; did you mean http.tls.clientcas?"),
        "{text}"
    );
}

#[test]
fn empty_and_disabled_sections_are_ignored() {
    let loaded = load_with(
        "auth: none\nproxy: {remoteurl: '', ttl: 168h}\nnotifications: {endpoints: []}\nredis:\n\
         health: {storagedriver: {enabled: false}, file: []}\nvalidation: {disabled: true}\n",
    );
    assert_eq!(loaded.config.auth, None);
    assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
    let text = "version: 0.1\nstorage: filesystem\nhttp: {tls: {clientcas: [], letsencrypt: {email: ''}}, debug: {prometheus: {enabled: false, path: /m}}}\n";
    let loaded = load(text, &[]).unwrap();
    assert_eq!((&loaded.config.http.tls, loaded.notices.len()), (&None, 0));
}

#[test]
fn unsupported_sections_are_reported_once() {
    for (more, key) in [
        ("redis: {addrs: ['localhost:6379'], db: 0}", "redis"),
        ("health: {http: [{uri: 'http://x'}]}", "health.http"),
        (
            "health: {file: [{file: /tmp/down, interval: 10s}]}",
            "health.file",
        ),
        ("health: {tcp: [{addr: 'redis:6379'}]}", "health.tcp"),
        ("policy: {repository: {classes: [image]}}", "policy"),
        (
            "validation: {manifests: {urls: {allow: ['^https://']}}}",
            "validation.manifests.urls",
        ),
        (
            "middleware: {storage: [{name: redirect, options: {baseurl: 'https://x'}}]}",
            "middleware",
        ),
        ("log: {hooks: [{type: mail}]}", "log.hooks"),
        ("log: {formatter: logstash}", "log.formatter"),
    ] {
        let loaded = load_with(more);
        let messages = warnings(&loaded);
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(
            messages[0].starts_with(&format!("c.yml:4: {key}: not supported: ")),
            "{messages:?}"
        );
    }
    let messages = warnings(&load_with(
        "notifications: {endpoints: [{nmae: a, url: 'http://x'}]}",
    ))
    .join("\n");
    assert!(messages.contains("notifications.endpoints.0.nmae: unknown key, ignored; did you mean notifications.endpoints.0.name?"), "{messages}");
}

#[test]
fn invalid_values_name_their_key() {
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
            "imgsync.limits.connections: must be a number greater than 0",
        ),
        (
            "imgsync: {limits: {connectionsperclient: 0}}",
            "imgsync.limits.connectionsperclient: must be a number greater than 0",
        ),
        (
            "imgsync: {limits: {bodymemory: 1KiB}}",
            "imgsync.limits.bodymemory: must be 64KiB or more",
        ),
        (
            "imgsync: {headertimeout: 0s}",
            "imgsync.headertimeout: must be 1s or longer",
        ),
        (
            "imgsync: {bodytimeout: 5}",
            "imgsync.bodytimeout: must be a duration with its unit",
        ),
        (
            "imgsync: {stall: 5}",
            "imgsync.stall: must be a duration with its unit",
        ),
    ] {
        let errors = load_errors_with(more);
        assert!(errors.contains(text), "{errors}");
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
            "http.headers.X: must not have control characters",
        ),
        (
            "headers: {Content-Length: ['0']}",
            "http.headers.Content-Length: cannot be set",
        ),
        ("headers: {X: {y: z}}", "http.headers.X: must be a list"),
    ] {
        let errors = load_errors(
            &format!("version: 0.1\nstorage: filesystem\nhttp: {{{http}}}\n"),
            &[],
        );
        assert!(errors.contains(text), "{errors}");
    }
    // All errors are reported at once.
    let errors =
        load_errors_with("log: {level: loud}\ncatalog: {maxentries: x}\nproxy: {remoteurl: x}\n");
    assert_eq!(errors.lines().count(), 4, "{errors}");
}
