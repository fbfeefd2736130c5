//! curl sends single requests: versions of HTTP, forms of the login, forwarded addresses.

use super::{ALL_SETUPS, AnonymousPulls, ClientFixture, PASSWORD, REQUIRED_PROGRAMS, Transport};
use crate::support::prelude::*;

#[test]
fn curl() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    for (transport, anonymous_pulls) in ALL_SETUPS {
        let fixture = ClientFixture::new(transport, anonymous_pulls);
        let ca = fixture.ca.as_ref().map(|folder| folder.join("ca.crt"));
        let body_file = fixture.scratch.path("back");
        let run_curl = |words: &[&str]| {
            let mut command = Command::new("curl");
            command
                .args(["-sS", "--noproxy", "*", "-o"])
                .arg(&body_file);
            command.args(["-w", "%{http_code} %{http_version}"]);
            if let Some(ca) = &ca {
                command.arg("--cacert").arg(ca);
            }
            must(command.args(words))
        };
        let version = if transport == Transport::PlainHttp {
            "1.1"
        } else {
            "2"
        };
        let check = fixture.url("/v2/");
        let (right, wrong) = (format!("alice:{PASSWORD}"), "alice:x");
        assert_eq!(run_curl(&[&check]), format!("401 {version}"));
        assert_eq!(run_curl(&["-u", wrong, &check]), format!("401 {version}"));
        assert_eq!(run_curl(&["-u", &right, &check]), format!("200 {version}"));
        assert_eq!(run_curl(&["--http1.1", "-u", &right, &check]), "200 1.1");
        if anonymous_pulls == AnonymousPulls::Denied {
            let response = run_curl(&["--anyauth", "-u", &right, &check]);
            assert_eq!(response, format!("200 {version}"));
        }
        // Larger than every window and buffer, in both directions.
        let bytes = noise(7, 20_000_000);
        let file = fixture.scratch.path("blob");
        std::fs::write(&file, &bytes).unwrap();
        let digest = digest(&bytes);
        let upload = fixture.url(&format!("/v2/public/app/blobs/uploads/?digest={digest}"));
        let data = format!("@{}", file.display());
        let send = ["-X", "POST", "-H", "Content-Type: application/octet-stream"];
        let send = [&send[..], &["--data-binary", &data, &upload]].concat();
        assert_eq!(run_curl(&send), format!("401 {version}"));
        let sent = run_curl(&[&["-u", &right], &send[..]].concat());
        assert_eq!(sent, format!("201 {version}"));
        let blob = fixture.url(&format!("/v2/public/app/blobs/{digest}"));
        let anonymous_status = if anonymous_pulls == AnonymousPulls::FromPublic {
            "200"
        } else {
            "401"
        };
        assert_eq!(run_curl(&[&blob]), format!("{anonymous_status} {version}"));
        let fetched = run_curl(&["-u", &right, &blob]);
        assert_eq!(fetched, format!("200 {version}"));
        assert!(std::fs::read(&body_file).unwrap() == bytes);
        fixture.assert_clean_log();
    }
}

#[test]
fn the_client_address_comes_from_trusted_proxies() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let fixture = ClientFixture::new(Transport::Nginx, AnonymousPulls::Denied);
    let ca = fixture.ca.as_ref().unwrap().join("ca.crt");
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--cacert"]).arg(ca);
    // nginx appends the address that it sees. It is this machine's, which is also a trusted proxy.
    command.args(["-H", "X-Forwarded-For: 203.0.113.9"]);
    must(command.arg(fixture.url("/v2/team/app/tags/list")));
    wait_until("the log line of the request", || {
        let log = fixture.server.log();
        let line = log.lines().find(|line| line.contains("/tags/list"))?;
        assert!(line.contains("203.0.113.9"), "{line}");
        Some(())
    });
}
