//! Tests `layers/resolve`: the server finds layers by diffIDs that it has computed itself.

use std::io::Write as _;

use crate::support::prelude::*;
use imgsync_oci::client::{Client, UrlScheme};
use imgsync_oci::ext::resolve::{
    MAX_RESOLVE_REQUEST_BYTES, ResolveRequest, ResolveResponse, ResolvedLayer,
};
use imgsync_oci::{Descriptor, Registry, Repository};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Returns a tar archive with one file.
fn tar(content: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    header[..4].copy_from_slice(b"file");
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
    [&header[..], content, &padding, &[0; 1024]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn held_layer(media_type: &str, blob: &[u8]) -> ResolvedLayer {
    let blob = Descriptor::new(media_type, Digest::of(blob), blob.len() as u64);
    ResolvedLayer::Held { blob }
}

/// Repeats the request until no layer is pending.
async fn resolve(server: &Server, repository: &str, request: &ResolveRequest) -> ResolveResponse {
    let registry: Registry = server.address.parse().unwrap();
    let client = Client::new(&registry, UrlScheme::Http).unwrap();
    let repository: Repository = repository.parse().unwrap();
    loop {
        let answer = client.resolve_layers(&repository, request).await;
        let answer = answer.unwrap().unwrap();
        if !answer.layers.contains(&ResolvedLayer::Pending) {
            return answer;
        }
    }
}

async fn layers(server: &Server, repository: &str, diff_ids: &[&Digest]) -> Vec<ResolvedLayer> {
    let request = ResolveRequest {
        diff_ids: diff_ids.iter().map(|digest| (*digest).clone()).collect(),
        ..ResolveRequest::default()
    };
    resolve(server, repository, &request).await.layers
}

#[tokio::test]
async fn layers_are_found_by_diff_id_and_manifests_by_config() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let (first, second) = (tar(&bytes(3_000_000)), tar(&bytes(10)));
    let blobs = [
        [gzip(&first[..1_000_000]), gzip(&first[1_000_000..])].concat(),
        zstd::stream::encode_all(&second[..], 3).unwrap(),
    ];
    let ids = [&Digest::of(&first), &Digest::of(&second)];
    // The config claims diffIDs that its layers do not have. The server does not use them.
    let wrong_id = Digest::of(b"a lie");
    let config =
        serde_json::json!({"rootfs": {"type": "layers", "diff_ids": [wrong_id, wrong_id]}});
    let config = config.to_string().into_bytes();
    for blob in blobs.iter().chain([&config]) {
        server.push_blob("team/app", blob).await;
    }
    let image = manifest(&config, &[&blobs[0], &blobs[1]]);
    let put = server.put_manifest("team/app", "v1", media::OCI_MANIFEST, &image);
    assert_eq!(put.await.status(), 201);
    let request = ResolveRequest {
        config: Some(Digest::of(&config)),
        diff_ids: vec![ids[0].clone(), wrong_id.clone(), ids[1].clone()],
        ..ResolveRequest::default()
    };
    let expected = ResolveResponse {
        layers: vec![
            held_layer(GZIP, &blobs[0]),
            ResolvedLayer::Absent,
            held_layer("application/vnd.oci.image.layer.v1.tar+zstd", &blobs[1]),
        ],
        manifests: vec![Descriptor::new(
            media::OCI_MANIFEST,
            Digest::of(&image),
            image.len() as u64,
        )],
    };
    assert_eq!(resolve(&server, "team/app", &request).await, expected);
    server.kill_and_restart();
    assert_eq!(resolve(&server, "team/app", &request).await, expected);
    // In another repository the layer is reported as elsewhere until a request mounts it.
    let other = resolve(&server, "other", &request).await;
    assert!(other.manifests.is_empty());
    assert!(
        matches!(&other.layers[0], ResolvedLayer::Elsewhere { repository, .. } if repository == "team/app")
    );
    let blob = format!("/v2/other/blobs/{}", Digest::of(&blobs[0]));
    assert_eq!(server.head(&blob).await.status(), 404);
    let with_mount = ResolveRequest {
        mount: true,
        ..request.clone()
    };
    assert_eq!(
        resolve(&server, "other", &with_mount).await.layers,
        expected.layers
    );
    assert_eq!(server.head(&blob).await.status(), 200);
}

#[tokio::test]
async fn deleted_blobs_are_absent_and_older_blobs_are_found_after_a_start() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let tar = tar(&bytes(2_000_000));
    let blob = gzip(&tar);
    server.push_blob("a", &blob).await;
    // The server is most likely killed while it computes the diffID, and must compute it again.
    server.kill_and_restart();
    let id = Digest::of(&tar);
    assert_eq!(
        layers(&server, "a", &[&id]).await,
        [held_layer(GZIP, &blob)]
    );
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    std::fs::remove_dir_all(root.path().join("imgsync/diffids")).unwrap();
    let server = Server::start(root.path());
    assert_eq!(
        layers(&server, "a", &[&id]).await,
        [held_layer(GZIP, &blob)]
    );
    let hex = Digest::of(&blob).hex().to_owned();
    let data = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    std::fs::remove_file(root.path().join(data)).unwrap();
    assert_eq!(layers(&server, "a", &[&id]).await, [ResolvedLayer::Absent]);
    assert_eq!(layers(&server, "b", &[&id]).await, [ResolvedLayer::Absent]);
}

#[tokio::test]
async fn blobs_that_do_not_decode_completely_are_ignored() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let tar = tar(&bytes(100_000));
    let blob = gzip(&tar);
    server.push_blob("a", &blob[..blob.len() - 9]).await;
    server
        .push_blob("a", &[&blob[..], b"trailing"].concat())
        .await;
    server.push_blob("a", &[&blob[..], b"\0"].concat()).await;
    let id = Digest::of(&tar);
    assert_eq!(layers(&server, "a", &[&id]).await, [ResolvedLayer::Absent]);
    server.push_blob("a", &blob).await;
    assert_eq!(
        layers(&server, "a", &[&id]).await,
        [held_layer(GZIP, &blob)]
    );
}

#[tokio::test]
async fn invalid_requests() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let path = "/v2/a/_imgsync/layers/resolve";
    let post = |body: Vec<u8>| client().post(server.url(path)).body(body).send();
    let ids: Vec<_> = (0..=1000)
        .map(|i| Digest::of(&[i as u8, (i >> 8) as u8]))
        .collect();
    let too_many = serde_json::json!({ "diffIDs": ids }).to_string();
    for body in ["", "{", "[]", "{\"diffIDs\":[\"sha256:../..\"]}", &too_many] {
        let response = post(body.as_bytes().to_vec()).await.unwrap();
        assert_error(response, StatusCode::BAD_REQUEST, "UNSUPPORTED").await;
    }
    let too_long = post(vec![b' '; MAX_RESOLVE_REQUEST_BYTES + 1])
        .await
        .unwrap();
    assert_error(too_long, StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID").await;
    let response = server.get(path).await;
    assert_error(response, StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED").await;
    let extensions = server
        .get("/v2/_oci/ext/discover")
        .await
        .text()
        .await
        .unwrap();
    assert!(
        extensions.contains("_imgsync/layers/resolve"),
        "{extensions}"
    );
    // The largest request that is allowed, for a repository that does not exist.
    let largest: Vec<_> = ids[1..].iter().collect();
    let answer = layers(&server, "nowhere", &largest).await;
    assert_eq!(answer, vec![ResolvedLayer::Absent; 1000]);
}
