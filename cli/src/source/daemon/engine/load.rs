//! What puts an image into a daemon.

use imgsync_oci::Digest;
use percent_encoding::utf8_percent_encode;
use reqwest::StatusCode;
use serde::Deserialize;

use super::super::answer::{Info, Inspected};
use super::{ANSWER_TIME, Engine, IN_PATH, unreachable};
use crate::source::Error;

/// What a daemon is, as far as loading goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Docker with its own store: takes an archive that leaves out layers which it has.
    Classic,
    /// Docker with containerd's store.
    Containerd,
    /// podman.
    Podman,
}

/// A daemon and what it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    /// What it is.
    pub(crate) kind: Kind,
    /// As `linux/amd64`.
    pub(crate) platform: String,
}

/// An image that a daemon has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its ID.
    pub(crate) id: Digest,
    /// The digests of its layers' tars, lowest first.
    pub(crate) diff_ids: Vec<Digest>,
}

/// What became of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// Its image is there.
    Whole,
    /// It was not taken; the daemon's words.
    Refused(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    #[serde(default)]
    os: String,
    #[serde(default)]
    arch: String,
    #[serde(default)]
    components: Option<Vec<Component>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    #[serde(default)]
    name: String,
}

/// One line of the answer to an archive.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    error: Option<String>,
}

impl Engine {
    /// What the daemon is.
    ///
    /// # Errors
    /// It is not reached, or refuses.
    pub(crate) async fn about(&self) -> Result<About, Error> {
        let response = self.get("version", Some(ANSWER_TIME), "").await?;
        let version: Version = self.json(response).await?;
        let mut components = version.components.iter().flatten();
        let is_podman = components.any(|it| it.name.starts_with("Podman"));
        let kind = if is_podman {
            Kind::Podman
        } else {
            let (info, _) = self.info::<Info>().await?;
            match info.has_containerd_store() {
                true => Kind::Containerd,
                false => Kind::Classic,
            }
        };
        let platform = format!("{}/{}", version.os, version.arch);
        Ok(About { kind, platform })
    }

    /// The image of a name or ID; `None` where there is none.
    ///
    /// # Errors
    /// The daemon is not reached, or refuses.
    pub(crate) async fn known(&self, name: &str) -> Result<Option<Known>, Error> {
        match self.inspect::<Inspected>(name, false).await {
            Ok(found) => Ok(Some(Known {
                id: found.id,
                diff_ids: found.root_fs.layers.unwrap_or_default(),
            })),
            Err(Error::NoSuchImage { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// The daemon is not reached, has no such image, or refuses.
    pub(crate) async fn tag(&self, id: &Digest, repository: &str, tag: &str) -> Result<(), Error> {
        let id = id.to_string();
        let encoded = |text| utf8_percent_encode(text, IN_PATH);
        let (repository, tag) = (encoded(repository), encoded(tag));
        let path = format!("images/{}/tag?repo={repository}&tag={tag}", encoded(&id));
        let request = self.client.post(format!("{}/{path}", self.base));
        let response = request.timeout(ANSWER_TIME).send().await;
        let response = response.map_err(|error| unreachable(&self.address, &error))?;
        match response.status().is_success() {
            true => Ok(()),
            false => Err(self.refused(response, &id).await),
        }
    }

    /// Hands the daemon an archive as `docker load` does.
    ///
    /// # Errors
    /// The daemon is not reached, or the archive's stream ended with an error.
    pub(crate) async fn load(&self, archive: reqwest::Body) -> Result<Loaded, Error> {
        let request = self
            .client
            .post(format!("{}/images/load?quiet=1", self.base));
        let request = request.header(http::header::CONTENT_TYPE, "application/x-tar");
        let response = request.body(archive).send().await;
        let response = response.map_err(|error| unreachable(&self.address, &error))?;
        if response.status() != StatusCode::OK {
            return match self.refused(response, "").await {
                // The daemon itself is well: it is the archive that it does not take.
                Error::Refused { message, .. } => Ok(Loaded::Refused(message)),
                error => Err(error),
            };
        }
        let body = self.body(response).await?;
        Ok(read(&body))
    }
}

/// The answer to an archive: one JSON object after the other; a status of 200 says nothing yet.
fn read(body: &[u8]) -> Loaded {
    for line in serde_json::Deserializer::from_slice(body).into_iter::<Line>() {
        match line {
            Ok(Line { error: None }) => {}
            Ok(Line { error: Some(error) }) => return Loaded::Refused(error),
            Err(_) => {
                let text = String::from_utf8_lossy(body).chars().take(300).collect();
                return Loaded::Refused(text);
            }
        }
    }
    Loaded::Whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_the_middle_of_a_good_answer_is_one() {
        let refused = |text: &str| Loaded::Refused(text.to_owned());
        for (body, expected) in [
            ("{\"stream\":\"Loaded image: a:b\\n\"}\r\n", Loaded::Whole),
            ("", Loaded::Whole),
            (
                "{\"status\":\"Loading layer\",\"progressDetail\":{}}\r\n\
                 {\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\r\n",
                refused("no space"),
            ),
            ("<html>", refused("<html>")),
        ] {
            assert_eq!(read(body.as_bytes()), expected, "{body}");
        }
    }
}
