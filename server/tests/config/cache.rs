//! Tests the configuration of the cache and its upstreams.

use crate::reserved_port::ReservedPort;
use crate::support::launch::{Setup, stderr, stdout};

const BASE: &str = "version: 0.1\nstorage: {filesystem: {rootdirectory: '{folder}/registry'}}\n\
                    http: {addr: '127.0.0.1:0'}\n";

async fn status(url: &str) -> u16 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.get(url).send().await.unwrap().status().as_u16()
}

#[test]
fn config_prints_upstreams_without_passwords() {
    let setup = Setup::new(&format!(
        "{BASE}proxy: {{remoteurl: 'https://registry-1.docker.io', username: u, password: swordfish}}\n\
         imgsync:\n  cache:\n    upstreams:\n    - {{prefix: ghcr.io, remoteurl: 'https://ghcr.io', username: u, password: marlin}}\n"
    ))
    .with("REGISTRY_IMGSYNC_CACHE_UPSTREAMS_1_PREFIX", "quay.io")
    .with("REGISTRY_IMGSYNC_CACHE_UPSTREAMS_1_REMOTEURL", "https://quay.io");
    let output = setup.run(&["config"]);
    let (text, warnings) = (stdout(&output), stderr(&output));
    assert!(output.status.success(), "{warnings}");
    for line in [
        "  remoteurl: https://registry-1.docker.io  # ",
        "  password: \"******\"",
        "        prefix: quay.io  # REGISTRY_IMGSYNC_CACHE_UPSTREAMS_1_PREFIX",
        "    maxage: ",
    ] {
        let is_printed = text.contains(line);
        // With `proxy`, the ttl of the stock registry is used instead of `maxage`.
        assert_eq!(is_printed, line != "    maxage: ", "{line}\n{text}");
    }
    for secret in ["swordfish", "marlin"] {
        assert!(
            !text.contains(secret) && !warnings.contains(secret),
            "{text}{warnings}"
        );
    }
}

#[test]
fn invalid_upstreams_prevent_the_start() {
    for (more, message) in [
        (
            "imgsync: {cache: {upstreams: [{prefix: a, remoteurl: 'http://a:1', mirorr: true}]}}\n",
            "config.yml:4: imgsync.cache.upstreams.0.mirorr: unknown key; did you mean imgsync.cache.upstreams.0.mirror?",
        ),
        (
            "imgsync: {cache: {upstreams: [{prefix: a, remoteurl: 'ftp://a'}]}}\n",
            "config.yml:4: imgsync.cache.upstreams.0.remoteurl: must be a registry's URL",
        ),
        (
            "proxy: {remoteurl: 'http://a:1', username: u}\n",
            "proxy.password: must be set",
        ),
    ] {
        let setup = Setup::new(&format!("{BASE}{more}"));
        let output = setup.run(&["serve"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
    // The start reads the password file of an upstream, but sends no request to the upstream.
    let entry =
        "prefix: a, remoteurl: 'http://a.invalid:1', username: u, passwordfile: '{folder}/none'";
    let setup = Setup::new(&format!(
        "{BASE}imgsync: {{cache: {{upstreams: [{{{entry}}}]}}}}\n"
    ));
    let output = setup.run(&["serve"]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(
        message.contains("cannot read the password of upstream a from ")
            && message.contains("hint: "),
        "{message}"
    );
}

#[tokio::test]
async fn upstreams_change_while_the_server_runs() {
    let running = Setup::new(BASE).serve();
    let target = format!("{}/v2/up.example/app/manifests/v1", running.url);
    assert_eq!(status(&target).await, 404);
    let closed_port = ReservedPort::new();
    let with_upstream = |more: &str| {
        let entry = format!(
            "{{prefix: up.example, remoteurl: 'http://{}'{more}}}",
            closed_port.address()
        );
        format!("{BASE}imgsync: {{cache: {{upstreams: [{entry}]}}}}\n")
    };
    let reload = async |config: &str, message: &str| {
        running.setup().write(config);
        running.signal("HUP");
        running.wait_for_log(message).await;
    };
    reload(&with_upstream(""), "reloaded the configuration").await;
    while status(&target).await != 502 {}
    reload(
        &with_upstream(", username: u, passwordfile: /none"),
        "keeping the old upstreams",
    )
    .await;
    assert_eq!(status(&target).await, 502);
    running.setup().write(BASE);
    running.signal("HUP");
    while status(&target).await != 404 {}
}
