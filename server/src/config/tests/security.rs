//! Settings that must not be lost: authentication, TLS and the store.

use super::*;

#[test]
fn settings_that_cannot_be_ignored_are_errors() {
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
        let text = load_errors_with(more);
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
        let text = load_errors(&text, &[]);
        assert!(text.contains(&format!("c.yml:3: {key}: ")), "{text}");
    }
}

#[test]
fn misspelled_security_variables_are_errors() {
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
        let errors = load_errors(BASE, &[(name, "/x")]);
        assert!(
            errors.contains(&format!("{name}: ")) && errors.contains(text),
            "{errors}"
        );
    }
    // An empty variable does not remove the section of the file.
    let text = format!("{BASE}auth: {{htpasswd: {{path: /p}}}}\n");
    let loaded = load(&text, &[("REGISTRY_AUTH", "")]).unwrap();
    assert!(loaded.config.auth.is_some());
    assert!(warnings(&loaded)[0].starts_with("REGISTRY_AUTH: auth: empty, ignored"));
}

#[test]
fn misspelled_or_misplaced_security_sections_are_errors() {
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
        let text = load_errors_with(more);
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
        let text = load_errors(&text, &[]);
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
        let text = load_errors(BASE, &[(name, "/x")]);
        assert!(text.contains(&format!("{name}: no such setting")), "{text}");
    }
    // As Kubernetes sets them for the services registry-auht, registry-tls and registry-htpasswd,
    // and Docker for a linked container.
    let loaded = load_with_variables(&[
        ("REGISTRY_AUHT_PORT", "tcp://10.0.0.2:5001"),
        ("REGISTRY_AUHT_PORT_5001_TCP_PROTO", "tcp"),
        ("REGISTRY_HTPASSWD_SERVICE_HOST", "10.0.0.1"),
        ("REGISTRY_TLS_SERVICE_PORT_HTTPS", "443"),
        ("REGISTRY_ENV_REGISTRY_AUTH_HTPASSWD_PATH", "/p"),
    ]);
    assert_eq!((warnings(&loaded).len(), notes(&loaded).len()), (0, 5));
}

#[test]
fn empty_variables_clear_no_security_setting() {
    let text = "version: 0.1\nstorage: filesystem\nhttp: {tls: {certificate: /c, key: /k}}\n\
                auth: {htpasswd: {realm: r, path: /p}}\n";
    let names = [
        "REGISTRY_AUTH_HTPASSWD_PATH",
        "REGISTRY_AUTH_HTPASSWD_REALM",
        "REGISTRY_HTTP_TLS_CERTIFICATE",
        "REGISTRY_HTTP_TLS_KEY",
    ];
    for empty in ["", " ", "''", "~"] {
        let loaded = load(text, &names.map(|name| (name, empty))).unwrap();
        assert_eq!(loaded.config, load(text, &[]).unwrap().config);
        let messages = warnings(&loaded);
        assert_eq!(messages.len(), 4, "{messages:?}");
        assert!(
            messages.iter().all(|text| text.contains("empty, ignored")),
            "{messages:?}"
        );
    }
}
