//! Which manifests speak about which.

use crate::support::prelude::*;
use imgsync_oci::referrers::{ReferrerDescriptor, ReferrersIndex};
use serde_json::{Value, json};

/// A manifest that speaks about another, different for each `word`.
fn about(subject: &Value, word: &str) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "artifactType": format!("application/x.{word}"),
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [],
        "subject": subject,
        "annotations": { "org.example.word": word },
    })
}

/// Pushes a manifest by digest, and checks that its subject is understood.
async fn push(server: &Server, manifest: &Value) -> Digest {
    let bytes = manifest.to_string();
    let digest = Digest::of(bytes.as_bytes());
    let media_type = manifest["mediaType"].as_str().unwrap();
    let at = digest.to_string();
    let put = server.put_manifest("a", &at, media_type, bytes.as_bytes());
    let response = put.await;
    assert_eq!(response.status(), 201);
    assert_eq!(
        header(&response, "oci-subject"),
        manifest["subject"]["digest"].as_str().unwrap_or_default()
    );
    digest
}

/// The referrers that a path lists, all pages.
async fn listed(server: &Server, path: &str) -> Vec<ReferrerDescriptor> {
    let (mut found, mut next) = (Vec::new(), path.to_owned());
    loop {
        let response = server.get(&next).await;
        assert_eq!(response.status(), 200, "{next}");
        assert_eq!(header(&response, "content-type"), media::OCI_INDEX);
        let link = header(&response, "link");
        let body = response.bytes().await.unwrap();
        assert!(body.len() <= 4 * 1024 * 1024 + 1024);
        let page: ReferrersIndex = serde_json::from_slice(&body).unwrap();
        found.extend(page.manifests);
        match link.strip_prefix('<') {
            Some(link) => next = link.strip_suffix(">; rel=\"next\"").unwrap().to_owned(),
            None => return found,
        }
    }
}

async fn digests(server: &Server, subject: &Digest) -> Vec<Digest> {
    let path = format!("/v2/a/referrers/{subject}");
    let found = listed(server, &path).await;
    found.into_iter().map(|one| one.digest).collect()
}

fn sorted(digests: &[&Digest]) -> Vec<Digest> {
    let mut digests: Vec<Digest> = digests.iter().map(|one| (*one).clone()).collect();
    digests.sort();
    digests
}

#[tokio::test]
async fn they_are_listed_with_what_they_say_of_themselves() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let image = server.push_image("a", "v1", "word").await;
    server.push_blob("a", b"{}").await;
    let subject = descriptor(media::OCI_MANIFEST, &image);
    let digest = Digest::of(&image);
    assert_eq!(digests(&server, &digest).await, []);
    let sbom = push(&server, &about(&subject, "sbom")).await;
    let mut plain = about(&subject, "plain");
    plain.as_object_mut().unwrap().remove("artifactType");
    plain.as_object_mut().unwrap().remove("annotations");
    let plain = push(&server, &plain).await;
    let list = json!({
        "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [],
        "artifactType": "application/x.list", "subject": subject,
    });
    let list = push(&server, &list).await;
    let unrelated = about(&json!(null), "unrelated");
    push(&server, &unrelated).await;
    for _ in 0..2 {
        assert_eq!(
            digests(&server, &digest).await,
            sorted(&[&sbom, &plain, &list])
        );
        let found = listed(&server, &format!("/v2/a/referrers/{digest}")).await;
        let of = |wanted: &Digest| found.iter().find(|one| one.digest == *wanted).unwrap();
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
            about(&subject, "sbom").to_string().len() as u64
        );
        let empty = Some("application/vnd.oci.empty.v1+json");
        assert_eq!(of(&plain).artifact_type.as_deref(), empty);
        assert_eq!(of(&plain).annotations, None);
        assert_eq!(of(&list).media_type, media::OCI_INDEX);
        // The same after a restart.
        server.kill_and_restart();
    }
    // One type only.
    for (wanted, expected) in [
        ("application/x.sbom", vec![sbom.clone()]),
        ("application/vnd.oci.empty.v1%2Bjson", vec![plain.clone()]),
        ("application/x.nothing", vec![]),
    ] {
        let path = format!("/v2/a/referrers/{digest}?artifactType={wanted}");
        let response = server.get(&path).await;
        assert_eq!(header(&response, "oci-filters-applied"), "artifactType");
        let found: Vec<_> = listed(&server, &path)
            .await
            .into_iter()
            .map(|one| one.digest)
            .collect();
        assert_eq!(found, expected, "{wanted}");
    }
    let response = server.get(&format!("/v2/a/referrers/{digest}")).await;
    assert_eq!(header(&response, "oci-filters-applied"), "");
    // A deleted one is not listed; pushed again, it is.
    let path = server.url(&format!("/v2/a/manifests/{sbom}"));
    assert_eq!(client().delete(path).send().await.unwrap().status(), 202);
    assert_eq!(digests(&server, &digest).await, sorted(&[&plain, &list]));
    push(&server, &about(&subject, "sbom")).await;
    assert_eq!(
        digests(&server, &digest).await,
        sorted(&[&sbom, &plain, &list])
    );
}

