//! skopeo logs in, pushes and inspects.

use super::{ALL_SETUPS, AnonymousPulls, ClientFixture, PASSWORD, REQUIRED_PROGRAMS, archive_of};
use crate::support::prelude::*;

#[test]
fn skopeo() {
    if !programs_available(&REQUIRED_PROGRAMS) || !programs_available(&["skopeo"]) {
        return;
    }
    for (transport, anonymous_pulls) in ALL_SETUPS {
        let fixture = ClientFixture::new(transport, anonymous_pulls);
        let archive = format!("docker-archive:{}", archive_of(&fixture));
        let logins = fixture.scratch.path("auth.json");
        let logins = logins.to_str().unwrap();
        let run_skopeo = |words: &[&str]| {
            let mut command = Command::new("skopeo");
            command.args(["--insecure-policy"]).args(words);
            run(command.stdin(Stdio::null()))
        };
        let [first, second] = fixture.tls_options();
        let [dest_option, dest_value] = match &fixture.ca {
            Some(_) => ["--dest-cert-dir", second],
            None => ["--dest-tls-verify=false", "--dest-tls-verify=false"],
        };
        let login = |password| {
            let words = ["login", "--authfile", logins, first, second];
            run_skopeo(&[&words[..], &["-u", "alice", "-p", password, &fixture.name]].concat())
        };
        let push = |name: &str| {
            let remote = format!("docker://{}/{name}", fixture.name);
            run_skopeo(&[
                "copy",
                "--authfile",
                logins,
                dest_option,
                dest_value,
                &archive,
                &remote,
            ])
        };
        let inspect = |name: &str| {
            let remote = format!("docker://{}/{name}", fixture.name);
            run_skopeo(&[
                "inspect",
                "--raw",
                "--authfile",
                logins,
                first,
                second,
                &remote,
            ])
        };
        push("team/app:v1").failed(1, &["auth"]);
        login("wrong").failed(1, &["invalid username/password"]);
        login(PASSWORD).succeeded();
        for name in ["team/app:v1", "public/app:v1"] {
            push(name).succeeded();
            let found = inspect(name).succeeded();
            assert!(found.stdout.contains("layers"), "{found}");
        }
        run_skopeo(&["logout", "--authfile", logins, &fixture.name]).succeeded();
        inspect("team/app:v1").failed(1, &["auth"]);
        match anonymous_pulls {
            AnonymousPulls::Denied => drop(inspect("public/app:v1").failed(1, &["auth"])),
            AnonymousPulls::FromPublic => drop(inspect("public/app:v1").succeeded()),
        }
        // With the login as an option.
        let remote = format!("docker://{}/team/app:v1", fixture.name);
        for (login, code) in [(format!("alice:{PASSWORD}"), 0), ("alice:x".to_owned(), 1)] {
            let outcome = run_skopeo(&[
                "inspect", "--raw", "--creds", &login, first, second, &remote,
            ]);
            assert_eq!(outcome.code, Some(code), "{outcome}");
        }
        fixture.assert_clean_log();
    }
}
