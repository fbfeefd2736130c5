//! Tests CORS preflight requests, which browsers send for pages of another origin.

use crate::support::prelude::*;

#[tokio::test]
async fn a_preflight_needs_no_login_and_gets_the_configured_headers() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("htpasswd");
    let output = Command::new(env!("CARGO_BIN_EXE_imgsync-server"))
        .args(["htpasswd", "--cost", "4"])
        .args([users.to_str().unwrap(), "alice"])
        .stdin(password(folder.path()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
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
    let preflight = |path: &str| client().request(Method::OPTIONS, server.url(path)).send();
    let blob = format!("/v2/team/app/blobs/{}", Digest::of(b"x"));
    for (path, allow) in [
        ("/v2/", "GET, HEAD"),
        ("/v2/_catalog?n=5", "GET"),
        ("/v2/team/app/tags/list", "GET"),
        ("/v2/team/app/manifests/v1", "GET, HEAD, PUT, DELETE"),
        (&blob, "GET, HEAD, DELETE"),
        ("/v2/team/app/blobs/uploads/", "POST"),
    ] {
        let response = preflight(path).await.unwrap();
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
    let unknown = preflight("/v3/").await.unwrap();
    assert_error(unknown, StatusCode::NOT_FOUND, "UNSUPPORTED").await;
    // A GET still needs a login.
    let response = server.get("/v2/team/app/tags/list").await;
    assert_eq!(response.status(), 401);
}

/// Returns a file with a password, for standard input.
fn password(folder: &Path) -> Stdio {
    let path = folder.join("password");
    std::fs::write(&path, "a password of alice\n").unwrap();
    std::fs::File::open(path).unwrap().into()
}
