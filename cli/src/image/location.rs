//! Parses the argument that names an image.

use std::path::{Path, PathBuf};

use imgsync_oci::{Digest, LocalName};

use super::Error;
use crate::disk::{System, is_explicit_path, split_path};

/// The location of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageLocation {
    /// In the Docker daemon.
    Daemon(DaemonImageName),
    /// In an archive of `docker save`.
    DockerArchive(PathBuf, ImageSelector),
    /// In an OCI image layout: a folder.
    OciLayout(PathBuf, ImageSelector),
    /// In an OCI image layout: a tar of the folder.
    OciArchive(PathBuf, ImageSelector),
    /// In a file or folder whose content determines its kind.
    Path(PathBuf),
    /// In an archive on standard input.
    StandardInput,
}

/// The name of an image in a daemon: `app:v1`, `app@sha256:…`, an image ID or its beginning. It has
/// no characters that could change the path of an API request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonImageName {
    text: String,
    /// The name without the digest; an image ID parses as a name, too.
    pub(crate) name: LocalName,
}

impl DaemonImageName {
    /// Returns the name as it was typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::str::FromStr for DaemonImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let name = match text.split_once('@') {
            Some((name, digest)) => {
                digest.parse::<Digest>()?;
                name
            }
            None => text,
        };
        let (text, name) = (text.to_owned(), name.parse()?);
        Ok(Self { text, name })
    }
}

/// Selects one image of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSelector {
    /// The only one.
    Only,
    /// The one with this name or tag.
    Named(String),
    /// The one at this position, counted from 0.
    Position(usize),
}

/// The kind of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathKind {
    Missing,
    /// A folder with an OCI layout.
    Layout,
    Folder,
    File,
}

impl ImageLocation {
    /// Parses the argument.
    ///
    /// `docker-daemon:NAME`, `docker-archive:PATH[:NAME[:TAG]]`, `oci:PATH[:TAG]` and
    /// `oci-archive:PATH[:TAG]` are explicit, as with skopeo; `:@NUMBER` in place of the name
    /// selects the image at that position. `-` is standard input. Anything else is a path if it
    /// begins with `/`, `./` or `../`, on Windows also with a drive or with `\` in place of `/`, or
    /// if it is an existing file that ends in `.tar` (or `.tar.gz`, `.tgz`, `.tar.zst`) or a folder
    /// with an OCI layout; otherwise it is the name of an image in the daemon.
    ///
    /// # Errors
    /// Returns [`Error::InvalidLocation`] or [`Error::Invalid`] for an invalid argument, and
    /// [`Error::Unsupported`] for other transports of skopeo.
    pub fn parse(word: &str) -> Result<Self, Error> {
        Self::parse_with(word, System::CURRENT, path_kind)
    }

    fn parse_with(
        word: &str,
        system: System,
        path_kind: impl Fn(&Path) -> PathKind,
    ) -> Result<Self, Error> {
        if word == "-" {
            return Ok(Self::StandardInput);
        }
        let selected = |rest, build: fn(PathBuf, ImageSelector) -> Self| {
            path_and_selector(word, rest, system).map(|(path, selector)| build(path, selector))
        };
        match word.split_once(':') {
            Some(("docker-daemon", rest)) => return rest.parse().map(Self::Daemon),
            Some(("docker-archive", rest)) => return selected(rest, Self::DockerArchive),
            Some(("oci", rest)) => return selected(rest, Self::OciLayout),
            Some(("oci-archive", rest)) => return selected(rest, Self::OciArchive),
            Some(("containers-storage", _)) => {
                let instead = "run podman save IMAGE | imgsync push - REMOTE";
                return Err(Error::unsupported("podman's storage as a source", instead));
            }
            Some(("docker", rest)) if rest.starts_with("//") => {
                let instead = "copy the image with imgsync mirror, or pull it first";
                return Err(Error::unsupported("a registry as a source", instead));
            }
            // Usually a name with a tag.
            _ => {}
        }
        let is_explicit = is_explicit_path(word, system);
        let mut suffixes = [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter();
        let looks_like_archive = suffixes.any(|suffix| word.ends_with(suffix));
        let invalid = |reason: &str| Err(Error::invalid_location(word, reason));
        match path_kind(Path::new(word)) {
            PathKind::Missing if is_explicit => invalid("there is no such file or folder"),
            PathKind::Folder if is_explicit => invalid("the folder has no OCI image layout"),
            PathKind::Layout => Ok(Self::Path(word.into())),
            PathKind::File if is_explicit || looks_like_archive => Ok(Self::Path(word.into())),
            PathKind::Missing | PathKind::Folder | PathKind::File => word.parse().map(Self::Daemon),
        }
    }
}

fn path_kind(path: &Path) -> PathKind {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() && path.join("oci-layout").exists() => PathKind::Layout,
        Ok(metadata) if metadata.is_dir() => PathKind::Folder,
        Ok(_) => PathKind::File,
        // Opening the file reports the missing permission.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => PathKind::File,
        Err(_) => PathKind::Missing,
    }
}

