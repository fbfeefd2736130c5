//! Changes one user's line in an htpasswd file and keeps all other lines unchanged.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::htpasswd::{HtpasswdLine, MAX_BCRYPT_COST, MIN_BCRYPT_COST, parse_line};
use super::htpasswd_file;

/// The default bcrypt cost of new passwords. A check takes about 60 ms, once per login as long as
/// the server runs.
pub const DEFAULT_BCRYPT_COST: u32 = 10;
/// The most bytes of a password that bcrypt uses. It would silently ignore the rest.
const MAX_PASSWORD_BYTES: usize = 72;

/// A change to one user.
#[derive(Clone)]
pub enum UserChange {
    /// Set the password, and add the user if there is none of this name.
    Set {
        /// The password.
        password: String,
        /// The bcrypt cost, 4 to 17; each step doubles the time of a check.
        cost: u32,
    },
    /// Delete the user.
    Delete,
}

/// The result of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditOutcome {
    /// The user was added.
    Added,
    /// The password of an existing user was changed.
    Changed,
    /// The user was deleted.
    Deleted,
}

impl fmt::Display for EditOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        })
    }
}

/// Why the file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file format cannot hold this name.
    #[error(
        "invalid user name {0:?}: it must not be empty, start with '#', contain a colon or a line break, or start or end with a space"
    )]
    Name(String),
    /// bcrypt cannot hash this password.
    #[error("{0}")]
    Password(&'static str),
    /// The bcrypt cost is out of range.
    #[error(
        "invalid bcrypt cost {0}: expected {min} to {max}",
        min = MIN_BCRYPT_COST,
        max = MAX_BCRYPT_COST
    )]
    Cost(u32),
    /// The user to delete does not exist.
    #[error("no user {0:?} in the file")]
    NoSuchUser(String),
    /// The file cannot be read or written.
    #[error("cannot change {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The system failed while the password was hashed.
    #[error("cannot hash the password: {0}")]
    Hash(String),
}

/// Why a change of the file failed.
enum ChangeError {
    NoSuchUser,
    File(io::Error),
}

impl From<io::Error> for ChangeError {
    fn from(source: io::Error) -> Self {
        Self::File(source)
    }
}

/// Changes one user in an htpasswd file, and creates the file if it is missing. All other lines
/// stay as they are. The change is durable when this returns; a running server reloads the file by
/// itself.
///
/// # Errors
/// See [`EditError`]; the file is not changed.
pub fn edit_user(path: &Path, user: &str, change: &UserChange) -> Result<EditOutcome, EditError> {
    let is_valid_name = !user.is_empty()
        && !user.starts_with('#')
        && user.trim() == user
        && !user.contains([':', '\n', '\r', '\0']);
    if !is_valid_name {
        return Err(EditError::Name(user.to_owned()));
    }
    let line = match change {
        UserChange::Set { password, cost } => Some(format!("{user}:{}", hash(password, *cost)?)),
        UserChange::Delete => None,
    };
    let mut outcome = EditOutcome::Deleted;
    htpasswd_file::change(path, |old| -> Result<_, ChangeError> {
        let (new, was_present) = replace_user_line(old.unwrap_or_default(), user, line.as_deref());
        outcome = match line {
            Some(_) if was_present => EditOutcome::Changed,
            Some(_) => EditOutcome::Added,
            None if was_present => EditOutcome::Deleted,
            None => return Err(ChangeError::NoSuchUser),
        };
        Ok(new)
    })
    .map_err(|error| match error {
        ChangeError::NoSuchUser => EditError::NoSuchUser(user.to_owned()),
        ChangeError::File(source) => EditError::File {
            path: path.to_owned(),
            source,
        },
    })?;
    Ok(outcome)
}

fn hash(password: &str, cost: u32) -> Result<String, EditError> {
    if password.is_empty() {
        return Err(EditError::Password("the password is empty"));
    }
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(EditError::Password(
            "the password is longer than 72 bytes, which is the limit of bcrypt",
        ));
    }
    if password.contains(['\0', '\n', '\r']) {
        return Err(EditError::Password(
            "the password contains a line break or a NUL byte",
        ));
    }
    if !(MIN_BCRYPT_COST..=MAX_BCRYPT_COST).contains(&cost) {
        return Err(EditError::Cost(cost));
    }
    let parts = bcrypt::hash_with_result(password, cost);
    let parts = parts.map_err(|error| EditError::Hash(error.to_string()))?;
    // `htpasswd -B` writes this version. Apache and Go read it best.
    Ok(parts.format_for_version(bcrypt::Version::TwoY))
}

