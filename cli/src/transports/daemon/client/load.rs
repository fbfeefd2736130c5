//! The requests that put an image into a daemon.

use imgsync_oci::Digest;
use percent_encoding::utf8_percent_encode;
use reqwest::StatusCode;
use serde::Deserialize;

use super::super::responses::{ImageInspect, SystemInfo};
use super::{DaemonClient, PATH_ENCODE_SET, RESPONSE_TIMEOUT, unreachable};
use crate::image::Error;

/// The kind of a daemon, as far as loading differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DaemonKind {
    /// Docker with its classic store, which accepts an archive without the layers that it has.
    Classic,
    /// Docker with containerd's image store.
    Containerd,
    /// podman.
    Podman,
}

/// The kind and platform of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DaemonInfo {
    /// The kind.
    pub(crate) kind: DaemonKind,
    /// The platform, such as `linux/amd64`.
    pub(crate) platform: String,
}

/// An image that a daemon has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredImage {
    /// The image ID.
    pub(crate) id: Digest,
    /// The diffIDs, lowest layer first.
    pub(crate) diff_ids: Vec<Digest>,
}

/// The result of loading an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LoadOutcome {
    /// The image is loaded.
    Loaded,
    /// The archive was rejected, with the daemon's message.
    Rejected(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VersionResponse {
    #[serde(default)]
    os: String,
    #[serde(default)]
    arch: String,
    #[serde(default)]
    components: Option<Vec<VersionComponent>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VersionComponent {
    #[serde(default)]
    name: String,
}

/// One line of the response to an archive.
#[derive(Deserialize)]
struct LoadMessage {
    #[serde(default)]
    error: Option<String>,
}

impl DaemonClient {
    /// Returns the kind and platform of the daemon.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable or refuses.
    pub(crate) async fn daemon_info(&self) -> Result<DaemonInfo, Error> {
        let response = self.get("version", Some(RESPONSE_TIMEOUT), "").await?;
        let version: VersionResponse = self.json(response).await?;
        let mut components = version.components.iter().flatten();
        let is_podman = components.any(|it| it.name.starts_with("Podman"));
        let kind = if is_podman {
            DaemonKind::Podman
        } else {
            let (info, _) = self.info::<SystemInfo>().await?;
            if info.has_containerd_store() {
                DaemonKind::Containerd
            } else {
                DaemonKind::Classic
            }
        };
        let platform = format!("{}/{}", version.os, version.arch);
        Ok(DaemonInfo { kind, platform })
    }

    /// Returns the image of a name or ID; `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable or refuses.
    pub(crate) async fn find_image(&self, name: &str) -> Result<Option<StoredImage>, Error> {
        match self.inspect::<ImageInspect>(name, false).await {
            Ok(found) => Ok(Some(StoredImage {
                id: found.id,
                diff_ids: found.root_fs.layers.unwrap_or_default(),
            })),
            Err(Error::NoSuchImage { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tags an image.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable, has no such image, or refuses.
    pub(crate) async fn tag(&self, id: &Digest, repository: &str, tag: &str) -> Result<(), Error> {
        let id = id.to_string();
        let encoded = |text| utf8_percent_encode(text, PATH_ENCODE_SET);
        let (repository, tag) = (encoded(repository), encoded(tag));
        let path = format!("images/{}/tag?repo={repository}&tag={tag}", encoded(&id));
        let request = self.client.post(format!("{}/{path}", self.base));
        let response = request.timeout(RESPONSE_TIMEOUT).send().await;
        let response = response.map_err(|error| unreachable(&self.address, &error))?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(self.response_error(response, &id).await)
        }
    }

    /// Loads an archive, as `docker load` does.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable, or if the stream of the archive ended with an
    /// error.
    pub(crate) async fn load(&self, archive: reqwest::Body) -> Result<LoadOutcome, Error> {
        let request = self
            .client
            .post(format!("{}/images/load?quiet=1", self.base));
        let request = request.header(http::header::CONTENT_TYPE, "application/x-tar");
        let response = request.body(archive).send().await;
        let response = response.map_err(|error| unreachable(&self.address, &error))?;
        if response.status() != StatusCode::OK {
            return match self.response_error(response, "").await {
                // The daemon works; it rejects the archive.
                Error::DaemonError { message, .. } => Ok(LoadOutcome::Rejected(message)),
                error => Err(error),
            };
        }
        let body = self.body(response).await?;
        Ok(parse_load_response(&body))
    }
}

/// Parses the response to an archive: a sequence of JSON objects. The status is 200 even if one of
/// them reports an error.
fn parse_load_response(body: &[u8]) -> LoadOutcome {
    for line in serde_json::Deserializer::from_slice(body).into_iter::<LoadMessage>() {
        match line {
            Ok(LoadMessage { error: None }) => {}
            Ok(LoadMessage { error: Some(error) }) => return LoadOutcome::Rejected(error),
            Err(_) => {
                let text = String::from_utf8_lossy(body).chars().take(300).collect();
                return LoadOutcome::Rejected(text);
            }
        }
    }
    LoadOutcome::Loaded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_the_middle_of_a_good_answer_is_one() {
        let refused = |text: &str| LoadOutcome::Rejected(text.to_owned());
        for (body, expected) in [
            (
                "{\"stream\":\"Loaded image: a:b\\n\"}\r\n",
                LoadOutcome::Loaded,
            ),
            ("", LoadOutcome::Loaded),
            (
                "{\"status\":\"Loading layer\",\"progressDetail\":{}}\r\n\
                 {\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\r\n",
                refused("no space"),
            ),
            ("<html>", refused("<html>")),
        ] {
            assert_eq!(parse_load_response(body.as_bytes()), expected, "{body}");
        }
    }
}
