//! Tests `layers/<digest>/index` and `layers/assemble`: the server builds layers from deltas.

#[path = "../../../../tests/support/bytes.rs"]
#[allow(
    clippy::expect_used,
    dead_code,
    unreachable_pub,
    reason = "shared with other tests, which use all of it"
)]
mod bytes;
#[path = "../../../../tests/support/layer_pairs.rs"]
#[allow(clippy::expect_used, dead_code, unreachable_pub, reason = "as above")]
mod layer_pairs;
#[path = "../../../../tests/support/zip.rs"]
#[allow(clippy::expect_used, dead_code, unreachable_pub, reason = "as above")]
mod zip;

mod events;
mod interruptions;
mod layers;
mod memory;
mod refusals;

use std::io::{Cursor, Read, Write as _};

use crate::support::prelude::*;
use imgsync_oci::delta::{self, DecodedBase, EncodeBase, LayerIndex};
use imgsync_oci::ext::assemble::{AssembleRequest, AssemblyState};
use imgsync_oci::layer;

/// A layer that the server is to assemble from one that it has.
struct Assembly {
    base: Digest,
    /// The delta, and the request without a session.
    delta: Vec<u8>,
    request: AssembleRequest,
    /// The blob that a push of the whole layer makes.
    expected: Vec<u8>,
}

impl Assembly {
    /// Pushes the old layer, compressed with gzip, and makes the delta.
    async fn prepare(server: &Server, repository: &str, old: &[u8], new: &[u8]) -> Self {
        let base = server.push_blob(repository, &gzip(old)).await;
        let bases = vec![EncodeBase::Decoded(decoded(old))];
        Self::of(vec![base], bases, new)
    }

    fn of(digests: Vec<Digest>, bases: Vec<EncodeBase<Cursor<Vec<u8>>>>, new: &[u8]) -> Self {
        let (delta, expected) = (make_delta(bases, new), compress(new));
        let request = AssembleRequest {
            session: String::new(),
            delta_digest: Digest::of(&delta),
            bases: digests,
            diff_id: Digest::of(new),
            raw_size: new.len() as u64,
            format: delta::FORMAT_NAME.to_owned(),
            compression: layer::GZIP_FORMAT_NAME.to_owned(),
        };
        Self {
            base: request.bases[0].clone(),
            delta,
            request,
            expected,
        }
    }

    /// Uploads the delta to a session, which the request names from now on. Returns its location.
    async fn upload(&mut self, server: &Server, repository: &str) -> String {
        let location = server.start_upload(repository).await;
        if !self.delta.is_empty() {
            let response = server.patch(&location, 0, &self.delta).await;
            assert_eq!(response.status(), 202);
        }
        self.request.session = location.rsplit('/').next().unwrap().to_owned();
        location
    }

    async fn post(&self, server: &Server, repository: &str) -> Response {
        post(server, repository, &self.request).await
    }

    fn digest(&self) -> Digest {
        Digest::of(&self.expected)
    }

    /// Polls until the assembly has ended.
    async fn wait(&self, server: &Server, repository: &str) -> AssemblyState {
        loop {
            let state = self.poll(server, repository).await.unwrap();
            if !matches!(state, AssemblyState::Working { .. }) {
                return state;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Asks for the state once; `None` if the server knows none.
    async fn poll(&self, server: &Server, repository: &str) -> Option<AssemblyState> {
        let diff_id = &self.request.diff_id;
        let path = format!("/v2/{repository}/_imgsync/layers/assemble/{diff_id}");
        let response = server.get(&path).await;
        if response.status() == 404 {
            assert_error(response, StatusCode::NOT_FOUND, "BLOB_UNKNOWN").await;
            return None;
        }
        assert_eq!(response.status(), 200);
        Some(response.json().await.unwrap())
    }

    fn assert_held(&self, state: &AssemblyState) {
        let AssemblyState::Held { blob } = state else {
            panic!("not held: {state:?}");
        };
        assert_eq!(blob.digest, self.digest());
        assert_eq!(blob.size, self.expected.len() as u64);
        assert!(blob.media_type.ends_with("tar+gzip"));
    }

    async fn has_blob(&self, server: &Server, repository: &str) -> bool {
        let path = format!("/v2/{repository}/blobs/{}", self.digest());
        server.head(&path).await.status() == 200
    }
}

async fn post(server: &Server, repository: &str, request: &AssembleRequest) -> Response {
    let url = server.url(&format!("/v2/{repository}/_imgsync/layers/assemble"));
    let body = serde_json::to_vec(request).unwrap();
    client().post(url).body(body).send().await.unwrap()
}

fn make_delta(mut bases: Vec<EncodeBase<Cursor<Vec<u8>>>>, new: &[u8]) -> Vec<u8> {
    let (bytes, mut delta) = (new.to_vec(), Vec::new());
    let open = || Ok(Box::new(Cursor::new(bytes.clone())) as Box<dyn Read>);
    let scratch = || Ok(Cursor::new(Vec::new()));
    delta::encode(&open, &mut bases, &scratch, u64::MAX, &mut delta).unwrap();
    delta
}

fn decoded(layer: &[u8]) -> DecodedBase<Cursor<Vec<u8>>> {
    DecodedBase::decode(layer, Cursor::new(Vec::new())).unwrap()
}

/// Returns the blob that imgsync makes of a layer.
fn compress(layer: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    layer::gzip(layer, &mut blob, 2).unwrap();
    blob
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn index_path(repository: &str, digest: &Digest) -> String {
    format!("/v2/{repository}/_imgsync/layers/{digest}/index")
}

/// Gets the index of a blob, as soon as the server has it.
async fn index(server: &Server, repository: &str, digest: &Digest) -> LayerIndex {
    loop {
        let response = server.get(&index_path(repository, digest)).await;
        if response.status() == 200 {
            let bytes = response.bytes().await.unwrap();
            return LayerIndex::parse(&bytes).unwrap();
        }
        assert_eq!(response.status(), 202);
        assert!(!header(&response, "retry-after").is_empty());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Returns the temporary files of a server that stay. The thread that computes diffIDs has some for a
/// moment.
fn temporary_files(root: &Path) -> Vec<PathBuf> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let entries = std::fs::read_dir(root.join("imgsync/tmp")).unwrap();
        let files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        if files.is_empty() || std::time::Instant::now() > deadline {
            return files;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
