//! Paths in the arguments of the user, where a colon separates a path from a name, and names of files
//! in a folder. Pure: a path is not looked up.

use std::path::{Path, PathBuf};

use super::System;

/// Returns the path of a file in a folder. The name comes from somebody else, has `/` as its separator
/// and no component `..`. `None` if the system takes the name for a path that leads out of the folder
/// or has another meaning: on Windows `..\x`, `C:\x`, `\\server\share`, `file:stream`, and `x.`, which
/// is `x`.
pub(crate) fn path_below(folder: &Path, name: &str, system: System) -> Option<PathBuf> {
    let is_plain = |part: &str| !part.contains(['\\', ':']) && !part.ends_with(['.', ' ']);
    let is_safe = match system {
        System::Windows => name.split('/').all(is_plain),
        System::Unix | System::MacOs => true,
    };
    (is_safe && !name.starts_with('/')).then(|| folder.join(name))
}

/// Splits `PATH:REST` at the first colon that is no part of the path; `None` for the rest if there
/// is none. As for skopeo, a path has no colon other than that of a drive on Windows (`C:\x`).
pub(crate) fn split_path(text: &str, system: System) -> (&str, Option<&str>) {
    let drive_end = match system {
        System::Windows => drive_end(text),
        System::Unix | System::MacOs => 0,
    };
    match text[drive_end..].find(':') {
        Some(colon) => {
            let colon = drive_end + colon;
            (&text[..colon], Some(&text[colon + 1..]))
        }
        None => (text, None),
    }
}

/// Returns whether an argument can only be a path: it is absolute, or begins with `.` or `..` as a
/// folder.
pub(crate) fn is_explicit_path(text: &str, system: System) -> bool {
    let is_separator = |c| c == '/' || (system == System::Windows && c == '\\');
    let is_rooted = |text: &str| text.starts_with(is_separator);
    let is_below = |folder| {
        let rest = text.strip_prefix(folder);
        rest.is_some_and(|rest| rest.is_empty() || is_rooted(rest))
    };
    is_rooted(text)
        || is_below(".")
        || is_below("..")
        || (system == System::Windows && drive_end(text) > 0)
}

/// Returns the end of the drive at the start of an absolute path, after its colon: `C:\`, `C:/`,
/// `\\?\C:\`. Without one, returns 0. A single letter without a separator after the colon is no
/// drive, because it can be the name of a folder: `oci:a:v1`.
fn drive_end(text: &str) -> usize {
    let verbatim = if text.starts_with(r"\\?\") || text.starts_with("//?/") {
        4
    } else {
        0
    };
    match text.as_bytes()[verbatim..] {
        [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic() => verbatim + 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_is_part_of_the_path_on_windows_only() {
        for (text, windows, unix) in [
            (r"C:\x:v1", (r"C:\x", Some("v1")), ("C", Some(r"\x:v1"))),
            ("c:/x:v1", ("c:/x", Some("v1")), ("c", Some("/x:v1"))),
            (r"C:\x", (r"C:\x", None), ("C", Some(r"\x"))),
            (r"C:\", (r"C:\", None), ("C", Some(r"\"))),
            (
                r"\\?\C:\my images\x:v1",
                (r"\\?\C:\my images\x", Some("v1")),
                (r"\\?\C", Some(r"\my images\x:v1")),
            ),
            (
                "//?/C:/x:@1",
                ("//?/C:/x", Some("@1")),
                ("//?/C", Some("/x:@1")),
            ),
        ] {
            assert_eq!(split_path(text, System::Windows), windows, "{text}");
            for system in [System::Unix, System::MacOs] {
                assert_eq!(split_path(text, system), unix, "{text}");
            }
        }
        for (text, path, rest) in [
            ("x", "x", None),
            ("x:v1", "x", Some("v1")),
            ("x:a/b:v1", "x", Some("a/b:v1")),
            ("/x:v1", "/x", Some("v1")),
            ("C:v1", "C", Some("v1")),
            (":v1", "", Some("v1")),
            ("", "", None),
            (r".\x:v1", r".\x", Some("v1")),
            (r"\\server\share\x:v1", r"\\server\share\x", Some("v1")),
            (
                r"\\?\UNC\server\share\x:v1",
                r"\\?\UNC\server\share\x",
                Some("v1"),
            ),
            ("Bilder für 語:v1", "Bilder für 語", Some("v1")),
            ("語:\\x", "語", Some("\\x")),
        ] {
            for system in [System::Unix, System::MacOs, System::Windows] {
                assert_eq!(split_path(text, system), (path, rest), "{text} {system:?}");
            }
        }
    }

    #[test]
    fn names_of_others_do_not_lead_out_of_a_folder() {
        let below = |name: &str, system| path_below(Path::new("folder"), name, system);
        for name in ["manifest.json", "blobs/sha256/0a", ".x", "語/a..b"] {
            for system in [System::Unix, System::MacOs, System::Windows] {
                let expected = Path::new("folder").join(name);
                assert_eq!(below(name, system), Some(expected), "{name} {system:?}");
            }
        }
        for name in [
            r"..\secret",
            r"a\..\..\secret",
            r"C:\secret",
            "C:secret",
            "C:/secret",
            r"\secret",
            r"\\host\share\x",
            r"\\?\C:\secret",
            "a/b:stream",
            "a/.. /secret",
            "a/.../secret",
            "secret.",
        ] {
            assert_eq!(below(name, System::Windows), None, "{name}");
            assert!(below(name, System::Unix).is_some(), "{name}");
        }
        assert_eq!(below("/secret", System::Unix), None);
        assert_eq!(below("//host/share/x", System::Windows), None);
    }

    #[test]
    fn explicit_paths_cannot_be_names_of_images() {
        for text in ["/x", "./x", "../x", ".", "..", "/"] {
            for system in [System::Unix, System::MacOs, System::Windows] {
                assert!(is_explicit_path(text, system), "{text} {system:?}");
            }
        }
        for text in [
            r".\x",
            r"..\x",
            r"\x",
            r"C:\x.tar",
            "c:/x",
            r"\\server\share\x",
            r"\\?\C:\x",
        ] {
            assert!(is_explicit_path(text, System::Windows), "{text}");
            assert!(!is_explicit_path(text, System::Unix), "{text}");
        }
        for text in ["x", "team/app:v1", "C:v1", ".x", "..x", "", "ab:/x", "語"] {
            for system in [System::Unix, System::MacOs, System::Windows] {
                assert!(!is_explicit_path(text, system), "{text} {system:?}");
            }
        }
    }
}
