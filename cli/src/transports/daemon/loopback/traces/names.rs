//! The names of the traces of one push, and their removal from Docker.
//!
//! The tag is removed only while the container exists: Docker would otherwise delete an image that has
//! no other name any more. Start reading at [`TraceNames::remove`].

use std::time::Duration;

use imgsync_oci::endpoint::UploadId;

use crate::image::Error;
use crate::transports::daemon::client::DaemonClient;

/// The repository of the tag, below the registry.
const REPOSITORY: &str = "imgsync/push";
/// The start of the name of the container.
const CONTAINER_PREFIX: &str = "imgsync-push-";
/// How often the names are removed that the engine may still be creating.
const PENDING_REMOVALS: u32 = 5;
const PENDING_INTERVAL: Duration = Duration::from_millis(100);

/// The names of a tag and of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TraceNames {
    /// `127.0.0.1:PORT/imgsync/push`
    pub(super) repository: String,
    /// A name that no other push has.
    pub(super) tag: String,
    reference: String,
}

impl TraceNames {
    pub(super) fn new(port: u16, tag: String) -> Self {
        let repository = format!("127.0.0.1:{port}/{REPOSITORY}");
        let reference = format!("{repository}:{tag}");
        Self {
            repository,
            tag,
            reference,
        }
    }

    /// Parses the content of a record: the port and the tag.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (port, tag) = text.trim_end().split_once(' ')?;
        let tag: UploadId = tag.parse().ok()?;
        Some(Self::new(port.parse().ok()?, tag.to_string()))
    }

    fn container(&self) -> String {
        format!("{CONTAINER_PREFIX}{}", self.tag)
    }

    /// Removes the tag and the container from the engine. Returns whether neither is left.
    pub(super) async fn remove(&self, engine: &DaemonClient) -> bool {
        let is_untagged = match self.create_container(engine).await {
            Ok(()) => self.untag(engine).await,
            // The container exists already.
            Err(Error::DaemonError { status: 409, .. }) => self.untag(engine).await,
            // There is no tag.
            Err(Error::NoSuchImage { .. }) => true,
            // The engine creates no containers.
            Err(_) => self.has_another_name(engine).await && self.untag(engine).await,
        };
        self.remove_container(engine).await && is_untagged
    }

    /// Removes both, as [`TraceNames::remove`] does, where the container is known to exist.
    pub(super) async fn remove_protected(&self, engine: &DaemonClient) -> bool {
        let is_untagged = self.untag(engine).await;
        self.remove_container(engine).await && is_untagged
    }

    /// Removes the tag. If it has become the only name of its image, for example because a build has
    /// moved the other one, the engine refuses that because of the container. Another image gets the
    /// tag then, and loses it again.
    async fn untag(&self, engine: &DaemonClient) -> bool {
        match engine.untag(&self.reference).await {
            Err(Error::DaemonError { status: 409, .. }) => {
                self.move_tag(engine).await && engine.untag(&self.reference).await.is_ok()
            }
            untagged => untagged.is_ok(),
        }
    }

    /// Tags an image that has another name. Returns whether there is one.
    async fn move_tag(&self, engine: &DaemonClient) -> bool {
        let images = engine.list_images().await.unwrap_or_default();
        let mut images = images.into_iter();
        let named = images.find(|image| has_own_name(image.repo_tags.as_deref()));
        match named {
            Some(image) => {
                let (repository, tag) = (&self.repository, &self.tag);
                engine.tag(&image.id, repository, tag).await.is_ok()
            }
            None => false,
        }
    }

    /// Returns whether the image has another name.
    async fn has_another_name(&self, engine: &DaemonClient) -> bool {
        let image = engine.find_image(&self.reference).await.ok().flatten();
        image.is_some_and(|image| has_own_name(image.repo_tags.as_deref()))
    }

    /// Creates the container.
    pub(super) async fn create_container(&self, engine: &DaemonClient) -> Result<(), Error> {
        let name = self.container();
        engine.create_container(&name, &self.reference).await
    }

    async fn remove_container(&self, engine: &DaemonClient) -> bool {
        engine.remove_container(&self.container()).await.is_ok()
    }

    /// Removes for a while what the engine may still be creating.
    pub(super) async fn remove_pending(&self, engine: &DaemonClient) {
        for _ in 0..PENDING_REMOVALS {
            self.remove(engine).await;
            tokio::time::sleep(PENDING_INTERVAL).await;
        }
    }
}

/// Returns whether an image has a name that no push has left. Docker lists an image without a name as
/// `<none>:<none>`.
fn has_own_name(names: Option<&[String]>) -> bool {
    let trace = format!("/{REPOSITORY}:");
    let mut names = names.into_iter().flatten();
    names.any(|name| !name.contains(&trace) && !name.starts_with('<'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_the_tag_and_the_container() {
        let tag = UploadId::random().to_string();
        let names = TraceNames::parse(&format!("4711 {tag}\n")).unwrap();
        assert_eq!(names, TraceNames::new(4711, tag.clone()));
        assert_eq!(
            names.reference,
            format!("127.0.0.1:4711/imgsync/push:{tag}")
        );
        assert_eq!(names.container(), format!("imgsync-push-{tag}"));
        for text in ["", "4711", "4711 latest\n", "x 1", &format!("70000 {tag}")] {
            assert_eq!(TraceNames::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_that_a_push_has_left_is_no_name_of_an_image() {
        let is_named = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            has_own_name(Some(&names))
        };
        let trace = "127.0.0.1:4711/imgsync/push:d2b1";
        assert!(!is_named(&[trace]) && !is_named(&["<none>:<none>"]) && !is_named(&[]));
        assert!(is_named(&[trace, "app:v1"]) && is_named(&["imgsync/push:v1"]));
        assert!(!has_own_name(None));
    }
}
