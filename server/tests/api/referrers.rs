//! Tests the lists of referrers.

use crate::support::prelude::*;
use imgsync_oci::referrers::{ReferrerDescriptor, ReferrersIndex};
use serde_json::{Value, json};

/// Returns a manifest that refers to `subject`, different for each `word`.
fn referrer(subject: &Value, word: &str) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "artifactType": format!("application/x.{word}"),
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [],
        "subject": subject,
        "annotations": { "org.example.word": word },
    })
}

/// Pushes a manifest by digest, and checks that the response names its subject.
async fn push(server: &Server, manifest: &Value) -> Digest {
    let bytes = manifest.to_string();
    let digest = Digest::of(bytes.as_bytes());
    let media_type = manifest["mediaType"].as_str().unwrap();
    let reference = digest.to_string();
    let put = server.put_manifest("a", &reference, media_type, bytes.as_bytes());
    let response = put.await;
    assert_eq!(response.status(), 201);
    assert_eq!(
        header(&response, "oci-subject"),
        manifest["subject"]["digest"].as_str().unwrap_or_default()
    );
    digest
}

/// Returns the referrers that a path lists, of all pages.
async fn list(server: &Server, path: &str) -> Vec<ReferrerDescriptor> {
    let (mut referrers, mut next) = (Vec::new(), path.to_owned());
    loop {
        let response = server.get(&next).await;
        assert_eq!(response.status(), 200, "{next}");
        assert_eq!(header(&response, "content-type"), media::OCI_INDEX);
        let link = header(&response, "link");
        let body = response.bytes().await.unwrap();
        assert!(body.len() <= 4 * 1024 * 1024 + 1024);
        let page: ReferrersIndex = serde_json::from_slice(&body).unwrap();
        referrers.extend(page.manifests);
        match link.strip_prefix('<') {
            Some(link) => next = link.strip_suffix(">; rel=\"next\"").unwrap().to_owned(),
            None => return referrers,
        }
    }
}

async fn digests(server: &Server, subject: &Digest) -> Vec<Digest> {
    let path = format!("/v2/a/referrers/{subject}");
    let referrers = list(server, &path).await.into_iter();
    referrers.map(|referrer| referrer.digest).collect()
}

fn sorted(digests: &[&Digest]) -> Vec<Digest> {
    let mut digests: Vec<Digest> = digests.iter().map(|digest| (*digest).clone()).collect();
    digests.sort();
    digests
}

#[tokio::test]
async fn referrers_are_listed_with_their_type_and_annotations() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let image = server.push_image("a", "v1", "word").await;
    server.push_blob("a", b"{}").await;
    let subject = descriptor(media::OCI_MANIFEST, &image);
    let digest = Digest::of(&image);
    assert_eq!(digests(&server, &digest).await, []);
    let sbom = push(&server, &referrer(&subject, "sbom")).await;
    let mut plain = referrer(&subject, "plain");
    plain.as_object_mut().unwrap().remove("artifactType");
    plain.as_object_mut().unwrap().remove("annotations");
    let plain = push(&server, &plain).await;
    let index = json!({
        "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [],
        "artifactType": "application/x.list", "subject": subject,
    });
    let index = push(&server, &index).await;
    let unrelated = referrer(&json!(null), "unrelated");
    push(&server, &unrelated).await;
    for _ in 0..2 {
        assert_eq!(
            digests(&server, &digest).await,
            sorted(&[&sbom, &plain, &index])
        );
        let referrers = list(&server, &format!("/v2/a/referrers/{digest}")).await;
        let of = |digest: &Digest| {
            let mut referrers = referrers.iter();
            referrers
                .find(|referrer| referrer.digest == *digest)
                .unwrap()
        };
        assert_eq!(
            of(&sbom).artifact_type.as_deref(),
            Some("application/x.sbom")
        );
        assert_eq!(
            of(&sbom).annotations.as_ref().unwrap()["org.example.word"],
            "sbom"
        );
        assert_eq!(
            of(&sbom).size,
            referrer(&subject, "sbom").to_string().len() as u64
        );
        let empty = Some("application/vnd.oci.empty.v1+json");
        assert_eq!(of(&plain).artifact_type.as_deref(), empty);
        assert_eq!(of(&plain).annotations, None);
        assert_eq!(of(&index).media_type, media::OCI_INDEX);
        // The second round checks that the list is the same after a restart.
        server.kill_and_restart();
    }
    // The lists of one artifact type.
    for (artifact_type, expected) in [
        ("application/x.sbom", vec![sbom.clone()]),
        ("application/vnd.oci.empty.v1%2Bjson", vec![plain.clone()]),
        ("application/x.nothing", vec![]),
    ] {
        let path = format!("/v2/a/referrers/{digest}?artifactType={artifact_type}");
        let response = server.get(&path).await;
        assert_eq!(header(&response, "oci-filters-applied"), "artifactType");
        let digests: Vec<_> = list(&server, &path)
            .await
            .into_iter()
            .map(|referrer| referrer.digest)
            .collect();
        assert_eq!(digests, expected, "{artifact_type}");
    }
    let response = server.get(&format!("/v2/a/referrers/{digest}")).await;
    assert_eq!(header(&response, "oci-filters-applied"), "");
    // A deleted referrer is not listed until it is pushed again.
    let path = server.url(&format!("/v2/a/manifests/{sbom}"));
    assert_eq!(client().delete(path).send().await.unwrap().status(), 202);
    assert_eq!(digests(&server, &digest).await, sorted(&[&plain, &index]));
    push(&server, &referrer(&subject, "sbom")).await;
    assert_eq!(
        digests(&server, &digest).await,
        sorted(&[&sbom, &plain, &index])
    );
}

