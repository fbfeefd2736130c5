//! Layers that are assembled, and the indexes that clients need for it.

use super::*;
use crate::support::command;

/// The old layer is stored in any compression, and the new one becomes the blob that a push of the
/// whole layer makes.
#[tokio::test]
async fn a_layer_is_assembled_to_the_blob_of_a_whole_push() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let (old, new) = (
        layer_pairs::compiled_python(false, 60),
        layer_pairs::compiled_python(true, 60),
    );
    let zstd = zstd::stream::encode_all(&old[..], 3).unwrap();
    for (repository, blob) in [("none", old.clone()), ("gzip", gzip(&old)), ("zstd", zstd)] {
        let base = server.push_blob(repository, &blob).await;
        let index = index(&server, repository, &base).await;
        assert_eq!(index.raw_size(), old.len() as u64);
        let mut assembly = Assembly::of(vec![base], vec![EncodeBase::Index(index)], &new);
        assert!(assembly.delta.len() < new.len() / 20);
        let session = assembly.upload(&server, repository).await;
        let response = assembly.post(&server, repository).await;
        assert_eq!(response.status(), 202);
        let location = header(&response, "location");
        assert!(location.ends_with(&assembly.request.diff_id.to_string()));
        assembly.assert_held(&assembly.wait(&server, repository).await);
        let path = format!("/v2/{repository}/blobs/{}", assembly.digest());
        let blob = server.get(&path).await;
        assert!(blob.bytes().await.unwrap() == assembly.expected);
        // The session is gone, and asking again changes nothing.
        assert_eq!(server.get(&session).await.status(), 404);
        let again = assembly.post(&server, repository).await;
        assert_eq!(again.status(), 202);
        assembly.assert_held(&again.json().await.unwrap());
        assert_eq!(temporary_files(root.path()), Vec::<PathBuf>::new());
    }
    let log = server.wait_for_log("assembled a layer");
    assert!(log.contains("milliseconds"), "{log}");
}

/// Several bases, of which the client has the bytes of some; the new layer is a base of the next one.
#[tokio::test]
async fn a_layer_is_assembled_from_several_and_becomes_a_base() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let first = layer_pairs::compiled_python(false, 40);
    let second = layer_pairs::sources(false, 100, 3000);
    // Two archives after each other: the second one is the tail of the first.
    let new = [
        layer_pairs::compiled_python(true, 40),
        layer_pairs::sources(true, 100, 3000),
    ]
    .concat();
    let digests = vec![
        server.push_blob("a", &gzip(&first)).await,
        server.push_blob("a", &second).await,
    ];
    let bases = vec![
        EncodeBase::Decoded(decoded(&first)),
        EncodeBase::Index(index(&server, "a", &digests[1]).await),
    ];
    let mut assembly = Assembly::of(digests, bases, &new);
    assembly.upload(&server, "a").await;
    assert_eq!(assembly.post(&server, "a").await.status(), 202);
    assembly.assert_held(&assembly.wait(&server, "a").await);
    let base = assembly.digest();
    let bases = vec![EncodeBase::Index(index(&server, "a", &base).await)];
    let mut next = Assembly::of(vec![base], bases, &first);
    next.upload(&server, "a").await;
    assert_eq!(next.post(&server, "a").await.status(), 202);
    // The repository has the layer already, in another compression.
    match next.wait(&server, "a").await {
        AssemblyState::Held { blob } => assert_eq!(blob.digest, Digest::of(&gzip(&first))),
        state => panic!("{state:?}"),
    }
}

