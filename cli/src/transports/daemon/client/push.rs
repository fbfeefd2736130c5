//! The requests for a push from the daemon to a registry of this process.

use bytes::Bytes;
use http::{Request, Response, header};
use hyper::body::Incoming;
use imgsync_oci::Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{DaemonClient, encoded, next_chunk};
use crate::image::Error;
use crate::transports::daemon::request::{bytes_body, empty_body, innermost};

/// The header with the login at a registry.
const REGISTRY_AUTH: &str = "X-Registry-Auth";
/// No login, as base64 of an empty JSON object.
const NO_AUTH: &str = "e30=";
/// The longest message of a push, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// A step of a build.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HistoryEntry {
    #[serde(default)]
    size: u64,
}

/// A message of podman's push.
#[derive(Deserialize)]
struct PodmanMessage {
    error: Option<String>,
}

impl DaemonClient {
    /// Returns the sizes in bytes of the steps that built an image, the last step first.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable, has no such image, or refuses.
    pub(in crate::transports::daemon) async fn history_sizes(
        &self,
        image: &Digest,
    ) -> Result<Vec<u64>, Error> {
        let id = image.to_string();
        let path = format!("images/{}/history", encoded(&id));
        let (entries, _) = self.get::<Vec<HistoryEntry>>(&path, &id).await?;
        Ok(entries.into_iter().map(|entry| entry.size).collect())
    }

    /// Creates a container of an image, and does not start it.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable, has no such image, or refuses; the status is 409
    /// if there is a container of that name.
    pub(in crate::transports::daemon) async fn create_container(
        &self,
        name: &str,
        image: &str,
    ) -> Result<(), Error> {
        let path = format!("/containers/create?name={}", encoded(name));
        // An image need not have a command, but a container must.
        let config = json!({"Image": image, "Cmd": ["imgsync"], "Entrypoint": []});
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let body = bytes_body(config.to_string());
        self.in_time(self.send(request, body, image)).await?;
        Ok(())
    }

    /// Removes a container; one that does not exist is no error.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable or refuses.
    pub(in crate::transports::daemon) async fn remove_container(
        &self,
        name: &str,
    ) -> Result<(), Error> {
        let path = format!("/containers/{}?force=true&v=true", encoded(name));
        self.delete(&path, name).await
    }

    /// Removes a tag of an image; one that does not exist is no error. The image is kept as long as
    /// it has another tag or a container.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable or refuses.
    pub(in crate::transports::daemon) async fn untag(&self, reference: &str) -> Result<(), Error> {
        let path = format!("/images/{}?noprune=true", encoded(reference));
        self.delete(&path, reference).await
    }

    /// Makes the daemon ask a registry for an image. The answer is not needed.
    pub(in crate::transports::daemon) async fn probe_registry(&self, reference: &str) {
        let path = format!("/distribution/{}/json", encoded(reference));
        let request = Request::get(path).header(REGISTRY_AUTH, NO_AUTH);
        let _ = self
            .in_time(self.send(request, empty_body(), reference))
            .await;
    }

    /// Pushes an image to the registry in its name. Dropping the returned stream cancels the push.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable, has no such image, or refuses.
    pub(in crate::transports::daemon) async fn push(
        &self,
        repository: &str,
        tag: &str,
        auth: &str,
    ) -> Result<ProgressStream, Error> {
        let path = format!("/images/{}/push?tag={}", encoded(repository), encoded(tag));
        let request = Request::post(path).header(REGISTRY_AUTH, auth);
        let response = self.send(request, empty_body(), repository).await?;
        Ok(ProgressStream::new(self, response))
    }

    /// Pushes an image from podman to `destination`, without TLS. Returns the reason why the push
    /// ended. Dropping the future cancels the push.
    ///
    /// # Errors
    /// Returns an error if podman is unreachable, has no such image, or refuses.
    pub(in crate::transports::daemon) async fn podman_push(
        &self,
        image: &Digest,
        destination: &str,
        auth: &str,
    ) -> Result<String, Error> {
        let (id, destination) = (image.hex(), encoded(destination));
        let path =
            format!("/v4.0.0/libpod/images/{id}/push?destination={destination}&tlsVerify=false");
        let request = Request::post(path).header(REGISTRY_AUTH, auth);
        let response = self.send(request, empty_body(), id).await?;
        let mut progress = ProgressStream::new(self, response);
        while let Some(message) = progress.next::<PodmanMessage>().await? {
            if let Some(error) = message.error.filter(|error| !error.is_empty()) {
                return Ok(error);
            }
        }
        Ok("podman ended its push".to_owned())
    }

    async fn delete(&self, path: &str, name: &str) -> Result<(), Error> {
        let request = Request::delete(path);
        match self.in_time(self.send(request, empty_body(), name)).await {
            Ok(_) | Err(Error::NoSuchImage { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The messages of a push, one JSON object in each line.
#[derive(Debug)]
pub(in crate::transports::daemon) struct ProgressStream {
    client: DaemonClient,
    response: Response<Incoming>,
    received: Vec<u8>,
    has_ended: bool,
}

impl ProgressStream {
    fn new(client: &DaemonClient, response: Response<Incoming>) -> Self {
        Self {
            client: client.clone(),
            response,
            received: Vec::new(),
            has_ended: false,
        }
    }

    /// Returns the next message; `None` at the end. Lines of another kind are skipped.
    ///
    /// # Errors
    /// Returns an error if the connection breaks, or if a line is too long.
    pub(in crate::transports::daemon) async fn next<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<T>, Error> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(message) => return Ok(Some(message)),
                    Err(_) => continue,
                }
            }
            if self.has_ended {
                let rest = std::mem::take(&mut self.received);
                return Ok(serde_json::from_slice(&rest).ok());
            }
            if self.received.len() > MAX_MESSAGE_BYTES {
                let address = self.client.address();
                let from = format!("{} at {address}", address.engine());
                let limit = format!("{MAX_MESSAGE_BYTES} bytes");
                return Err(Error::too_large(&from, "a message", limit));
            }
            let chunk = next_chunk(&mut self.response).await;
            let chunk: Option<Bytes> =
                chunk.map_err(|error| self.client.unreachable(innermost(&error)))?;
            match chunk {
                Some(chunk) => self.received.extend_from_slice(&chunk),
                None => self.has_ended = true,
            }
        }
    }
}