#[tokio::test]
async fn subjects_that_are_missing_pushed_later_or_named_by_sha512() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let missing = Digest::of(b"nobody");
    for repository in ["a", "no/such/repository"] {
        let path = format!("/v2/{repository}/referrers/{missing}");
        assert_eq!(list(&server, &path).await, []);
    }
    assert_error(
        server.get("/v2/a/referrers/sha256:beef").await,
        StatusCode::BAD_REQUEST,
        "DIGEST_INVALID",
    )
    .await;
    server.push_blob("a", b"{}").await;
    let later = descriptor(media::OCI_MANIFEST, b"later");
    let early = push(&server, &referrer(&later, "early")).await;
    assert_eq!(digests(&server, &Digest::of(b"later")).await, [early]);
    // A list has the referrers that name this digest, not those that name the same content by another
    // algorithm.
    let image = server.push_image("a", "v1", "word").await;
    let sha512 = Digest::of_with(Algorithm::Sha512, &image);
    let subject = json!({
        "mediaType": media::OCI_MANIFEST, "digest": sha512, "size": image.len(),
    });
    let pushed = push(&server, &referrer(&subject, "long")).await;
    assert_eq!(digests(&server, &sha512).await, [pushed]);
    assert_eq!(digests(&server, &Digest::of(&image)).await, []);
    // A referrer that is itself named by sha512.
    let bytes = referrer(&subject, "longer").to_string();
    let digest = Digest::of_with(Algorithm::Sha512, bytes.as_bytes());
    let reference = digest.to_string();
    let put = server.put_manifest("a", &reference, media::OCI_MANIFEST, bytes.as_bytes());
    assert_eq!(put.await.status(), 201);
    assert!(digests(&server, &sha512).await.contains(&digest));
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    server.push_blob("a", b"{}").await;
    let subject = descriptor(media::OCI_MANIFEST, b"subject");
    let mut pushed = Vec::new();
    for word in ["one", "two", "three", "four", "five"] {
        let mut manifest = referrer(&subject, word);
        manifest["annotations"]["padding"] = "x".repeat(1_500_000).into();
        pushed.push(push(&server, &manifest).await);
    }
    pushed.sort();
    let path = format!("/v2/a/referrers/{}", Digest::of(b"subject"));
    let first: ReferrersIndex = server.get(&path).await.json().await.unwrap();
    assert_eq!(first.manifests.len(), 2);
    assert_eq!(digests(&server, &Digest::of(b"subject")).await, pushed);
    let filtered = format!("{path}?artifactType=application/x.two");
    assert_eq!(list(&server, &filtered).await.len(), 1);
}

