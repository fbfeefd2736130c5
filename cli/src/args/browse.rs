//! Options of the commands that show what is in a registry, and of `tag`.

use std::str::FromStr;

use clap::Args;
use imgsync_oci::manifest::Platform;
use imgsync_oci::{Reference, RemoteName, Tag};

use super::{
    AccessArgs, ContentName, ManifestName, WithScheme, parse_platform, parse_remote, split_scheme,
};

/// `imgsync ls`
#[derive(Debug, Args)]
#[command(after_help = "\
With --long, each line has these fields, separated by tabs (on a terminal, in columns):
  for a repository: name, number of tags, size, time
  for a tag:        name, digest, size, platforms, time

The size is that of the configs and layers in all manifests, each counted once. The time is \
'pushed' and the last push, if the registry tells it, as imgsync-server does; otherwise 'created' \
and the time at which the newest image was built.

Exit codes: 7 if some of the repositories or tags could not be read.

Examples:
  imgsync ls registry.example.com             List repositories
  imgsync ls registry.example.com --long      With tags, size and last push
  imgsync ls registry.example.com/team/app    List tags")]
pub struct LsArgs {
    /// Registry host[:port] to list repositories, or host[:port]/repository to list tags
    #[arg(value_name = "REMOTE", value_parser = parse_remote)]
    pub remote: WithScheme<RemoteName>,

    /// Show size, platforms and time of each tag or repository. Needs several requests for each tag
    #[arg(long, short)]
    pub long: bool,

    /// Print one JSON object for each tag or repository
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    /// The connection to the registry.
    pub access: AccessArgs,
}

/// `imgsync inspect`
#[derive(Debug, Args)]
#[command(after_help = "\
Each layer is shown with the digest of its blob, its size, its diffID (the name of the layer in \
a push and in the local engine), and the command that made it.

Examples:
  imgsync inspect registry.example.com/team/app:v1
  imgsync inspect --raw registry.example.com/team/app:v1 | sha256sum
  imgsync inspect --json registry.example.com/team/app:v1 | jq -r .digest")]
pub struct InspectArgs {
    /// Image: host[:port]/repository[:tag|@digest]
    #[arg(value_name = "REMOTE", value_parser = parse_manifest)]
    pub remote: WithScheme<ManifestName>,

    /// Print the manifest unchanged
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    /// The connection to the registry.
    pub access: AccessArgs,
}

/// `imgsync tag`
#[derive(Debug, Args)]
#[command(after_help = "\
The new tag points at the same manifest, so its digest and all platforms stay the same. A tag that \
exists is moved. In another repository of the registry, the blobs are mounted, and signatures and \
other referrers are tagged with the image. To copy an image to another registry, use imgsync mirror.

Examples:
  imgsync tag registry.example.com/team/app:v1 stable
  imgsync tag registry.example.com/team/app:v1 registry.example.com/prod/app:v1
  imgsync tag registry.example.com/team/app@sha256:... v1.0 latest")]
pub struct TagArgs {
    /// Image: host[:port]/repository[:tag|@digest]
    #[arg(value_name = "SRC", value_parser = parse_manifest)]
    pub source: WithScheme<ManifestName>,

    /// New tag: a tag of the same repository, or host[:port]/repository[:tag] at the same registry
    ///
    /// Without a tag, a name in another repository gets the tag of SRC.
    #[arg(value_name = "NEW", required = true)]
    pub new: Vec<NewTag>,

    /// Print one JSON object for each new tag
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    /// The connection to the registry.
    pub access: AccessArgs,
}

/// `imgsync diff`
#[derive(Debug, Args)]
#[command(after_help = "\
Layers are compared by what they contain, and the configs field by field. No layer is downloaded: \
imgsync-server lists the files of a layer, so there, files are compared too, by their size, their \
attributes and checksums of their parts. Other registries do not tell which files a layer has.

If A and B are in different registries, stored logins are used: log in with imgsync login. The \
options of the registry and IMGSYNC_USERNAME apply only if both are in the same one.

Marks before a file: + only in B, - only in A, ~ changed, ? the same size, and too small for a \
checksum in the list, but with another time.

Examples:
  imgsync diff registry.example.com/app:v1 registry.example.com/app:v2
  imgsync diff registry.example.com/app:v1 v2
  imgsync diff registry.example.com/app:v1 registry.example.com/app:v2 --platform linux/arm64
  imgsync diff --json localhost:5000/app:v1 localhost:5000/app:v2 | jq .images[0].files")]
