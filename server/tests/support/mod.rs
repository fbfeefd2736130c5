//! Starts servers in temporary folders, and sends requests to them.

pub(crate) mod launch;
pub(crate) mod prelude;
pub(crate) mod serial;
pub(crate) mod small_disk;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use imgsync_oci::{ApiError, Digest, api_error, media};
use reqwest::{Client, Response, StatusCode};

/// A server process, which is killed when the value is dropped.
pub(crate) struct Server {
    process: Child,
    root: PathBuf,
    variables: Vec<(String, String)>,
    log: tempfile::NamedTempFile,
    /// `http`, `https` or `unix`.
    pub(crate) scheme: String,
    /// `127.0.0.1:port`, or the path of a socket.
    pub(crate) address: String,
}

impl Server {
    /// Starts a server on a folder and waits until it listens.
    pub(crate) fn start(root: &Path) -> Self {
        Self::start_with(root, &[])
    }

    /// Starts a server with environment variables.
    pub(crate) fn start_with(root: &Path, variables: &[(&str, &str)]) -> Self {
        Self::start_command(command(root), root, variables)
    }

    /// Starts a server that listens on `address`.
    pub(crate) fn start_at(address: &str, root: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
        command
            .args(["serve", "--addr", address, "--root"])
            .arg(root);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Self::start_command(command, root, variables)
    }

    /// Starts a server with a configuration file.
    pub(crate) fn start_configured(config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
        command.arg("serve").arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Self::start_command(command, config, &[])
    }

    /// Starts a server with a prepared command.
    pub(crate) fn start_process(command: Command, root: &Path) -> Self {
        Self::start_command(command, root, &[])
    }