/// A stock registry on the same folder does not maintain the lists of referrers. The server finds
/// its changes at the next start.
#[tokio::test]
async fn changes_while_the_server_was_stopped_are_found() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    server.push_blob("a", b"{}").await;
    let subject = descriptor(media::OCI_MANIFEST, b"subject");
    let digest = Digest::of(b"subject");
    let mut pushed = Vec::new();
    for word in ["stays", "vanishes", "breaks"] {
        pushed.push(push(&server, &referrer(&subject, word)).await);
    }
    assert_eq!(digests(&server, &digest).await.len(), 3);
    drop(server);
    // A second start, so that the server has read all of them at a start.
    let server = Server::start(root.path());
    assert_eq!(digests(&server, &digest).await.len(), 3);
    drop(server);

    let v2 = root.path().join("docker/registry/v2");
    let revisions = v2.join("repositories/a/_manifests/revisions/sha256");
    let data = |digest: &Digest| {
        let blobs = v2.join("blobs/sha256").join(&digest.hex()[..2]);
        blobs.join(digest.hex()).join("data")
    };
    let [stays, vanishes, breaks] = &pushed[..] else {
        panic!()
    };
    std::fs::remove_file(revisions.join(vanishes.hex()).join("link")).unwrap();
    std::fs::write(data(breaks), b"").unwrap();
    let new = referrer(&subject, "new").to_string();
    let added = Digest::of(new.as_bytes());
    std::fs::create_dir_all(data(&added).parent().unwrap()).unwrap();
    std::fs::write(data(&added), &new).unwrap();
    std::fs::create_dir_all(revisions.join(added.hex())).unwrap();
    std::fs::write(revisions.join(added.hex()).join("link"), added.to_string()).unwrap();

    let server = Server::start(root.path());
    assert_eq!(digests(&server, &digest).await, sorted(&[stays, &added]));
    drop(server);
    // A referrer whose link is restored.
    std::fs::write(
        revisions.join(vanishes.hex()).join("link"),
        vanishes.to_string(),
    )
    .unwrap();
    let server = Server::start(root.path());
    assert_eq!(
        digests(&server, &digest).await,
        sorted(&[stays, vanishes, &added])
    );
    drop(server);
    // All files of this server are deleted.
    std::fs::remove_dir_all(root.path().join("imgsync")).unwrap();
    let server = Server::start(root.path());
    assert_eq!(
        digests(&server, &digest).await,
        sorted(&[stays, vanishes, &added])
    );
}

#[tokio::test]
async fn a_lost_or_damaged_index_is_written_again() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    server.push_blob("a", b"{}").await;
    let absent = descriptor(media::OCI_MANIFEST, b"subject");
    let subject: Digest = absent["digest"].as_str().unwrap().parse().unwrap();
    let expected = vec![push(&server, &referrer(&absent, "signature")).await];
    server.kill_and_restart();
    assert_eq!(digests(&server, &subject).await, expected);
    let index = root.path().join("imgsync/repositories/a/_manifest-index-1");
    let bytes = std::fs::read(&index).unwrap();
    for damaged in [Vec::new(), vec![0; bytes.len()], bytes[1..].to_vec()] {
        std::fs::write(&index, damaged).unwrap();
        server.kill_and_restart();
        assert_eq!(digests(&server, &subject).await, expected);
    }
    std::fs::remove_file(&index).unwrap();
    server.kill_and_restart();
    assert_eq!(digests(&server, &subject).await, expected);
    server.wait_for_diff_ids().await;
    assert!(index.exists());
}

/// An earlier version stored each referrer in a file.
#[tokio::test]
async fn files_of_an_earlier_version_are_replaced() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    server.push_blob("a", b"{}").await;
    let absent = descriptor(media::OCI_MANIFEST, b"subject");
    let subject: Digest = absent["digest"].as_str().unwrap().parse().unwrap();
    let signature = push(&server, &referrer(&absent, "signature")).await;
    let folder = root.path().join("imgsync/repositories/a");
    std::fs::remove_dir_all(&folder).unwrap();
    let hints = folder.join(format!("_referrers/sha256-{}", subject.hex()));
    std::fs::create_dir_all(&hints).unwrap();
    std::fs::write(hints.join(format!("sha256-{}", signature.hex())), b"").unwrap();
    let examined = format!("imgsync-examined-2\n{signature} {subject}\n");
    std::fs::write(folder.join("_examined"), examined).unwrap();
    server.kill_and_restart();
    assert_eq!(digests(&server, &subject).await, [signature]);
    assert!(!folder.join("_referrers").exists() && !folder.join("_examined").exists());
}

#[tokio::test]
async fn concurrent_requests_after_a_start_all_get_the_whole_list() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    server.push_blob("a", b"{}").await;
    let absent = descriptor(media::OCI_MANIFEST, b"subject");
    let subject: Digest = absent["digest"].as_str().unwrap().parse().unwrap();
    for number in 0..50 {
        push(&server, &referrer(&absent, &number.to_string())).await;
    }
    server.kill_and_restart();
    let requests = (0..60).map(|_| digests(&server, &subject));
    for referrers in futures::future::join_all(requests).await {
        assert_eq!(referrers.len(), 50);
    }
}
