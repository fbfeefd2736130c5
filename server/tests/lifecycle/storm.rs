//! A storm: clients push, mount, retag, sign, delete, give up and pull while the server collects
//! garbage without a pause and with a grace period of seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::garbage::run;
use crate::support::prelude::*;

const CLIENTS: u64 = 32;
/// The clients push to one pair of repositories after another, so that the others are quiet and
/// their garbage gets old enough.
const PAIRS: u64 = 6;
const TIME_WITH_A_PAIR: Duration = Duration::from_secs(1);
const BLOBS: u64 = 24;
/// The images of which blobs are uploaded, but at first no manifest.
const GIVEN_UP_IMAGES: u64 = 6;
const DEFAULT_SECONDS: u64 = 12;
/// The grace period of the server.
const GRACE: (&str, &str) = ("REGISTRY_IMGSYNC_GC_GRACE", "3s");
/// How long ago a pair was used whose garbage gets old enough now.
const GARBAGE_AGE: Duration = Duration::from_secs(3);
/// For how long a client may rely on what it was told: the server counts whole seconds.
const RELIANCE: Duration = Duration::from_secs(2);

/// The longest time from the last blob of an image to its manifest, less than [`RELIANCE`].
const MAX_PAUSE_MILLISECONDS: u64 = 1500;

/// The events of a storm.
#[derive(Debug, Default)]
struct Outcome {
    /// The tags of a client, and the manifest that each has.
    tags: BTreeMap<(String, String), Digest>,
    pushed: usize,
    reused: usize,
    /// Images that were finished after they had been given up.
    finished: usize,
    /// Pushes for which something had to be sent again, because they took too long.
    repeated: usize,
    pulled: usize,
}

struct StormClient<'a> {
    server: &'a Server,
    http: reqwest::Client,
    began: Instant,
    number: u64,
    random: u64,
    outcome: Outcome,
}

