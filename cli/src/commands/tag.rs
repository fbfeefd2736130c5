//! Runs `imgsync tag`: gives an image in a registry another tag, in its own repository or in another
//! one of the same registry. No layer is read or sent.

use std::sync::Arc;

use imgsync_oci::client::Client;
use imgsync_oci::{Digest, Reference};
use serde_json::{Value, json};

use super::{fetch_manifest, not_found};
use crate::args::{ContentName, ManifestName, NewTag, TagArgs, WithScheme};
use crate::copy::Copier;
use crate::exit::{Failure, FailureKind};
use crate::image::{Platforms, VerifiedManifest};
use crate::login::{RegistryAccess, is_same_registry};
use crate::report::{CopyChange, Report};
use crate::text::{format_bytes, format_json};
use crate::transports::{CopyRequest, ReferrersPolicy};

/// A tag that was set.
struct SetTag {
    name: ManifestName,
    digest: Digest,
    /// What the tag pointed at before.
    previous_digest: Option<Digest>,
    /// The bytes that were mounted from another repository.
    mounted: u64,
    /// The number of referrers that were copied to another repository.
    referrers: usize,
    is_changed: bool,
}

/// Sets one tag after the other, and prints each.
///
/// # Errors
/// Returns the first failure; the tags before it are set.
pub(super) async fn tag(args: TagArgs, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let WithScheme {
        scheme,
        name: source,
    } = &args.source;
    let targets = args.new.iter().map(|new| target_name(source, new));
    let targets = targets.collect::<Result<Vec<_>, Failure>>()?;
    let access = RegistryAccess::parse(args.access)?.with_scheme(*scheme)?;
    for target in targets {
        let (registry, repository) = (&target.registry, Some(&target.repository));
        let client = access.connect(registry, repository, true, report).await?;
        let set = if target.repository == source.repository {
            set_in_repository(&client, source, &target).await?
        } else {
            copy_to_repository(&client, source, target, report).await?
        };
        set.show(source, args.json, report);
    }
    Ok(())
}

/// Returns the whole name of a new tag.
fn target_name(source: &ManifestName, new: &NewTag) -> Result<ManifestName, Failure> {
    let name = match new {
        NewTag::Tag(tag) => return Ok(source.with_reference(Reference::Tag(tag.clone()))),
        NewTag::Name(name) => &name.name,
    };
    let ContentName {
        registry,
        repository,
        reference,
    } = name;
    if !is_same_registry(registry, &source.registry) {
        let what = format!("{name} is at another registry than {source}");
        let hint = format!("to copy the image: imgsync mirror {source} {name}");
        return Err(Failure::usage(what).with_hint(hint));
    }
    let reference = match (reference, &source.reference) {
        (Some(reference), _) => reference.clone(),
        (None, Reference::Tag(tag)) => Reference::Tag(tag.clone()),
        (None, Reference::Digest(_)) => {
            let what = format!("{name} has no tag, and neither has {source}");
            let hint = format!("write {name}:TAG");
            return Err(Failure::usage(what).with_hint(hint));
        }
    };
    Ok(ManifestName {
        registry: registry.clone(),
        repository: repository.clone(),
        reference,
    })
}

/// Puts the manifest under another tag of its repository. The registry has everything below it.
async fn set_in_repository(
    client: &Client,
    source: &ManifestName,
    target: &ManifestName,
) -> Result<SetTag, Failure> {
    let fetched = fetch_manifest(client, source).await?;
    let head = client.head_manifest(&target.repository, &target.reference);
    let previous_digest = match head.await? {
        // Some registries do not state the digest.
        Some(head) if head.digest.is_none() => {
            let previous = client.fetch_manifest(&target.repository, &target.reference);
            previous.await?.map(|previous| previous.digest)
        }
        head => head.and_then(|head| head.digest),
    };
    let is_changed = previous_digest.as_ref() != Some(&fetched.digest);
    if is_changed {
        let declared = fetched.media_type.as_deref();
        let parsed =
            VerifiedManifest::parse(fetched.digest.clone(), fetched.bytes.clone(), declared);
        let (manifest, _) = parsed.map_err(|error| {
            let what = format!("invalid manifest {source}: {error}");
            Failure::target(what).with_hint("push the image again")
        })?;
        let (media_type, bytes) = (&manifest.media_type, manifest.bytes);
        let put = client.put_manifest(&target.repository, &target.reference, media_type, bytes);
        put.await?;
    }
    Ok(SetTag {
        name: target.clone(),
        digest: fetched.digest,
        previous_digest,
        mounted: 0,
        referrers: 0,
        is_changed,
    })
}