#[tokio::test]
async fn of_what_is_unknown_or_comes_later_or_is_named_by_sha512() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let nobody = Digest::of(b"nobody");
    for repository in ["a", "no/such/repository"] {
        let path = format!("/v2/{repository}/referrers/{nobody}");
        assert_eq!(listed(&server, &path).await, []);
    }
    faults(
        server.get("/v2/a/referrers/sha256:beef").await,
        StatusCode::BAD_REQUEST,
        "DIGEST_INVALID",
    )
    .await;
    server.push_blob("a", b"{}").await;
    let later = descriptor(media::OCI_MANIFEST, b"later");
    let early = push(&server, &about(&later, "early")).await;
    assert_eq!(digests(&server, &Digest::of(b"later")).await, [early]);
    // The lists go by the digest that was given, not by content.
    let image = server.push_image("a", "v1", "word").await;
    let long = Digest::of_with(Algorithm::Sha512, &image);
    let subject = json!({
        "mediaType": media::OCI_MANIFEST, "digest": long, "size": image.len(),
    });
    let one = push(&server, &about(&subject, "long")).await;
    assert_eq!(digests(&server, &long).await, [one]);
    assert_eq!(digests(&server, &Digest::of(&image)).await, []);
    // A referrer that is itself named by sha512.
    let bytes = about(&subject, "longer").to_string();
    let digest = Digest::of_with(Algorithm::Sha512, bytes.as_bytes());
    let at = digest.to_string();
    let put = server.put_manifest("a", &at, media::OCI_MANIFEST, bytes.as_bytes());
    assert_eq!(put.await.status(), 201);
    assert!(digests(&server, &long).await.contains(&digest));
}

#[tokio::test]
async fn many_and_large_ones_come_in_pages() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    server.push_blob("a", b"{}").await;
    let subject = descriptor(media::OCI_MANIFEST, b"subject");
    let mut pushed = Vec::new();
    for word in ["one", "two", "three", "four", "five"] {
        let mut manifest = about(&subject, word);
        manifest["annotations"]["padding"] = "x".repeat(1_500_000).into();
        pushed.push(push(&server, &manifest).await);
    }
    pushed.sort();
    let path = format!("/v2/a/referrers/{}", Digest::of(b"subject"));
    let first: ReferrersIndex = server.get(&path).await.json().await.unwrap();
    assert_eq!(first.manifests.len(), 2);
    assert_eq!(digests(&server, &Digest::of(b"subject")).await, pushed);
    let filtered = format!("{path}?artifactType=application/x.two");
    assert_eq!(listed(&server, &filtered).await.len(), 1);
}

/// A stock registry knows nothing of referrers: what it pushes, deletes and damages while we are
/// not there is found out at the next start.
#[tokio::test]
async fn what_happened_while_the_server_was_away_is_found_out() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    server.push_blob("a", b"{}").await;
    let subject = descriptor(media::OCI_MANIFEST, b"subject");
    let of = Digest::of(b"subject");
    let mut known = Vec::new();
    for word in ["stays", "vanishes", "breaks"] {
        known.push(push(&server, &about(&subject, word)).await);
    }
    assert_eq!(digests(&server, &of).await.len(), 3);
    drop(server);
    // Once more, so that all of them have been read at a start.
    let server = Server::start(root.path());
    assert_eq!(digests(&server, &of).await.len(), 3);
    drop(server);

    let v2 = root.path().join("docker/registry/v2");
    let revisions = v2.join("repositories/a/_manifests/revisions/sha256");
    let data = |digest: &Digest| {
        let blobs = v2.join("blobs/sha256").join(&digest.hex()[..2]);
        blobs.join(digest.hex()).join("data")
    };
    let [stays, vanishes, breaks] = &known[..] else {
        panic!()
    };
    std::fs::remove_file(revisions.join(vanishes.hex()).join("link")).unwrap();
    std::fs::write(data(breaks), b"").unwrap();
    let new = about(&subject, "new").to_string();
    let added = Digest::of(new.as_bytes());
    std::fs::create_dir_all(data(&added).parent().unwrap()).unwrap();
    std::fs::write(data(&added), &new).unwrap();
    std::fs::create_dir_all(revisions.join(added.hex())).unwrap();
    std::fs::write(revisions.join(added.hex()).join("link"), added.to_string()).unwrap();

    let server = Server::start(root.path());
    assert_eq!(digests(&server, &of).await, sorted(&[stays, &added]));
    drop(server);
    // One that comes back.
    std::fs::write(
        revisions.join(vanishes.hex()).join("link"),
        vanishes.to_string(),
    )
    .unwrap();
    let server = Server::start(root.path());
    assert_eq!(
        digests(&server, &of).await,
        sorted(&[stays, vanishes, &added])
    );
    drop(server);
    // And all of our own files gone.
    std::fs::remove_dir_all(root.path().join("imgsync")).unwrap();
    let server = Server::start(root.path());
    assert_eq!(
        digests(&server, &of).await,
        sorted(&[stays, vanishes, &added])
    );
}

#[tokio::test]
async fn hints_that_a_power_cut_took_are_made_again() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    server.push_blob("a", b"{}").await;
    let absent = descriptor(media::OCI_MANIFEST, b"subject");
    let subject: Digest = absent["digest"].as_str().unwrap().parse().unwrap();
    let signature = push(&server, &about(&absent, "signature")).await;
    // Reads the manifest, and notes that it did.
    server.kill_and_restart();
    let expected = vec![signature];
    assert_eq!(digests(&server, &subject).await, expected);
    let known = root.path().join("imgsync/repositories/a");
    assert!(known.join("_examined").exists());
    std::fs::remove_dir_all(known.join("_referrers")).unwrap();
    server.kill_and_restart();
    assert_eq!(digests(&server, &subject).await, expected);
}

#[tokio::test]
async fn many_that_ask_at_once_for_what_is_not_known_yet_are_all_told() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    server.push_blob("a", b"{}").await;
    let absent = descriptor(media::OCI_MANIFEST, b"subject");
    let subject: Digest = absent["digest"].as_str().unwrap().parse().unwrap();
    for number in 0..50 {
        push(&server, &about(&absent, &number.to_string())).await;
    }
    server.kill_and_restart();
    let asked = (0..60).map(|_| digests(&server, &subject));
    for found in futures::future::join_all(asked).await {
        assert_eq!(found.len(), 50);
    }
}
