//! The tool pushes with every kind of login.

use super::{ALL_SETUPS, ClientFixture, PASSWORD, REQUIRED_PROGRAMS, archive_of};
use crate::support::prelude::*;

#[test]
fn imgsync() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    for (transport, anonymous_pulls) in ALL_SETUPS {
        let fixture = ClientFixture::new(transport, anonymous_pulls);
        let imgsync = Imgsync::new(&fixture.scratch.folder("home"));
        let archive = archive_of(&fixture);
        let ca = fixture.ca.as_ref().map(|folder| folder.join("ca.crt"));
        let push = |name: &str, variables: &[(&str, &str)]| {
            let mut command = imgsync.command();
            command.arg("push").envs(variables.iter().copied());
            if let Some(ca) = &ca {
                command.arg("--ca-file").arg(ca);
            }
            run(command.args([&archive, &format!("{}/{name}:v1", fixture.name)]))
        };
        let user = ("IMGSYNC_USERNAME", "alice");
        for name in ["team/app", "public/app"] {
            push(name, &[]).failed(5, &["log in"]);
            push(name, &[user, ("IMGSYNC_PASSWORD", "x")]).failed(5, &["alice"]);
            push(name, &[user, ("IMGSYNC_PASSWORD", PASSWORD)]).succeeded();
        }
        // Login and logout with the tool itself.
        let run_login_command = |word: &str, password: &str| {
            let mut command = imgsync.command();
            command.args([word, &fixture.name]);
            if word == "login" {
                command.args(["--username", "alice", "--password-stdin"]);
                if let Some(ca) = &ca {
                    command.arg("--ca-file").arg(ca);
                }
            }
            let file = fixture.scratch.path("password");
            std::fs::write(&file, password).unwrap();
            run(command.stdin(std::fs::File::open(file).unwrap()))
        };
        run_login_command("login", "wrong").failed(5, &[]);
        run_login_command("login", PASSWORD).succeeded();
        push("third/app", &[]).succeeded();
        run_login_command("logout", "").succeeded();
        push("fourth/app", &[]).failed(5, &["log in"]);
        // A login as `docker login` stores it: alice:correct horse
        let folder = fixture.scratch.folder("docker");
        let auths = format!(
            "{{\"auths\": {{\"{}\": {{\"auth\": \"YWxpY2U6Y29ycmVjdCBob3JzZQ==\"}}}}}}",
            fixture.name
        );
        std::fs::write(folder.join("config.json"), auths).unwrap();
        let config = [("DOCKER_CONFIG", folder.to_str().unwrap())];
        push("other/app", &config).succeeded();
        fixture.assert_clean_log();
    }
}