/// Parses `PATH`, `PATH:NAME` or `PATH:@NUMBER`; a path cannot contain a colon, as with skopeo, except
/// that of a drive.
fn path_and_selector(
    word: &str,
    rest: &str,
    system: System,
) -> Result<(PathBuf, ImageSelector), Error> {
    let invalid = |reason| Error::invalid_location(word, reason);
    let (path, name) = split_path(rest, system);
    let selector = match name {
        None => ImageSelector::Only,
        Some("") => return Err(invalid("nothing follows the last colon")),
        Some(name) => match name.strip_prefix('@') {
            None => ImageSelector::Named(name.to_owned()),
            Some(position) => {
                let position = position
                    .parse()
                    .map_err(|_| invalid(":@ must be followed by a number"))?;
                ImageSelector::Position(position)
            }
        },
    };
    if path.is_empty() {
        return Err(invalid("the path is missing"));
    }
    Ok((path.into(), selector))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(word: &str, seen: PathKind) -> Result<ImageLocation, Error> {
        ImageLocation::parse_with(word, System::Unix, |_| seen)
    }

    fn daemon(text: &str) -> ImageLocation {
        ImageLocation::Daemon(text.parse().unwrap())
    }

    #[test]
    fn transports_say_what_they_are() {
        let named = |name: &str| ImageSelector::Named(name.to_owned());
        for (word, expected) in [
            ("-", ImageLocation::StandardInput),
            ("docker-daemon:app:v1", daemon("app:v1")),
            (
                "docker-archive:a.tar",
                ImageLocation::DockerArchive("a.tar".into(), ImageSelector::Only),
            ),
            (
                "docker-archive:a.tar:app:v1",
                ImageLocation::DockerArchive("a.tar".into(), named("app:v1")),
            ),
            (
                "docker-archive:a.tar:@1",
                ImageLocation::DockerArchive("a.tar".into(), ImageSelector::Position(1)),
            ),
            (
                "oci:dir",
                ImageLocation::OciLayout("dir".into(), ImageSelector::Only),
            ),
            (
                "oci:/dir:v1",
                ImageLocation::OciLayout("/dir".into(), named("v1")),
            ),
            (
                "oci-archive:a:x/y:v1",
                ImageLocation::OciArchive("a".into(), named("x/y:v1")),
            ),
        ] {
            assert_eq!(parse(word, PathKind::Missing).unwrap(), expected, "{word}");
        }
        for invalid in [
            "oci:",
            "oci::v1",
            "oci:a:",
            "docker-archive:a:@x",
            "docker-daemon:",
        ] {
            assert!(parse(invalid, PathKind::File).is_err(), "{invalid}");
        }
        for foreign in ["docker://app", "containers-storage:app"] {
            assert!(matches!(
                parse(foreign, PathKind::Missing),
                Err(Error::Unsupported { .. })
            ));
        }
    }

    #[test]
    fn a_path_is_told_from_a_name() {
        let path = |word: &str| ImageLocation::Path(word.into());
        for (word, seen, expected) in [
            ("app", PathKind::Missing, daemon("app")),
            ("app", PathKind::File, daemon("app")),
            ("app", PathKind::Folder, daemon("app")),
            ("app", PathKind::Layout, path("app")),
            ("app.tar", PathKind::File, path("app.tar")),
            ("app.tar", PathKind::Missing, daemon("app.tar")),
            ("out/app.tar", PathKind::File, path("out/app.tar")),
            ("./app", PathKind::File, path("./app")),
            ("/dev/fd/63", PathKind::File, path("/dev/fd/63")),
            ("team/app:v1", PathKind::Missing, daemon("team/app:v1")),
            ("0123456789ab", PathKind::Missing, daemon("0123456789ab")),
        ] {
            assert_eq!(parse(word, seen).unwrap(), expected, "{word} {seen:?}");
        }
        assert!(matches!(
            parse("./app.tar", PathKind::Missing),
            Err(Error::InvalidLocation { .. })
        ));
        assert!(matches!(
            parse("./app", PathKind::Folder),
            Err(Error::InvalidLocation { .. })
        ));
    }

    #[test]
    fn paths_of_windows_have_drives_and_backslashes() {
        let parse = |word: &str, seen| ImageLocation::parse_with(word, System::Windows, |_| seen);
        let named = |name: &str| ImageSelector::Named(name.to_owned());
        for (word, expected) in [
            (
                r"oci:C:\Users\me\my image:v1",
                ImageLocation::OciLayout(r"C:\Users\me\my image".into(), named("v1")),
            ),
            (
                r"oci:\\?\C:\x",
                ImageLocation::OciLayout(r"\\?\C:\x".into(), ImageSelector::Only),
            ),
            (
                "oci-archive:d:/a.tar:x/y:v1",
                ImageLocation::OciArchive("d:/a.tar".into(), named("x/y:v1")),
            ),
            (
                r"docker-archive:\\nas\images\a.tar:@1",
                ImageLocation::DockerArchive(
                    r"\\nas\images\a.tar".into(),
                    ImageSelector::Position(1),
                ),
            ),
            (r"C:\app.tar", ImageLocation::Path(r"C:\app.tar".into())),
            ("C:/app", ImageLocation::Path("C:/app".into())),
            (r".\app", ImageLocation::Path(r".\app".into())),
            (r"..\語.tar", ImageLocation::Path(r"..\語.tar".into())),
            (r"out\app.tar", ImageLocation::Path(r"out\app.tar".into())),
            ("app:v1", daemon("app:v1")),
            ("c:v1", daemon("c:v1")),
        ] {
            assert_eq!(parse(word, PathKind::File).unwrap(), expected, "{word}");
        }
        for missing in [r"C:\app.tar", r".\app", r"\\nas\images\app"] {
            let error = parse(missing, PathKind::Missing).unwrap_err();
            assert!(matches!(error, Error::InvalidLocation { .. }), "{missing}");
            assert!(error.to_string().contains(missing), "{error}");
        }
        for invalid in [r"oci:C:\x:", "oci::v1"] {
            assert!(parse(invalid, PathKind::File).is_err(), "{invalid}");
        }
    }

    #[test]
    fn nothing_leads_out_of_the_images_in_the_daemons_api() {
        for invalid in [
            "",
            "a b",
            "a/../b",
            "..",
            "a?b",
            "a#b",
            "a%2fb",
            "A",
            "app@latest",
            "a//b",
        ] {
            assert!(invalid.parse::<DaemonImageName>().is_err(), "{invalid}");
        }
        let digest = format!("app@{}", Digest::of(b""));
        for good in [&*digest, "sha256:0123", "app", "localhost:5000/team/app:v1"] {
            assert_eq!(good.parse::<DaemonImageName>().unwrap().as_str(), good);
        }
    }
}
