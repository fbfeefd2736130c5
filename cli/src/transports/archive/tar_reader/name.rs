//! Normalizes the names of entries to keys of a map. For a folder in place of an archive,
//! `disk::path_below` makes paths of them.

/// Returns the key of a name: its components without `.` and empty ones. `None` for a name that is
/// absolute, has `..`, is not UTF-8 or has control characters.
pub(in crate::transports) fn entry_key(name: &[u8]) -> Option<String> {
    let name = text(name)?;
    let parts: Vec<_> = parts(name).collect();
    if name.starts_with('/') || parts.contains(&"..") {
        return None;
    }
    Some(parts.join("/"))
}

/// Returns the key of a link's target: relative to the folder of `base` for a symbolic link,
/// relative to the root for a hard link (without `base`). `None` if it leaves the archive.
pub(in crate::transports) fn link_key(base: Option<&str>, target: &[u8]) -> Option<String> {
    let target = text(target)?;
    if target.starts_with('/') {
        return None;
    }
    let mut key: Vec<&str> = base.map(|base| parts(base).collect()).unwrap_or_default();
    key.pop();
    for part in parts(target) {
        match part {
            ".." => {
                key.pop()?;
            }
            part => key.push(part),
        }
    }
    Some(key.join("/"))
}

fn text(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    (!name.is_empty() && !name.chars().any(char::is_control)).then_some(name)
}

fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split('/').filter(|part| !matches!(*part, "" | "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for (name, expected) in [
            ("manifest.json", "manifest.json"),
            ("./manifest.json", "manifest.json"),
            ("blobs//sha256/", "blobs/sha256"),
            ("./", ""),
        ] {
            assert_eq!(entry_key(name.as_bytes()).as_deref(), Some(expected));
        }
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "../a",
            "a/..",
            "a\0b",
            "a\nb",
        ] {
            assert_eq!(entry_key(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(entry_key(b"\xff"), None);
    }

    #[test]
    fn links_stay_inside() {
        let symbolic = |target: &str| link_key(Some("ab/layer.tar"), target.as_bytes());
        assert_eq!(symbolic("../cd.tar").as_deref(), Some("cd.tar"));
        assert_eq!(symbolic("cd.tar").as_deref(), Some("ab/cd.tar"));
        for bad in ["../../cd.tar", "/cd.tar", ""] {
            assert_eq!(symbolic(bad), None, "{bad}");
        }
        assert_eq!(link_key(None, b"cd.tar").as_deref(), Some("cd.tar"));
        assert_eq!(link_key(None, b"../cd.tar"), None);
    }
}
