//! Lists of several pages.

use super::login::{new_client, repository};
use crate::fake::{FakeServer, status};
use imgsync_oci::client::Error;

#[tokio::test]
async fn lists_are_read_to_their_end_and_not_from_other_hosts() {
    let hub =
        FakeServer::start(
            |request| match request.query("last").first().map(String::as_str) {
                None => status(200)
                    .header("Link", "</v2/team/app/tags/list?last=b&n=2>; rel=\"next\"")
                    .body(r#"{"name": "team/app", "tags": ["a", "b", "not a tag"]}"#),
                Some("b") => status(200)
                    .header("Link", "<http://example.com/v2/>; rel=\"next\"")
                    .body(r#"{"tags": ["c"]}"#),
                Some(_) => status(404),
            },
        );
    let client = new_client(&hub.address(), None);
    let first = client
        .list_tags(&repository(), None)
        .await
        .unwrap()
        .unwrap();
    let texts: Vec<String> = first.names.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["a", "b"]);
    let error = client
        .list_tags(&repository(), first.next)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidResponse { .. }), "{error}");
}
