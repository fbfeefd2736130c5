//! podman logs in, pushes and pulls.

use super::{ALL_SETUPS, AnonymousPulls, ClientFixture, PASSWORD, REQUIRED_PROGRAMS, archive_of};
use crate::support::prelude::*;

#[test]
fn podman() {
    if !programs_available(&REQUIRED_PROGRAMS) || !programs_available(&["podman"]) {
        return;
    }
    for (transport, anonymous_pulls) in ALL_SETUPS {
        let fixture = ClientFixture::new(transport, anonymous_pulls);
        let podman = Podman::new();
        podman.load(&archive_of(&fixture));
        let logins = fixture.scratch.path("auth.json");
        let logins = logins.to_str().unwrap();
        let run_podman = |word: &str, rest: &[&str]| {
            let [first, second] = fixture.tls_options();
            podman.attempt(&[&[word, "--authfile", logins, first, second], rest].concat())
        };
        let private = format!("{}/team/app:v1", fixture.name);
        let public = format!("{}/public/app:v1", fixture.name);
        let push = |to: &str| run_podman("push", &["localhost/app:v1", &format!("docker://{to}")]);
        let login = |password| run_podman("login", &["-u", "alice", "-p", password, &fixture.name]);
        push(&private).failed(125, &["auth"]);
        login("wrong").failed(125, &["invalid username/password"]);
        login(PASSWORD).succeeded();
        let id = podman.id("localhost/app:v1");
        for remote in [&private, &public] {
            push(remote).succeeded();
            run_podman("pull", &[remote]).succeeded();
            assert_eq!(podman.id(remote), id, "{transport:?}");
        }
        podman.run(&["logout", "--authfile", logins, &fixture.name]);
        run_podman("pull", &[&private]).failed(125, &["auth"]);
        match anonymous_pulls {
            AnonymousPulls::Denied => drop(run_podman("pull", &[&public]).failed(125, &["auth"])),
            AnonymousPulls::FromPublic => drop(run_podman("pull", &[&public]).succeeded()),
        }
        fixture.assert_clean_log();
    }
}