#[tokio::test]
async fn an_index_is_served_to_those_who_may_pull_the_layer() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let layer = layer_pairs::sources(false, 50, 500);
    let digest = server.push_blob("a", &gzip(&layer)).await;
    let other = server.push_blob("a", b"{\"not\":\"a layer\"}").await;
    let expected = index(&server, "a", &digest).await;
    let path = index_path("a", &digest);
    let response = server.get(&path).await;
    assert_eq!(
        header(&response, "content-type"),
        "application/octet-stream"
    );
    assert!(header(&response, "cache-control").contains("immutable"));
    let tag = header(&response, "etag");
    let cached = client().get(server.url(&path)).header("if-none-match", tag);
    assert_eq!(cached.send().await.unwrap().status(), 304);
    server.wait_for_diff_ids().await;
    for (repository, digest) in [("b", &digest), ("a", &other), ("a", &Digest::of(b"no"))] {
        let response = server.get(&index_path(repository, digest)).await;
        let errors = assert_error(response, StatusCode::NOT_FOUND, "BLOB_UNKNOWN").await;
        assert_eq!(errors[0].detail, digest.to_string());
    }
    // An earlier version stored no index.
    let indexes = root.path().join("imgsync/layer-indexes-1");
    std::fs::remove_dir_all(&indexes).unwrap();
    server.kill_and_restart();
    server.wait_for_diff_ids().await;
    assert!(!indexes.exists());
    assert_eq!(index(&server, "a", &digest).await, expected);
}

#[tokio::test]
async fn a_purge_and_a_collection_remove_indexes() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let layers = [50, 60].map(|count| gzip(&layer_pairs::sources(false, count, 500)));
    let mut files = Vec::new();
    for layer in &layers {
        let digest = server.push_blob("a", layer).await;
        index(&server, "a", &digest).await;
        let shard = format!("sha256/{}/{}", &digest.hex()[..2], digest.hex());
        files.push(root.path().join("imgsync/layer-indexes-1").join(shard));
    }
    server.wait_for_diff_ids().await;
    drop(server);
    let collect = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
        command.arg("garbage-collect").args(arguments);
        command.arg("--root").arg(root.path());
        command.env("REGISTRY_IMGSYNC_GC_GRACE", "0s");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    assert!(files.iter().all(|file| file.exists()));
    collect(&["--purge", &Digest::of(&layers[0]).to_string()]);
    assert!(!files[0].exists() && files[1].exists());
    collect(&[]);
    assert!(!files[1].exists());
}

#[tokio::test]
async fn delta_uploads_can_be_turned_off_and_bounded() {
    let root = tempfile::tempdir().unwrap();
    let off = [("REGISTRY_IMGSYNC_DELTA_ENABLED", "false")];
    let server = Server::start_with(root.path(), &off);
    let layer = layer_pairs::sources(false, 50, 500);
    let mut assembly = Assembly::prepare(&server, "a", &layer, &layer).await;
    assembly.upload(&server, "a").await;
    server.wait_for_diff_ids().await;
    let responses = [
        server.get(&index_path("a", &assembly.base)).await,
        assembly.post(&server, "a").await,
    ];
    for response in responses {
        assert_error(response, StatusCode::NOT_FOUND, "UNSUPPORTED").await;
    }
    let extensions = server
        .get("/v2/_oci/ext/discover")
        .await
        .text()
        .await
        .unwrap();
    assert!(!extensions.contains("assemble\""), "{extensions}");
    assert!(!root.path().join("imgsync/layer-indexes-1").exists());
    drop(server);
    let small = [("REGISTRY_IMGSYNC_DELTA_MAXSIZE", "20KB")];
    let server = Server::start_process(
        {
            let mut command = command(root.path());
            command.envs(small);
            command
        },
        root.path(),
    );
    let response = assembly.post(&server, "a").await;
    let errors = assert_error(response, StatusCode::BAD_REQUEST, "UNSUPPORTED").await;
    assert!(
        errors[0]
            .detail
            .to_string()
            .contains("imgsync.delta.maxsize")
    );
    loop {
        let response = server.get(&index_path("a", &assembly.base)).await;
        if response.status() == 404 {
            break;
        }
        assert_eq!(response.status(), 202);
    }
    drop(server);
    // With a larger limit, the layer gets an index.
    let server = Server::start(root.path());
    index(&server, "a", &assembly.base).await;
}
