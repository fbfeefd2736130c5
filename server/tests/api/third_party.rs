//! Tests the server with `oci-client`, a client of another project.

use crate::support::prelude::*;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

#[tokio::test]
async fn oci_client_pushes_mounts_and_pulls() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let client = Client::new(ClientConfig {
        protocol: ClientProtocol::Http,
        ..Default::default()
    });
    let reference: Reference = format!("{}/team/app:v1", server.address).parse().unwrap();
    // One layer of several chunks of 4 MiB, and one of exactly one chunk.
    let layers: Vec<_> = [10_000_000, 4 * 1024 * 1024, 17]
        .map(|len| ImageLayer::oci_v1(bytes(len), None))
        .into();
    let config = Config::oci_v1(&b"{}"[..], None);
    let auth = RegistryAuth::Anonymous;
    client
        .push(&reference, &layers, config, &auth, None)
        .await
        .unwrap();

    let accepted = vec!["application/vnd.oci.image.layer.v1.tar"];
    let image = client.pull(&reference, &auth, accepted).await.unwrap();
    // The client returns the layers in the order of their arrival.
    assert_eq!(image.layers.len(), layers.len());
    for pushed in &layers {
        assert!(image.layers.iter().any(|pulled| pulled.data == pushed.data));
    }
    let other: Reference = format!("{}/team/other:v1", server.address).parse().unwrap();
    let digest = Digest::of(&bytes(17)).to_string();
    client
        .mount_blob(&other, &reference, &digest)
        .await
        .unwrap();
    let tags = client
        .list_tags(&reference, &auth, None, None)
        .await
        .unwrap();
    assert_eq!(tags.tags, ["v1"]);
}
