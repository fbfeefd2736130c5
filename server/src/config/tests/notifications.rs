//! The receivers of events: `notifications` and `imgsync.webhooks`.

use std::path::PathBuf;
use std::time::Duration;

use super::*;

/// The example of the stock registry's documentation, with all keys.
const ENDPOINTS: &str = "\
notifications:
  events: {includereferences: true}
  endpoints:
    - name: alistener
      disabled: false
      url: https://my:pass@listener.example.com/event?token=swordfish
      headers: {Authorization: [Bearer swordfish], X-Two: [a, b]}
      timeout: 500ms
      threshold: 5
      backoff: 3s
      ignoredmediatypes: [application/octet-stream]
      ignore:
        mediatypes: [application/x]
        actions: [pull]
    - {name: other, url: 'http://other', timeout: 0, threshold: 0, backoff: 0s}
    - {name: off, disabled: true}
";

fn secrets(values: &[&str]) -> Vec<Secret> {
    values.iter().map(|value| Secret((*value).into())).collect()
}

#[test]
fn endpoints_have_the_keys_and_defaults_of_the_stock_registry() {
    let loaded = load_with(ENDPOINTS);
    assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
    let NotificationsConfig {
        includes_references,
        endpoints,
    } = &loaded.config.notifications;
    assert!(includes_references);
    let url = endpoints[0].url.as_ref().unwrap();
    assert_eq!(url.0.query(), Some("token=swordfish"));
    let expected = EndpointConfig {
        name: "alistener".to_owned(),
        is_disabled: false,
        url: Some(url.clone()),
        headers: vec![
            ("Authorization".to_owned(), secrets(&["Bearer swordfish"])),
            ("X-Two".to_owned(), secrets(&["a", "b"])),
        ],
        timeout: Duration::from_millis(500),
        threshold: 5,
        backoff: Duration::from_secs(3),
        ignored_media_types: ["application/octet-stream", "application/x"]
            .map(str::to_owned)
            .to_vec(),
        ignored_actions: vec!["pull".to_owned()],
    };
    assert_eq!(endpoints[0], expected);
    let second = Duration::from_secs(1);
    let other = &endpoints[1];
    assert_eq!(
        (other.timeout, other.threshold, other.backoff),
        (second, 10, second)
    );
    assert!(endpoints[2].is_disabled && endpoints[2].url.is_none());
}

#[test]
fn variables_have_both_spellings() {
    for name in ["EVENTS", "EVENTCONFIG"] {
        let loaded = load_with_variables(&[
            (
                &*format!("REGISTRY_NOTIFICATIONS_{name}_INCLUDEREFERENCES"),
                "true",
            ),
            ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME", "a"),
            ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", "http://x"),
            (
                "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS_Authorization",
                "[Bearer x]",
            ),
            (
                "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_IGNORE_ACTIONS",
                "[pull]",
            ),
            ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_THRESHOLD", "3"),
        ]);
        assert!(warnings(&loaded).is_empty(), "{:?}", loaded.notices);
        let notifications = loaded.config.notifications;
        assert!(notifications.includes_references);
        let endpoint = &notifications.endpoints[0];
        assert_eq!((&*endpoint.name, endpoint.threshold), ("a", 3));
        assert_eq!(endpoint.ignored_actions, ["pull"]);
        assert_eq!(
            endpoint.headers,
            [("authorization".to_owned(), secrets(&["Bearer x"]))]
        );
    }
    let list = "[{name: a, url: 'http://x', headers: {A: [b]}}]";
    let loaded = load_with_variables(&[("REGISTRY_NOTIFICATIONS_ENDPOINTS", list)]);
    assert_eq!(loaded.config.notifications.endpoints.len(), 1);
}

#[test]
fn webhooks_need_a_secret_and_repositories() {
    let loaded = load_with(
        "imgsync: {webhooks: [{url: 'http://x/deploy', secretfile: /key, repositories: [team/*], \
         tags: [v*]}, {url: 'http://y', secret: swordfish, repositories: ['**'], timeout: 3s}]}",
    );
    let webhooks = &loaded.config.imgsync.webhooks;
    assert_eq!(
        webhooks[0].secret,
        SecretSource::File(PathBuf::from("/key"))
    );
    assert_eq!(webhooks[0].tags[0].to_string(), "v*");
    assert_eq!(webhooks[0].timeout, Duration::from_secs(10));
    assert_eq!(webhooks[1].timeout, Duration::from_secs(3));
    for (entry, error) in [
        (
            "{url: 'http://x', repositories: [a]}",
            "imgsync.webhooks.0.secretfile: must be set",
        ),
        (
            "{url: 'http://x', repositories: [a], secret: b, secretfile: c}",
            "imgsync.webhooks.0.secretfile: cannot be set together with secret",
        ),
        (
            "{url: 'http://x', secret: b}",
            "imgsync.webhooks.0.repositories: must be set",
        ),
        (
            "{secret: b, repositories: [a]}",
            "imgsync.webhooks.0.url: must be set",
        ),
        (
            "{url: 'ftp://user:swordfish@x', secret: b, repositories: [a]}",
            "imgsync.webhooks.0.url: must be a URL such as https://",
        ),
    ] {
        let errors = load_errors_with(&format!("imgsync: {{webhooks: [{entry}]}}"));
        assert!(errors.contains(error), "{errors}");
        assert!(!errors.contains("swordfish"), "{errors}");
    }
    let errors = load_errors_with("notifications: {endpoints: [{name: a}]}");
    assert!(
        errors.contains("notifications.endpoints.0.url: must be set"),
        "{errors}"
    );
}

#[test]
fn secrets_are_neither_printed_nor_debugged() {
    let loaded = load_with(&format!(
        "{ENDPOINTS}imgsync: {{webhooks: [{{url: 'http://y/?k=swordfish', secret: swordfish, \
         repositories: [a]}}]}}\n"
    ));
    let printed = loaded.to_yaml();
    assert!(
        printed.contains("url: \"https://******@listener.example.com/******?******\""),
        "{printed}"
    );
    for text in [printed, format!("{:?}", loaded.config)] {
        assert!(
            !text.contains("swordfish") && !text.contains("pass@"),
            "{text}"
        );
    }
}
