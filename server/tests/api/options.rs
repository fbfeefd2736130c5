//! What a browser asks before a page of another site may use the registry.

use crate::support::prelude::*;

#[tokio::test]
async fn a_preflight_needs_no_login_and_gets_the_headers_of_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("htpasswd");
    let set = Command::new(env!("CARGO_BIN_EXE_imgsync-server"))
        .args(["htpasswd", "--cost", "4"])
        .args([users.to_str().unwrap(), "alice"])
        .stdin(password(folder.path()))
        .output()
        .unwrap();
    assert!(set.status.success(), "{set:?}");
    let config = folder.path().join("config.yml");
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {root}\nhttp:\n  addr: \
         127.0.0.1:0\n  headers:\n    Access-Control-Allow-Origin: ['https://ui.example']\n    \
         Access-Control-Allow-Headers: [Authorization, Accept]\nauth:\n  htpasswd:\n    realm: a \
         realm\n    path: {users}\n",
        root = folder.path().join("root").display(),
        users = users.display(),
    );
    std::fs::write(&config, text).unwrap();
    let server = Server::start_configured(&config);
    let ask = |path: &str| client().request(Method::OPTIONS, server.url(path)).send();
    let blob = format!("/v2/team/app/blobs/{}", Digest::of(b"x"));
    for (path, allow) in [
        ("/v2/", "GET, HEAD"),
        ("/v2/_catalog?n=5", "GET"),
        ("/v2/team/app/tags/list", "GET"),
        ("/v2/team/app/manifests/v1", "GET, HEAD, PUT, DELETE"),
        (&blob, "GET, HEAD, DELETE"),
        ("/v2/team/app/blobs/uploads/", "POST"),
    ] {
        let response = ask(path).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(header(&response, "allow"), allow, "{path}");
        assert_eq!(
            header(&response, "access-control-allow-origin"),
            "https://ui.example"
        );
        let values = response.headers().get_all("access-control-allow-headers");
        assert_eq!(
            values.iter().collect::<Vec<_>>(),
            ["Authorization", "Accept"]
        );
        assert!(response.bytes().await.unwrap().is_empty());
    }
    let unknown = ask("/v3/").await.unwrap();
    faults(unknown, StatusCode::NOT_FOUND, "UNSUPPORTED").await;
    // All else still needs a login.
    let response = server.get("/v2/team/app/tags/list").await;
    assert_eq!(response.status(), 401);
}

/// A password as standard input.
fn password(folder: &Path) -> Stdio {
    let path = folder.join("password");
    std::fs::write(&path, "a password of alice\n").unwrap();
    std::fs::File::open(path).unwrap().into()
}
