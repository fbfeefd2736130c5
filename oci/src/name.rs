//! Names of repositories, tags and registries, and references that consist of them.
//!
//! The grammar is that of the OCI distribution-spec, "Pulling manifests"; the short form of local
//! names is Docker's. Start at [`Reference`] for a registry's names, and at [`LocalName`] for a
//! user's.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, ParseError};

/// The registry of names without one, as for docker.
pub const DOCKER_HUB: &str = "docker.io";

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(ParseError::new($what, text))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type!(
    /// The name of a repository: lower-case components separated by slashes, at most 255 characters.
    Repository,
    "repository name",
    |text| text.len() <= 255 && text.split('/').all(is_component)
);

text_type!(
    /// A tag: at most 128 letters, digits, `_`, `.` and `-`, not starting with the last two.
    Tag,
    "tag",
    |text| {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
    }
);

text_type!(
    /// The address of a registry: `host` or `host:port`, with IPv6 addresses in brackets.
    Registry,
    "registry address",
    is_registry
);

impl Tag {
    /// Returns `latest`, the default tag.
    pub fn latest() -> Self {
        Self("latest".into())
    }
}

impl Registry {
    /// Returns the host, without the port, and without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        match self.0.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest),
            None => self.0.split(':').next().unwrap_or(&self.0),
        }
    }

    /// Reports whether this is Docker Hub, by any of its names.
    pub fn is_docker_hub(&self) -> bool {
        matches!(
            self.as_str(),
            "docker.io" | "index.docker.io" | "registry-1.docker.io"
        )
    }

    /// Returns the name of a repository in this registry: at Docker Hub, `nginx` means
    /// `library/nginx`.
    ///
    /// # Errors
    /// Fails if the name becomes too long.
    pub fn full_repository(&self, repository: Repository) -> Result<Repository, ParseError> {
        if !self.is_docker_hub() || repository.as_str().contains('/') {
            return Ok(repository);
        }
        format!("library/{repository}").parse()
    }

    /// Reports whether the address is a loopback address, so that plain HTTP is safe.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }
}

/// Reports whether a host is this machine. The host has no port; an IPv6 address may have brackets.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// One component of a repository name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    alphanumeric(first)
        && alphanumeric(last)
        && text
            .split(|c: char| alphanumeric(c as u8) && c.is_ascii())
            .all(|between| {
                matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-')
            })
}

fn is_registry(text: &str) -> bool {
    let (host_is_good, rest) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) => (address.parse::<std::net::Ipv6Addr>().is_ok(), rest),
            None => return false,
        },
        None => {
            let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            let label = |label: &str| {
                !label.is_empty()
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            };
            (host.len() <= 253 && host.split('.').all(label), rest)
        }
    };
    host_is_good
        && match rest.strip_prefix(':') {
            Some(port) => {
                port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
            }
            None => rest.is_empty(),
        }
}

/// The tag or digest of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// A tag, which may point to another manifest later.
    Tag(Tag),
    /// A digest, which identifies the content.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.contains(':') {
            text.parse().map(Self::Digest)
        } else {
            text.parse().map(Self::Tag)
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A registry, or a repository in one, as it is typed: `host[:port]`,
/// `host[:port]/repository[:tag]`, or `user/repository[:tag]` for Docker Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteName {
    /// The registry.
    pub registry: Registry,
    /// Whether the name has no registry, so that it means Docker Hub.
    pub is_registry_implied: bool,
    /// The repository and tag; `None` stands for those of the local image.
    pub name: Option<(Repository, Option<Tag>)>,
}

impl FromStr for RemoteName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (registry, name) = match text.split_once('/') {
            Some((first, name)) if is_host(first) => (Some(first), Some(name)),
            Some(_) => (None, Some(text)),
            // A single word is no user, so it can be only a registry.
            None => (Some(text), None),
        };
        let is_registry_implied = registry.is_none();
        let registry: Registry = registry.unwrap_or(DOCKER_HUB).parse()?;
        let name = name.map(split_tag).transpose()?;
        let name = match name {
            Some((repository, tag)) => Some((registry.full_repository(repository)?, tag)),
            None => None,
        };
        Ok(Self {
            registry,
            is_registry_implied,
            name,
        })
    }
}

