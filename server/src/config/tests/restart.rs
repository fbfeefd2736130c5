//! Changes that need a restart.

use super::*;

#[test]
fn only_a_restart_disables_authentication() {
    let open = load_with("").config;
    let locked = |path: &str| load_with(&format!("auth: {{htpasswd: {{path: {path}}}}}\n")).config;
    for (old, new, is_kept) in [
        (&locked("/p"), &open, true),
        (&locked("/p"), &locked("/q"), false),
        (&open, &locked("/q"), false),
        (&open, &open, false),
    ] {
        let mut effective = new.clone();
        assert_eq!(keep_auth(old, &mut effective), is_kept);
        let expected = if is_kept { &old.auth } else { &new.auth };
        assert_eq!(effective.auth, *expected);
    }
}

#[test]
fn keys_that_need_a_restart() {
    let changed = |more: &str, pairs: &[(&str, &str)]| {
        let text = format!("{BASE}{more}");
        let new = load(&text, pairs).unwrap_or_else(|errors| panic!("{errors}"));
        keys_needing_restart(&load_with_variables(&[]).config, &new.config)
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
        ("REGISTRY_IMGSYNC_BODYTIMEOUT", "5s", "imgsync.bodytimeout"),
        (
            "REGISTRY_IMGSYNC_LIMITS_BODYMEMORY",
            "1MiB",
            "imgsync.limits.bodymemory",
        ),
        (
            "REGISTRY_IMGSYNC_LIMITS_CONNECTIONS",
            "5",
            "imgsync.limits.connections",
        ),
    ] {
        assert_eq!(changed("", &[(name, value)]), [key]);
    }
    let reloadable = "log: {level: debug}\ncatalog: {maxentries: 5}\nauth: {htpasswd: {path: /p}}\n\
                imgsync: {anonymous: {pull: [a]}, trustedproxies: [10.0.0.1], limits: {openuploads: 3}}\n";
    let reloadable_variables = [
        ("REGISTRY_HTTP_HEADERS_X-A", "[b]"),
        ("REGISTRY_HTTP_PREFIX", "/x/"),
        ("REGISTRY_STORAGE_DELETE_ENABLED", "true"),
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true"),
    ];
    assert_eq!(changed(reloadable, &reloadable_variables), [""; 0]);
}