pub struct DiffArgs {
    /// First image: host[:port]/repository[:tag|@digest]
    #[arg(value_name = "A", value_parser = parse_manifest)]
    pub old: WithScheme<ManifestName>,

    /// Second image: a tag of the repository of A, or host[:port]/repository[:tag|@digest]
    #[arg(value_name = "B")]
    pub new: OtherImage,

    /// Compare only this platform of multi-platform images, for example linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = parse_platform)]
    pub platform: Option<Platform>,

    /// Compare layers and configs only
    #[arg(long)]
    pub no_files: bool,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    /// The connection to the registries.
    pub access: AccessArgs,
}

fn parse_manifest(text: &str) -> Result<WithScheme<ManifestName>, String> {
    WithScheme::parse(text, "", str::parse)
}

/// The image that another one is compared with, as users write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OtherImage {
    /// A tag of the repository that the first image is in.
    Tag(Tag),
    /// An image of any repository.
    Name(WithScheme<ManifestName>),
}

impl OtherImage {
    /// Returns the full name, given that of the first image.
    pub fn name(self, first: &WithScheme<ManifestName>) -> WithScheme<ManifestName> {
        match self {
            Self::Tag(tag) => WithScheme {
                scheme: first.scheme,
                name: first.name.with_reference(Reference::Tag(tag)),
            },
            Self::Name(name) => name,
        }
    }
}

impl FromStr for OtherImage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HINT: &str =
            "write a tag of the repository of A, or host[:port]/repository[:tag|@digest]";
        let (_, name) = split_scheme(text);
        if !name.contains('/') {
            let tag = name.parse().map(Self::Tag);
            return tag.map_err(|error| format!("{error}\nhint: {HINT}"));
        }
        parse_manifest(text).map(Self::Name)
    }
}

/// A new tag, as users write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewTag {
    /// A tag of the repository that the image is in.
    Tag(Tag),
    /// A repository, and a tag if it is not that of the image.
    Name(WithScheme<ContentName>),
}

impl FromStr for NewTag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HINT: &str = "write a tag, or host[:port]/repository[:tag] at the same registry";
        let (_, name) = split_scheme(text);
        if !name.contains('/') {
            let tag = name.parse().map(Self::Tag);
            return tag.map_err(|error| format!("{error}\nhint: {HINT}"));
        }
        let parsed = WithScheme::parse(text, HINT, |name| ContentName::parse(name, HINT))?;
        match parsed.name.reference {
            Some(Reference::Digest(_)) => Err(format!(
                "the new name must be a tag, not a digest\nhint: {HINT}"
            )),
            _ => Ok(Self::Name(parsed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_alone_is_one_of_the_repository_of_the_first_image() {
        let first = parse_manifest("http://host.lan/team/app:v1").unwrap();
        let other = |text: &str| text.parse::<OtherImage>().map(|other| other.name(&first));
        let second = other("v2").unwrap();
        assert_eq!(second.name.to_string(), "host.lan/team/app:v2");
        assert_eq!(second.scheme, first.scheme);
        let named = other("localhost:5000/app").unwrap();
        assert_eq!(named.name.to_string(), "localhost:5000/app:latest");
        assert_eq!(named.scheme, None);
        for bad in ["", ":v2", "a b", "localhost:5000", "host/A:v1"] {
            assert!(other(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn new_tags_are_told_from_names() {
        assert_eq!("v2".parse(), Ok(NewTag::Tag("v2".parse().unwrap())));
        let name = |text: &str| match text.parse().unwrap() {
            NewTag::Name(name) => name.name.to_string(),
            NewTag::Tag(tag) => panic!("the tag {tag}"),
        };
        assert_eq!(name("localhost:5000/app:v2"), "localhost:5000/app:v2");
        assert_eq!(name("http://host.lan/app"), "host.lan/app");
        let digest = imgsync_oci::Digest::of(b"x");
        for bad in ["", ":v2", "a b", "localhost:5000", "host/A:v1"] {
            assert!(bad.parse::<NewTag>().is_err(), "{bad}");
        }
        let by_digest = format!("localhost:5000/app@{digest}");
        assert!(by_digest.parse::<NewTag>().is_err());
    }
}