/// Mounts the blobs of an image into another repository, and puts its manifests and referrers there.
async fn copy_to_repository(
    client: &Client,
    source: &ManifestName,
    target: ManifestName,
    report: &Arc<dyn Report>,
) -> Result<SetTag, Failure> {
    let copier = Copier::new(Arc::clone(report));
    let from = copier.open_source(client.for_reading(), source.repository.clone());
    let (repository, source_repository) = (target.repository.clone(), source.repository.clone());
    let to = copier.open_mount_target(client.clone(), repository, source_repository);
    let request = CopyRequest {
        from: source.reference.clone(),
        to: target.reference.clone(),
        platforms: Platforms::default(),
        referrers: ReferrersPolicy::New,
        listed: None,
        before_tag: Arc::new(|_, _, _| Ok(())),
    };
    let copied = copier.copy(from.as_ref(), to.as_ref(), &request).await;
    // Both sides are the same registry, so its errors are those of the target.
    let copied = copied.map_err(|failure| {
        if failure.is_missing_image {
            not_found(source)
        } else {
            as_target(failure)
        }
    })?;
    for note in &copied.notes {
        report.note(note);
    }
    Ok(SetTag {
        name: target,
        digest: copied.digest,
        previous_digest: copied.previous_digest,
        mounted: copied.mounted,
        referrers: copied.referrer_count + copied.referrer_tags.len(),
        is_changed: copied.change != CopyChange::Nothing,
    })
}

/// Returns the failure of a copy as one of the target, with a hint that fits to this command.
fn as_target(failure: Failure) -> Failure {
    let hint = failure.hint.map(|hint| {
        if failure.is_mirror_hint {
            format!("use imgsync mirror instead of imgsync tag: {hint}")
        } else {
            hint
        }
    });
    let what = match failure.what.strip_prefix("source: ") {
        Some(what) => format!("target: {what}"),
        None => failure.what,
    };
    let kind = match failure.kind {
        FailureKind::Source => FailureKind::Target,
        kind => kind,
    };
    Failure {
        kind,
        what,
        hint,
        ..failure
    }
}

impl SetTag {
    fn show(&self, source: &ManifestName, is_json: bool, report: &Arc<dyn Report>) {
        if is_json {
            report.output().print(&format_json(&self.json(source)));
            return;
        }
        let (name, digest) = (&self.name, &self.digest);
        let mounted = match self.mounted {
            0 => String::new(),
            bytes => format!(", mounted {}", format_bytes(bytes)),
        };
        let verb = if self.is_changed {
            "tagged"
        } else {
            "unchanged"
        };
        report
            .output()
            .print(&format!("{verb} {name}@{digest}{mounted}"));
        if let Some(previous) = self.previous_digest.as_ref().filter(|_| self.is_changed) {
            let ManifestName {
                registry,
                repository,
                reference,
            } = name;
            report.note(&format!(
                "{name} pointed at {previous} before; to move it back: imgsync tag \
                 {registry}/{repository}@{previous} {reference}"
            ));
        }
    }

    fn json(&self, source: &ManifestName) -> Value {
        json!({
            "source": source.to_string(),
            "target": self.name.to_string(),
            "digest": self.digest,
            "before": self.previous_digest,
            "changed": self.is_changed,
            "mounted": self.mounted,
            "referrers": self.referrers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_those_of_the_target() {
        let failure = Failure::new(FailureKind::Source, "source: no referrers")
            .with_mirror_hint("pass --referrers none to copy the image without them");
        let shown = as_target(failure);
        assert_eq!(shown.kind, FailureKind::Target);
        assert_eq!(shown.what, "target: no referrers");
        assert!(shown.hint.unwrap().starts_with("use imgsync mirror "));
    }

    #[test]
    fn names_of_new_tags_are_completed() {
        let complete = |source: &str, new: &str| {
            let source: ManifestName = source.parse().unwrap();
            target_name(&source, &new.parse().unwrap()).map(|name| name.to_string())
        };
        for (source, new, expected) in [
            ("h.io/a:v1", "v2", "h.io/a:v2"),
            ("h.io/a:v1", "h.io/b", "h.io/b:v1"),
            ("h.io/a:v1", "h.io/b:v3", "h.io/b:v3"),
        ] {
            assert_eq!(complete(source, new).unwrap(), expected);
        }
        let other = complete("h.io/a:v1", "g.io/a:v1").unwrap_err();
        assert_eq!(other.kind, FailureKind::Usage);
        assert!(other.hint.unwrap().contains("imgsync mirror"));
        let by_digest = format!("h.io/a@{}", Digest::of(b"x"));
        let untagged = complete(&by_digest, "h.io/b").unwrap_err();
        assert_eq!(untagged.hint.as_deref(), Some("write h.io/b:TAG"));
    }
}