/// The name of a local image in Docker's form: `app`, `team/app:v1` or
/// `registry.example.com:5000/team/app:v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalName {
    /// The registry part, if the name has one.
    pub registry: Option<Registry>,
    /// The repository, without registry.
    pub repository: Repository,
    /// The tag, if the name has one.
    pub tag: Option<Tag>,
}

impl FromStr for LocalName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (registry, name) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => (Some(first.parse()?), rest),
            _ => (None, text),
        };
        let (repository, tag) = split_tag(name)?;
        Ok(Self {
            registry,
            repository,
            tag,
        })
    }
}

/// Returns whether the first part of a name is a registry, by Docker's rule: it cannot be the name of
/// a user of Docker Hub.
fn is_host(part: &str) -> bool {
    let has_capitals = part.bytes().any(|byte| byte.is_ascii_uppercase());
    part.contains(['.', ':']) || part == "localhost" || has_capitals
}

fn split_tag(name: &str) -> Result<(Repository, Option<Tag>), ParseError> {
    match name.split_once(':') {
        Some((repository, tag)) => Ok((repository.parse()?, Some(tag.parse()?))),
        None => Ok((name.parse()?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        for good in [
            "a",
            "a/b",
            "library/nginx",
            "a__b/c.d/e--f",
            "0",
            &"a".repeat(255),
        ] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "..",
            "a/../b",
            "A",
            "a_",
            "-a",
            "a..b",
            "a___b",
            "a b",
            "ü",
            "a/ü",
            "a.-b",
            &"a".repeat(256),
        ] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags() {
        for good in ["latest", "v1.2-rc_3", "_x", &"t".repeat(128)] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".", "-a", "a/b", "ünï", "a b", &"t".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn registries() {
        for good in [
            "localhost",
            "example.com:5000",
            "[::1]:5000",
            "10.0.0.1",
            "my_host",
        ] {
            assert!(good.parse::<Registry>().is_ok(), "{good}");
        }
        for bad in [
            "", ":5000", "a:", "a:0", "a:70000", "a:+1", "[::1", "[x]", "a..b", "http://a",
        ] {
            assert!(bad.parse::<Registry>().is_err(), "{bad}");
        }
        let loopback = |text: &str| text.parse::<Registry>().unwrap().is_loopback();
        assert!(loopback("127.0.0.2:1") && loopback("[::1]:5000") && loopback("localhost"));
        assert!(!loopback("example.com") && !loopback("127.0.0.1.example.com"));
    }

    #[test]
    fn remotes() {
        let remote: RemoteName = "server:5000/team/app:v1".parse().unwrap();
        assert_eq!(remote.registry.as_str(), "server:5000");
        let (repository, tag) = remote.name.unwrap();
        assert_eq!(repository.as_str(), "team/app");
        assert_eq!(tag.unwrap().as_str(), "v1");
        assert_eq!("server".parse::<RemoteName>().unwrap().name, None);
        for (text, shown) in [
            ("user/app:v1", "docker.io implied user/app:v1"),
            ("docker.io/user/app", "docker.io typed user/app"),
            ("docker.io/nginx", "docker.io typed library/nginx"),
            ("nas:5000/app", "nas:5000 typed app"),
            ("nas.local/app", "nas.local typed app"),
            ("localhost/app", "localhost typed app"),
            ("Nas/app", "Nas typed app"),
            ("[::1]:5000/app", "[::1]:5000 typed app"),
        ] {
            let remote: RemoteName = text.parse().unwrap();
            let origin = if remote.is_registry_implied {
                "implied"
            } else {
                "typed"
            };
            let (repository, tag) = remote.name.unwrap();
            let tag = tag.map_or(String::new(), |tag| format!(":{tag}"));
            let parsed = format!("{} {origin} {repository}{tag}", remote.registry);
            assert_eq!(parsed, shown, "{text}");
        }
        assert!("server/".parse::<RemoteName>().is_err());
        assert!("https://server/app".parse::<RemoteName>().is_err());
        assert!("server/app:v1:v2".parse::<RemoteName>().is_err());
    }

    #[test]
    fn local_names() {
        let name: LocalName = "ghcr.io/owner/app:v1".parse().unwrap();
        assert_eq!(name.registry.unwrap().as_str(), "ghcr.io");
        assert_eq!(name.repository.as_str(), "owner/app");
        let name: LocalName = "team/app".parse().unwrap();
        assert_eq!((name.registry, name.tag), (None, None));
    }
}