/// Returns the content of the file with the user's line replaced, or removed if `line` is `None`,
/// and whether the user had a line before.
fn replace_user_line(old: &[u8], user: &str, line: Option<&str>) -> (Vec<u8>, bool) {
    let line_end: &[u8] = if old.windows(2).any(|pair| pair == b"\r\n") {
        b"\r\n"
    } else {
        b"\n"
    };
    let (mut new, mut was_present) = (Vec::with_capacity(old.len() + 100), false);
    let push_line = |new: &mut Vec<u8>| {
        new.extend_from_slice(line.unwrap_or_default().as_bytes());
        new.extend_from_slice(line_end);
    };
    for old_line in old.split_inclusive(|byte| *byte == b'\n') {
        let is_users =
            matches!(parse_line(old_line), HtpasswdLine::Entry { name, .. } if name == user);
        if !is_users {
            new.extend_from_slice(old_line);
        } else if line.is_some() && !was_present {
            push_line(&mut new);
        }
        was_present |= is_users;
    }
    if line.is_some() && !was_present {
        if !new.is_empty() && !new.ends_with(b"\n") {
            new.extend_from_slice(line_end);
        }
        push_line(&mut new);
    }
    (new, was_present)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::htpasswd::HtpasswdTable;
    use super::*;

    fn set(password: &str) -> UserChange {
        UserChange::Set {
            password: password.to_owned(),
            cost: 4,
        }
    }

    #[test]
    fn other_lines_stay_as_they_are() {
        for (old, line, expected, was_present) in [
            ("", Some("a:1"), "a:1\n", false),
            ("b:2", Some("a:1"), "b:2\na:1\n", false),
            (
                "# x\na:0\n\nb : 2\n",
                Some("a:1"),
                "# x\na:1\n\nb : 2\n",
                true,
            ),
            ("a:0\nb:2\na:9\n", Some("a:1"), "a:1\nb:2\n", true),
            ("a:0\nb:2\na:9", None, "b:2\n", true),
            ("b:2\r\na:0\r\n", Some("a:1"), "b:2\r\na:1\r\n", true),
            ("b:2\r\n", Some("a:1"), "b:2\r\na:1\r\n", false),
            (
                "#a:0\nab:0\nnonsense\n",
                None,
                "#a:0\nab:0\nnonsense\n",
                false,
            ),
        ] {
            let (new, was) = replace_user_line(old.as_bytes(), "a", line);
            assert_eq!(String::from_utf8(new).unwrap(), expected, "{old:?}");
            assert_eq!(was, was_present, "{old:?}");
        }
        let (new, _) = replace_user_line(b"\xff\xfe\na:0", "a", Some("a:1"));
        assert_eq!(new, b"\xff\xfe\na:1\n");
    }

    #[test]
    fn users_are_added_changed_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        let matches = |user: &str, password: &str| {
            let (table, warnings) = HtpasswdTable::parse(&std::fs::read(&path).unwrap());
            assert_eq!(warnings, []);
            let hash = table.get(user).map(|hash| hash.as_str().to_owned());
            hash.is_some_and(|hash| bcrypt::verify(password, &hash).unwrap())
        };
        assert_eq!(
            edit_user(&path, "alice", &set("one")).unwrap(),
            EditOutcome::Added
        );
        let mode = || path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        assert_eq!(
            edit_user(&path, "bob", &set("two")).unwrap(),
            EditOutcome::Added
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(
            edit_user(&path, "alice", &set("three")).unwrap(),
            EditOutcome::Changed
        );
        assert_eq!(mode(), 0o644);
        assert!(matches("alice", "three") && matches("bob", "two"));
        assert!(!matches("alice", "one"));
        assert_eq!(
            edit_user(&path, "alice", &UserChange::Delete).unwrap(),
            EditOutcome::Deleted
        );
        assert!(!matches("alice", "three") && matches("bob", "two"));
        let missing = edit_user(&path, "alice", &UserChange::Delete);
        assert!(matches!(missing, Err(EditError::NoSuchUser(_))));
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "{files:?}");
    }

    #[test]
    fn a_symbolic_link_is_preserved() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        edit_user(&link, "alice", &set("x")).unwrap();
        assert!(link.is_symlink());
        assert!(
            std::fs::read_to_string(&real)
                .unwrap()
                .starts_with("alice:$2y$04$")
        );
    }

    #[test]
    fn invalid_users_and_passwords_are_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        for name in ["", "a:b", "#a", " a", "a\nb", "a\0"] {
            assert!(matches!(
                edit_user(&path, name, &set("x")),
                Err(EditError::Name(_))
            ));
        }
        for password in ["", "a\nb", "a\0", &"x".repeat(73)] {
            let result = edit_user(&path, "alice", &set(password));
            assert!(
                matches!(result, Err(EditError::Password(_))),
                "{password:?}"
            );
        }
        let password = "x".to_owned();
        let costly = UserChange::Set { password, cost: 18 };
        assert!(matches!(
            edit_user(&path, "alice", &costly),
            Err(EditError::Cost(18))
        ));
        assert!(!path.exists());
        let missing_folder = folder.path().join("none/htpasswd");
        assert!(matches!(
            edit_user(&missing_folder, "alice", &set("x")),
            Err(EditError::File { .. })
        ));
    }

    #[test]
    fn concurrent_changes_keep_all_users() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || edit_user(path, &format!("user{number}"), &set("x")).unwrap());
            }
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 8);
    }
}
