//! Tests logins of clients, and the login of this server at the upstream.

use super::{CacheFixture, NO_FRESHNESS, PREFIX, blob, image, manifest};
use crate::support::http::send;
use crate::support::prelude::*;
use crate::support::upstream::SECRET;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[test]
fn logins_of_clients_and_of_this_server_are_kept_apart() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(17, 100_000));
    // Every token is valid for one request only.
    upstream.configure(|settings| {
        settings.token_login = Some(("cache", "hunter2", 1));
        settings.rate_limit = Some((100, 76));
    });
    let cache = CacheFixture::start(
        &upstream,
        NO_FRESHNESS,
        ", username: cache, password: hunter2",
    );
    let client = [
        ("Authorization", "Basic Y2xpZW50OnN3b3JkZmlzaA=="),
        ("Cookie", "session=clients-own"),
    ];
    for (target, body) in [
        (manifest("v1"), &published.manifest),
        (blob(&published.blobs[0].0), &published.blobs[0].1),
    ] {
        let reply = send(cache.address(), "GET", &target, &client, b"");
        assert!(
            reply.status == 200 && reply.body == *body,
            "{}",
            reply.text()
        );
        for (name, value) in &reply.headers {
            assert!(
                !value.contains(SECRET) && !value.contains("token-"),
                "{name}: {value}"
            );
        }
    }
    let own_login = format!("Basic {}", STANDARD.encode("cache:hunter2"));
    for request in upstream.requests() {
        assert_eq!(request.header("cookie"), None);
        let authorization = request.authorization();
        if request.target.starts_with("/token") {
            assert_eq!(authorization, own_login);
        } else {
            assert!(
                authorization.is_empty() || authorization.starts_with("Bearer token-"),
                "{authorization}"
            );
        }
    }
    assert_eq!(
        cache.metric(&format!(
            "imgsync_upstream_ratelimit_remaining{{upstream=\"{PREFIX}\"}}"
        )),
        76
    );
    // If the upstream refuses the login of this server, the client gets 502 and no challenge.
    upstream.configure(|settings| settings.token_login = Some(("other", "x", 1)));
    let refused = cache.get(&manifest("v2"));
    refused.assert_error(502, "UNAVAILABLE");
    assert_eq!(refused.header("www-authenticate"), None);
    assert!(!refused.text().contains("hunter2") && !cache.server.log().contains("hunter2"));
}

#[test]
fn a_mirror_can_be_anonymous_while_everything_else_needs_a_login() {
    let hub = Upstream::start();
    let nginx = hub.put("library/nginx", "v1", &image(27, 5_000));
    let scratch = Scratch::new();
    let users = scratch.path("users");
    // alice with the password `secret`.
    std::fs::write(
        &users,
        "alice:$2y$04$fqgrNXsP1tvyvUnLXZoGcewmGdKRQOXcvKgLmpEqFxMpgMODcRUpa\n",
    )
    .unwrap();
    let cache = CacheFixture::start_with(&format!(
        "auth: {{htpasswd: {{realm: here, path: {users:?}}}}}\nimgsync:\n  anonymous: {{pull: ['docker.io/**']}}\n  \
         cache: {{upstreams: [{{prefix: docker.io, remoteurl: 'http://{}'}}]}}\n",
        hub.address(),
    ));
    let token = |query: &str, login: Option<&str>| {
        let login = login.map(|login| format!("Basic {}", STANDARD.encode(login)));
        let headers: Vec<_> = login
            .iter()
            .map(|login| ("Authorization", login.as_str()))
            .collect();
        let target = format!("/v2/_imgsync/token?service=here{query}");
        let reply = send(cache.address(), "GET", &target, &headers, b"");
        let token =
            (reply.status == 200).then(|| reply.json()["token"].as_str().unwrap().to_owned());
        (reply.status, token)
    };
    let ask = |target: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        send(
            cache.address(),
            "GET",
            target,
            &[("Authorization", &bearer)],
            b"",
        )
    };
    let pull_scope = "&scope=repository:library/nginx:pull";
    // No login, and a login that only Docker Hub knows.
    for login in [None, Some("hubuser:hubpassword")] {
        let (status, token) = token(pull_scope, login);
        assert_eq!(status, 200, "{login:?}");
        let token = token.unwrap();
        let reply = ask("/v2/library/nginx/manifests/v1", &token);
        assert_eq!(
            (reply.status, &reply.body),
            (200, &nginx.manifest),
            "{}",
            reply.text()
        );
        for other in [
            "/v2/team/app/tags/list?ns=evil.example",
            "/v2/_catalog",
            "/v2/",
        ] {
            assert_eq!(ask(other, &token).status, 401, "{other}");
        }
    }
    // A wrong login is refused for a token with more rights or without a scope.
    for query in [
        "",
        "&scope=repository:library/nginx:pull,push",
        "&scope=registry:catalog:*",
    ] {
        assert_eq!(token(query, Some("hubuser:hubpassword")).0, 401, "{query}");
    }
    // A repository that may not be read looks like a missing one.
    let (_, anonymous) = token(pull_scope, None);
    let anonymous = anonymous.unwrap();
    assert_eq!(
        ask("/v2/ghcr.io/owner/app/manifests/v1", &anonymous).status,
        404
    );
    assert_eq!(ask("/v2/team/private/manifests/v1", &anonymous).status, 404);
}
