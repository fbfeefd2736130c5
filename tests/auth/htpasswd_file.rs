//! Other programs read the htpasswd file that the server writes.

use crate::support::prelude::*;

const PASSWORD: &str = "correct horse";

#[test]
fn apache_and_the_stock_registry_read_our_htpasswd_file() {
    if !programs_available(&["htpasswd", "curl", "docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let users = scratch.path("htpasswd");
    // Apache's entry for bob must stay.
    must(
        Command::new("htpasswd")
            .args(["-Bbc"])
            .arg(&users)
            .args(["bob", "x"]),
    );
    let password = scratch.path("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let mut command = Command::new(crate::support::server::binary());
    command.arg("htpasswd").arg(&users).arg("alice");
    run(command.stdin(std::fs::File::open(&password).unwrap())).succeeded();
    let auth = format!("auth: {{htpasswd: {{realm: here, path: {users:?}}}}}\n");
    let stock = StockRegistry::start_configured(&scratch.folder("root"), "", "", &auth);
    for (user, password, status) in [
        ("alice", PASSWORD, "200"),
        ("alice", "x", "401"),
        ("bob", "x", "200"),
    ] {
        let mut apache = Command::new("htpasswd");
        let outcome = run(apache.arg("-vb").arg(&users).args([user, password]));
        assert_eq!(outcome.code == Some(0), status == "200", "{outcome}");
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--noproxy",
            "*",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
        ]);
        curl.args(["-u", &format!("{user}:{password}")]);
        assert_eq!(
            must(curl.arg(format!("http://{}/v2/", stock.address()))),
            status
        );
    }
}