impl StormClient<'_> {
    fn random(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    /// Returns one of the two repositories that are in use at some time since the start.
    fn repository_at(&mut self, time: Duration) -> String {
        let pair = time.as_millis() / TIME_WITH_A_PAIR.as_millis();
        let pair = pair as u64 % PAIRS;
        format!("r{}", 2 * pair + self.random(2))
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Response {
        let request = self.http.request(method, self.server.url(path));
        let request = request.header("content-type", media::OCI_MANIFEST);
        request.body(body).send().await.unwrap()
    }

    async fn act(&mut self) {
        let now = self.began.elapsed();
        let repository = self.repository_at(now);
        match self.random(10) {
            0 | 1 => self.give_up(&repository).await,
            2 => self.delete(&repository).await,
            3 | 4 => self.pull(&repository).await,
            5..=7 => {
                let repository = self.repository_at(now.saturating_sub(GARBAGE_AGE));
                self.finish_given_up(&repository).await;
            }
            _ => self.push(&repository).await,
        }
    }

    /// Uploads the blobs of an image, but no manifest.
    async fn give_up(&mut self, repository: &str) {
        for blob in given_up_image(self.random(GIVEN_UP_IMAGES)) {
            self.upload(repository, &blob).await;
        }
    }

    /// Asks for the blobs of an image that was given up, perhaps just before they are collected, and
    /// pushes the manifest if they are there.
    async fn finish_given_up(&mut self, repository: &str) {
        let number = self.random(GIVEN_UP_IMAGES);
        let [config, layer] = given_up_image(number);
        let began = Instant::now();
        for blob in [&config, &layer] {
            let path = format!("/v2/{repository}/blobs/{}", Digest::of(blob));
            let answer = self.send(Method::HEAD, &path, Vec::new()).await;
            if answer.status() != StatusCode::OK {
                return;
            }
        }
        self.pause().await;
        let manifest = manifest(&config, &[&layer]);
        let tag = format!("finished-{number}");
        let path = format!("/v2/{repository}/manifests/{tag}");
        let answer = self.send(Method::PUT, &path, manifest.clone()).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        if status != StatusCode::CREATED {
            assert!(began.elapsed() > RELIANCE, "{status}: {text}");
            return;
        }
        self.outcome.finished += 1;
        let key = (repository.to_owned(), tag);
        self.outcome.tags.insert(key, Digest::of(&manifest));
    }

    /// Waits as if something else took so long, elsewhere.
    async fn pause(&mut self) {
        let pause = self.random(MAX_PAUSE_MILLISECONDS);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    async fn upload(&mut self, repository: &str, blob: &[u8]) {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let opened = self.send(Method::POST, &path, Vec::new()).await;
        assert_eq!(opened.status(), StatusCode::ACCEPTED);
        let location = header(&opened, "location");
        self.finish(&location, blob).await;
    }

    async fn finish(&mut self, location: &str, blob: &[u8]) {
        let path = format!("{location}?digest={}", Digest::of(blob));
        let finished = self.send(Method::PUT, &path, blob.to_vec()).await;
        assert_eq!(finished.status(), StatusCode::CREATED);
    }

    /// Makes sure that a repository has a blob, as a client does: by a question, a mount or an upload.
    async fn provide(&mut self, repository: &str, blob: &[u8]) {
        let digest = Digest::of(blob);
        match self.random(3) {
            0 => {
                let path = format!("/v2/{repository}/blobs/{digest}");
                let answer = self.send(Method::HEAD, &path, Vec::new()).await;
                if answer.status() == StatusCode::OK {
                    self.outcome.reused += 1;
                    return;
                }
                assert_eq!(answer.status(), StatusCode::NOT_FOUND);
                self.upload(repository, blob).await;
            }
            1 => {
                let from = self.random(2 * PAIRS);
                let path = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from=r{from}");
                let answer = self.send(Method::POST, &path, Vec::new()).await;
                if answer.status() == StatusCode::CREATED {
                    self.outcome.reused += 1;
                    return;
                }
                assert_eq!(answer.status(), StatusCode::ACCEPTED);
                self.finish(&header(&answer, "location"), blob).await;
            }
            _ => self.upload(repository, blob).await,
        }
    }

    async fn push(&mut self, repository: &str) {
        // No other client pushes this manifest.
        let (client, number) = (self.number, self.random(4));
        let config = format!("{{\"client\":{client},\"number\":{number}}}");
        let layers = [blob(self.random(BLOBS)), blob(self.random(BLOBS))];
        let blobs = [config.as_bytes(), &layers[0], &layers[1]];
        let manifest = manifest(blobs[0], &blobs[1..]);
        let tag = format!("t{client}-{}", self.random(2));
        let path = format!("/v2/{repository}/manifests/{tag}");
        loop {
            let began = Instant::now();
            for blob in blobs {
                self.provide(repository, blob).await;
            }
            self.pause().await;
            let answer = self.send(Method::PUT, &path, manifest.clone()).await;
            if answer.status() == StatusCode::CREATED {
                break;
            }
            let status = answer.status();
            let text = answer.text().await.unwrap();
            assert!(began.elapsed() > RELIANCE, "{status}: {text}");
            self.outcome.repeated += 1;
        }
        let digest = Digest::of(&manifest);
        self.outcome.pushed += 1;
        self.outcome
            .tags
            .insert((repository.to_owned(), tag), digest.clone());
        if self.random(3) == 0 {
            self.sign(repository, &manifest).await;
        }
    }

    /// Pushes a signature of an image.
    async fn sign(&mut self, repository: &str, subject: &[u8]) {
        let signature = blob(self.random(BLOBS));
        let began = Instant::now();
        self.upload(repository, &signature).await;
        let manifest = manifest(&signature, &[]);
        let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        manifest["subject"] = descriptor(media::OCI_MANIFEST, subject);
        let manifest = manifest.to_string().into_bytes();
        let path = format!("/v2/{repository}/manifests/{}", Digest::of(&manifest));
        let answer = self.send(Method::PUT, &path, manifest).await;
        let is_accepted = answer.status() == StatusCode::CREATED;
        assert!(
            is_accepted || began.elapsed() > RELIANCE,
            "{}",
            answer.status()
        );
    }

    /// Deletes the manifest of one of this client's tags, if there is one, and with it these tags.
    async fn delete(&mut self, repository: &str) {
        let key = (repository.to_owned(), format!("t{}-0", self.number));
        let Some(digest) = self.outcome.tags.get(&key).cloned() else {
            return;
        };
        let path = format!("/v2/{repository}/manifests/{digest}");
        let answer = self.send(Method::DELETE, &path, Vec::new()).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{path}");
        let stays =
            |(of, _): &(String, String), found: &Digest| of != repository || *found != digest;
        self.outcome.tags.retain(|key, found| stays(key, found));
    }

    /// Pulls the image of a tag of any client, if there is one.
    async fn pull(&mut self, repository: &str) {
        let client = self.random(CLIENTS);
        let tag = format!("t{client}-{}", self.random(2));
        let began = Instant::now();
        match pull(self.server, &self.http, repository, &tag).await {
            Ok(is_there) => self.outcome.pulled += usize::from(is_there),
            Err(text) => assert!(began.elapsed() > RELIANCE, "{text}"),
        }
    }
}

/// Pulls an image and checks its bytes. Returns whether there is one.
///
/// # Errors
/// Returns an error if a part of the image is missing.
async fn pull(
    server: &Server,
    http: &reqwest::Client,
    repository: &str,
    reference: &str,
) -> Result<bool, String> {
    let get = async |path: String| {
        let answer = http.get(server.url(&path)).send().await.unwrap();
        let is_there = answer.status() == StatusCode::OK;
        let bytes = answer.bytes().await.unwrap();
        is_there.then_some(bytes).ok_or(path)
    };
    let Ok(manifest) = get(format!("/v2/{repository}/manifests/{reference}")).await else {
        return Ok(false);
    };
    for digest in named(&manifest) {
        let bytes = get(format!("/v2/{repository}/blobs/{digest}")).await?;
        assert_eq!(Digest::of(&bytes), digest);
    }
    Ok(true)
}

/// Returns the digests of the blobs that a manifest names.
fn named(manifest: &[u8]) -> Vec<Digest> {
    let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let descriptors = layers.iter().chain([&manifest["config"]]);
    let digest = |descriptor: &serde_json::Value| descriptor["digest"].as_str().unwrap().parse();
    descriptors
        .map(|descriptor| digest(descriptor).unwrap())
        .collect()
}

/// Returns the config and the layer of an image.
fn given_up_image(number: u64) -> [Vec<u8>; 2] {
    let config = format!("{{\"image\":{number}}}");
    [config.into_bytes(), bytes(2000 + number as usize)]
}

/// Returns the bytes of a blob; most are small.
fn blob(number: u64) -> Vec<u8> {
    bytes(if number == 0 {
        300_000
    } else {
        10 + number as usize
    })
}

/// Returns the digests of the blobs and manifests whose bytes are in a folder.
fn stored(root: &Path) -> BTreeSet<Digest> {
    let names = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let shards = names(&root.join("docker/registry/v2/blobs/sha256"));
    let folders = shards.iter().flat_map(|shard| names(shard));
    let name = |folder: PathBuf| folder.file_name().unwrap().to_str().unwrap().to_owned();
    folders
        .map(|folder| format!("sha256:{}", name(folder)).parse().unwrap())
        .collect()
}

/// Returns the digests of the manifests of all repositories and of the blobs that they name.
fn referenced(root: &Path) -> BTreeSet<Digest> {
    let mut referenced = BTreeSet::new();
    for number in 0..2 * PAIRS {
        let tree = root.join("docker/registry/v2");
        let revisions = tree.join(format!(
            "repositories/r{number}/_manifests/revisions/sha256"
        ));
        for entry in std::fs::read_dir(revisions).into_iter().flatten() {
            let hex = entry.unwrap().file_name().into_string().unwrap();
            let bytes = tree.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]));
            let manifest = std::fs::read(bytes).unwrap();
            referenced.insert(Digest::of(&manifest));
            referenced.extend(named(&manifest));
        }
    }
    referenced
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_clients_loses_nothing_and_leaves_no_garbage() {
    let root = tempfile::tempdir().unwrap();
    let delete_enabled = ("REGISTRY_STORAGE_DELETE_ENABLED", "true");
    let interval = ("REGISTRY_IMGSYNC_GC_INTERVAL", "20ms");
    let server = Server::start_with(root.path(), &[GRACE, interval, delete_enabled]);
    let seconds = std::env::var("IMGSYNC_TESTS_STORM_SECONDS").ok();
    let seconds = seconds.map_or(DEFAULT_SECONDS, |seconds| seconds.parse().unwrap());
    let began = Instant::now();
    let clients = (0..CLIENTS).map(|number| {
        let mut client = StormClient {
            server: &server,
            http: client(),
            began,
            number,
            random: number + 1,
            outcome: Outcome::default(),
        };
        async move {
            while began.elapsed().as_secs() < seconds {
                client.act().await;
            }
            client.outcome
        }
    });
    let outcomes = futures::future::join_all(clients).await;
    let sum = |count: fn(&Outcome) -> usize| outcomes.iter().map(count).sum::<usize>();
    let counts = [
        sum(|outcome| outcome.pushed),
        sum(|outcome| outcome.reused),
        sum(|outcome| outcome.finished),
        sum(|outcome| outcome.repeated),
        sum(|outcome| outcome.pulled),
    ];
    println!("pushed, reused, finished, repeated, pulled: {counts:?}");
    assert!(
        counts[0] > 0 && counts[1] > 0 && counts[4] > 0,
        "{counts:?}"
    );

    // Everything that was acknowledged is there.
    let http = client();
    for ((repository, tag), digest) in outcomes.iter().flat_map(|outcome| &outcome.tags) {
        let is_there = pull(&server, &http, repository, tag).await;
        assert_eq!(is_there, Ok(true), "{repository}:{tag} {digest}");
    }
    // Nothing else is left, once it is old enough.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (_, details, code) = run(root.path(), &["garbage-collect", "-q"], &[]);
        assert!(code == 0 || details.contains("running"), "{details}");
        if stored(root.path()) == referenced(root.path()) {
            break;
        }
        assert!(Instant::now() < deadline, "garbage is left: {details}");
    }
    let log = server.log();
    let collected = log
        .lines()
        .filter(|line| line.contains("collected garbage"));
    let removed = collected.filter(|line| !line.contains("blobs=0 ")).count();
    println!("collections that removed something: {removed}");
    // How many depends on the load of the machine.
    assert!(removed > 0, "{log}");
}