    fn start_command(mut command: Command, root: &Path, variables: &[(&str, &str)]) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut process = command
            .envs(variables.iter().copied())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        let stdout = process.stdout.take().unwrap();
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let url = line.strip_prefix("imgsync-server listening on ");
        let url = url.and_then(|url| url.trim().split_once("://"));
        let (scheme, address) = url.unwrap_or_else(|| {
            let log = std::fs::read_to_string(log.path()).unwrap();
            panic!("not a listening line: {line:?}\n{log}")
        });
        let to_owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            process,
            root: root.to_owned(),
            variables: variables.iter().map(to_owned).collect(),
            log,
            scheme: scheme.to_owned(),
            address: address.to_owned(),
        }
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Waits until a complete line of the log contains `text`. Returns the complete lines.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        let began = Instant::now();
        loop {
            let log = self.log();
            let lines = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
            if lines.contains(text) {
                return lines.to_owned();
            }
            assert!(began.elapsed().as_secs() < 60, "no {text:?} in {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the resident memory of the process in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// Returns the peak of the resident memory since the start in KiB.
    pub(crate) fn peak_resident_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse().unwrap()
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let kill = Command::new("kill").args(["-s", name, &id]).status();
        assert!(kill.unwrap().success());
    }

    /// Kills the server with SIGKILL, and starts another one on the same folder.
    pub(crate) fn kill_and_restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let variables = self.variables.clone();
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        *self = Self::start_with(&self.root.clone(), &variables);
    }

    /// Sends SIGTERM, which shuts the server down gracefully.
    pub(crate) fn terminate(&mut self) {
        self.signal("TERM");
    }

    /// Waits until the process has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// Returns the URL of a path, or of a `Location`, which must be relative.
    pub(crate) fn url(&self, path: &str) -> String {
        assert!(path.starts_with('/'), "not relative: {path}");
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Opens an upload session and returns its `Location`.
    pub(crate) async fn start_upload(&self, repository: &str) -> String {
        let url = self.url(&format!("/v2/{repository}/blobs/uploads/"));
        let response = client().post(url).send().await.unwrap();
        assert_eq!(response.status(), 202);
        assert_offset(&response, 0);
        header(&response, "location")
    }

    /// Sends a chunk that starts at the offset `first`.
    pub(crate) async fn patch(&self, location: &str, first: u64, bytes: &[u8]) -> Response {
        let range = format!("{first}-{}", first + bytes.len() as u64 - 1);
        let request = client()
            .patch(self.url(location))
            .header("content-range", range);
        request.body(bytes.to_vec()).send().await.unwrap()
    }

    /// Finishes a session with the last bytes, which may be empty.
    pub(crate) async fn put(&self, location: &str, digest: &Digest, bytes: &[u8]) -> Response {
        let url = self.url(&format!("{location}?digest={digest}"));
        client().put(url).body(bytes.to_vec()).send().await.unwrap()
    }

    /// Returns the offset that a session reports.
    pub(crate) async fn offset(&self, location: &str) -> u64 {
        let response = client().get(self.url(location)).send().await.unwrap();
        assert_eq!(response.status(), 204);
        header(&response, "imgsync-upload-offset").parse().unwrap()
    }

    /// Waits until another request holds a session. Polls with a chunk whose offset is never right,
    /// so that nothing is written.
    pub(crate) async fn wait_until_busy(&self, location: &str) {
        loop {
            let response = self.patch(location, 1 << 60, b"x").await;
            let errors =
                assert_error(response, StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID").await;
            if errors[0]
                .detail
                .as_str()
                .unwrap()
                .contains("another request")
            {
                return;
            }
        }
    }

    /// Pushes a blob with one request.
    pub(crate) async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let url = self.url(&format!("/v2/{repository}/blobs/uploads/?digest={digest}"));
        let response = client()
            .post(url)
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(
            header(&response, "docker-content-digest"),
            digest.to_string()
        );
        digest
    }

    /// Waits until the server has computed the diffIDs of all blobs, so that it writes nothing in
    /// the background.
    pub(crate) async fn wait_for_diff_ids(&self) {
        let url = self.url("/v2/a/_imgsync/layers/resolve");
        let body = format!("{{\"diffIDs\":[\"{}\"]}}", Digest::of(b"of nothing"));
        loop {
            let answer = client().post(&url).body(body.clone()).send().await.unwrap();
            if !answer.text().await.unwrap().contains("pending") {
                return;
            }
        }
    }

    /// Sends a GET request.
    pub(crate) async fn get(&self, path: &str) -> Response {
        client().get(self.url(path)).send().await.unwrap()
    }

    /// Sends a HEAD request.
    pub(crate) async fn head(&self, path: &str) -> Response {
        client().head(self.url(path)).send().await.unwrap()
    }

    /// Puts a manifest under a tag or digest.
    pub(crate) async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Response {
        let url = self.url(&format!("/v2/{repository}/manifests/{reference}"));
        let request = client().put(url).header("content-type", media_type);
        request.body(bytes.to_vec()).send().await.unwrap()
    }

    /// Pushes a small image, different for each `word`, and returns its manifest.
    pub(crate) async fn push_image(
        &self,
        repository: &str,
        reference: &str,
        word: &str,
    ) -> Vec<u8> {
        let config = format!("{{\"word\":\"{word}\"}}");
        let layer = format!("the layer of {word}");
        self.push_blob(repository, config.as_bytes()).await;
        self.push_blob(repository, layer.as_bytes()).await;
        let manifest = manifest(config.as_bytes(), &[layer.as_bytes()]);
        let response = self.put_manifest(repository, reference, media::OCI_MANIFEST, &manifest);
        assert_eq!(response.await.status(), 201);
        manifest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the command that serves a folder on a free port.
pub(crate) fn command(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
    command
        .args(["serve", "--addr", "127.0.0.1:0", "--root"])
        .arg(root);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Returns a client that ignores the proxy variables of the environment.
pub(crate) fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// Returns an image manifest with this config and these layers.
pub(crate) fn manifest(config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let layer = |bytes: &&[u8]| descriptor("application/vnd.oci.image.layer.v1.tar", bytes);
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, config),
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes()
}

/// Returns the descriptor of `bytes`.
pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({
        "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len(),
    })
}

/// Returns the value of a header; empty if the header is missing.
pub(crate) fn header(response: &Response, name: &str) -> String {
    let value = response.headers().get(name);
    value
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default()
}

/// Checks the headers that every response about an upload session has.
pub(crate) fn assert_offset(response: &Response, offset: u64) {
    assert_eq!(
        header(response, "imgsync-upload-offset"),
        offset.to_string()
    );
    assert_eq!(
        header(response, "range"),
        format!("0-{}", offset.saturating_sub(1))
    );
    let location = header(response, "location");
    assert!(
        location.ends_with(&header(response, "docker-upload-uuid")),
        "{location}"
    );
}

/// Checks the status, headers and codes of an error response, and returns its errors.
pub(crate) async fn assert_error(
    response: Response,
    status: StatusCode,
    code: &str,
) -> Vec<ApiError> {
    assert_eq!(response.status(), status);
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(
        header(&response, "docker-distribution-api-version"),
        "registry/2.0"
    );
    let body = response.bytes().await.unwrap();
    let errors = api_error::parse_error_body(&body);
    assert!(!errors.is_empty(), "{body:?}");
    for error in &errors {
        assert_eq!(error.code, code, "{error}");
        assert!(!error.message.is_empty());
    }
    errors
}

/// Returns pseudo-random bytes, always the same for a length.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    let mut state = len as u64 + 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
