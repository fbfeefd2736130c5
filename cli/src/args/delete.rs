//! Options of the commands that delete from a registry, and restore what was deleted.

use clap::Args;

use super::{AccessArgs, ContentName, ManifestName, WithScheme};

/// `imgsync rm`
#[derive(Debug, Args)]
#[command(after_help = "\
With a tag, only the tag is deleted. With a digest, the manifest is deleted, with all tags that \
point at it. The registry frees the disk space at its next garbage collection.

Examples:
  imgsync rm registry.example.com/team/app:v1
  imgsync rm registry.example.com/team/app@sha256:...
  imgsync rm --repository registry.example.com/team/app")]
pub struct RmArgs {
    /// Tag or manifest to delete: host[:port]/repository:tag or host[:port]/repository@digest
    #[arg(
        value_name = "REMOTE",
        required_unless_present = "repository",
        value_parser = parse_explicit_manifest
    )]
    pub remotes: Vec<WithScheme<ManifestName>>,

    /// Delete a whole repository: host[:port]/repository. Can be repeated
    ///
    /// At imgsync-server, this is one request. At other registries, the tags are deleted one after
    /// the other, with their manifests if the registry cannot delete a single tag.
    #[arg(
        long,
        value_name = "REMOTE",
        conflicts_with_all = ["remotes", "digest"],
        value_parser = parse_repository
    )]
    pub repository: Vec<WithScheme<ContentName>>,

    /// Delete the manifest that the tag points at, with all its tags
    ///
    /// Use this option if the registry cannot delete a single tag.
    #[arg(long)]
    pub digest: bool,

    #[command(flatten)]
    /// The connection to the registry.
    pub access: AccessArgs,
}

/// `imgsync undelete`
#[derive(Debug, Args)]
#[command(after_help = "\
Deleted content can be restored until imgsync-server empties its trash (imgsync.gc.undo, 24 hours \
by default). A tag that points at another image by now is not changed.

Examples:
  imgsync undelete registry.example.com/team/app:v1
  imgsync undelete registry.example.com/team/app     Restore all tags and manifests")]
pub struct UndeleteArgs {
    /// Content to restore: host[:port]/repository[:tag|@digest]
    #[arg(value_name = "REMOTE", required = true, value_parser = parse_deleted)]
    pub remotes: Vec<WithScheme<ContentName>>,

    #[command(flatten)]
    /// The connection to the registry.
    pub access: AccessArgs,
}

fn parse_explicit_manifest(text: &str) -> Result<WithScheme<ManifestName>, String> {
    WithScheme::parse(text, "", ManifestName::parse_explicit)
}

fn parse_deleted(text: &str) -> Result<WithScheme<ContentName>, String> {
    WithScheme::parse(text, "", str::parse)
}

fn parse_repository(text: &str) -> Result<WithScheme<ContentName>, String> {
    let parsed = parse_deleted(text)?;
    if parsed.name.reference.is_some() {
        let hint = "without --repository, a single tag or manifest is deleted";
        return Err(format!("the name has a tag or a digest\nhint: {hint}"));
    }
    Ok(parsed)
}
