//! Selects platforms of an image.

use std::fmt;

use imgsync_oci::manifest::Platform;

use super::Error;

/// The requested platforms; none means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Platforms(Vec<Platform>);

impl Platforms {
    /// Parses `os/architecture[/variant]`, such as `linux/arm64` or `linux/arm/v7`.
    ///
    /// # Errors
    /// Returns the first invalid argument.
    pub fn parse(words: &[String]) -> Result<Self, &str> {
        let parse = |word| platform(word).ok_or(word);
        words.iter().map(String::as_str).map(parse).collect()
    }

    /// Returns whether no platform is requested.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the requested platforms.
    pub(crate) fn requested(&self) -> &[Platform] {
        &self.0
    }

    /// Returns the positions of the requested platforms among the available ones, each once, in
    /// order.
    ///
    /// # Errors
    /// Returns [`Error::PlatformNotFound`].
    pub(crate) fn choose(
        &self,
        from: &str,
        available: &[Option<Platform>],
    ) -> Result<Vec<usize>, Error> {
        let mut positions = Vec::new();
        for requested in &self.0 {
            let position = find(requested, available).ok_or_else(|| Error::PlatformNotFound {
                from: from.to_owned(),
                requested: text(requested),
                available: available.iter().flatten().map(text).collect(),
            })?;
            positions.push(position);
        }
        positions.sort_unstable();
        positions.dedup();
        Ok(positions)
    }

    /// Returns the positions of all available platforms that match a requested one, in order. There
    /// may be several for one platform, for example several versions of Windows.
    pub(crate) fn matching(&self, available: &[Option<Platform>]) -> Vec<usize> {
        let normalized = |position: usize| available[position].as_ref().map(normalize);
        let found = self
            .0
            .iter()
            .filter_map(|requested| find(requested, available));
        let found: Vec<_> = found.map(normalized).collect();
        let is_requested = |position: &usize| found.contains(&normalized(*position));
        (0..available.len()).filter(is_requested).collect()
    }

    /// Checks whether the only available platform is a requested one.
    ///
    /// # Errors
    /// Returns [`Error::PlatformNotFound`].
    pub(crate) fn check(&self, from: &str, available: Option<Platform>) -> Result<(), Error> {
        self.choose(from, &[available]).map(|_| ())
    }
}

impl FromIterator<Platform> for Platforms {
    fn from_iter<I: IntoIterator<Item = Platform>>(all: I) -> Self {
        let mut platforms = Vec::new();
        for platform in all {
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        Self(platforms)
    }
}

impl fmt::Display for Platforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(text).collect();
        f.write_str(&names.join(", "))
    }
}

/// Finds the equal platform or, if no variant is requested, the only one of that architecture.
fn find(requested: &Platform, available: &[Option<Platform>]) -> Option<usize> {
    let available: Vec<_> = available
        .iter()
        .map(|own| own.as_ref().map(normalize))
        .collect();
    let equal = Some(normalize(requested));
    if let Some(position) = available.iter().position(|own| *own == equal) {
        return Some(position);
    }
    let without_variant = |(os, architecture, _)| (os, architecture);
    let alike = equal.map(without_variant);
    let mut positions =
        (0..available.len()).filter(|at| available[*at].map(without_variant) == alike);
    let (first, second) = (positions.next(), positions.next());
    first.filter(|_| second.is_none() && requested.variant.is_none())
}

/// Normalizes a platform as containerd does: some have two names, and some variants are implied.
fn normalize(platform: &Platform) -> (&str, &str, &str) {
    let os = match &*platform.os {
        "macos" => "darwin",
        os => os,
    };
    let variant = platform.variant.as_deref().unwrap_or_default();
    let (architecture, variant) = match (&*platform.architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("i386", variant) => ("386", variant),
        ("armhf" | "arm", "" | "7") => ("arm", "v7"),
        ("armel", "" | "6") | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        other => other,
    };
    (os, architecture, variant)
}

/// Parses `os/architecture[/variant]`.
pub(crate) fn platform(word: &str) -> Option<Platform> {
    let mut parts = word.split('/');
    let mut part = || parts.next().map(|part| part.to_ascii_lowercase());
    let (os, architecture, variant) = (part()?, part()?, part());
    let is_name = |part: &String| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !part.is_empty() && part.bytes().all(is_plain)
    };
    let all = [Some(&os), Some(&architecture), variant.as_ref()];
    if parts.next().is_some() || !all.into_iter().flatten().all(is_name) {
        return None;
    }
    Some(Platform {
        architecture,
        os,
        variant,
    })
}

/// Formats a platform as `os/architecture[/variant]`.
pub(crate) fn text(platform: &Platform) -> String {
    let Platform {
        architecture, os, ..
    } = platform;
    match platform.variant.as_deref().unwrap_or_default() {
        "" => format!("{os}/{architecture}"),
        variant => format!("{os}/{architecture}/{variant}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn available(words: &[&str]) -> Vec<Option<Platform>> {
        words.iter().map(|word| platform(word)).collect()
    }

    fn choose(requested: &[&str], all: &[&str]) -> Result<Vec<usize>, Error> {
        let requested: Vec<_> = requested.iter().map(|&word| word.to_owned()).collect();
        Platforms::parse(&requested)
            .unwrap()
            .choose("it", &available(all))
    }

    #[test]
    fn platforms_are_found_by_all_their_names() {
        let all = [
            "linux/amd64",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/arm64/v8",
            "linux/s390x",
        ];
        for (requested, position) in [
            ("linux/amd64", 0),
            ("linux/x86_64", 0),
            ("Linux/AMD64", 0),
            ("linux/arm/v6", 1),
            ("linux/arm", 2),
            ("linux/arm64", 3),
            ("linux/aarch64", 3),
            ("linux/arm64/v8", 3),
        ] {
            assert_eq!(
                choose(&[requested], &all).unwrap(),
                [position],
                "{requested}"
            );
        }
        assert_eq!(
            choose(&["linux/s390x", "linux/amd64"], &all).unwrap(),
            [0, 4]
        );
        assert_eq!(choose(&["linux/ppc64"], &["linux/ppc64/x"]).unwrap(), [0]);
    }

    #[test]
    fn a_missing_platform_is_reported_with_those_available() {
        for requested in ["linux/riscv64", "windows/amd64", "linux/amd64/v3"] {
            let error = choose(&["linux/amd64", requested], &["linux/amd64", "linux/arm64"]);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(requested), "{error}");
            assert!(error.contains("linux/amd64, linux/arm64"), "{error}");
        }
        // Two variants match equally well.
        assert!(choose(&["linux/mips"], &["linux/mips/a", "linux/mips/b"]).is_err());
    }

    #[test]
    fn words_that_are_no_platform() {
        for bad in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "linux/a/b/c",
            "linux/a b",
            "linux/arm/",
        ] {
            assert_eq!(Platforms::parse(&[bad.to_owned()]), Err(bad));
        }
    }
}
