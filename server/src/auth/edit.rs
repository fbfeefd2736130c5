//! Changes to an htpasswd file: one user's line, and nothing else.

use std::fmt;
use std::io;
use std::path::Path;

use super::htpasswd::{HtpasswdLine, parse_line};
use super::htpasswd_file;

/// The bcrypt cost of new passwords: some 60 ms, once per login and process.
pub const DEFAULT_BCRYPT_COST: u32 = 10;
/// What bcrypt looks at. It would ignore the rest in silence.
const MAX_PASSWORD_BYTES: usize = 72;

/// What to do with a user.
#[derive(Clone)]
pub enum UserChange {
    /// Give them this password, adding them where they are not there yet.
    Set {
        /// The password.
        password: String,
        /// The bcrypt cost, 4 to 17; each one more takes twice as long.
        cost: u32,
    },
    /// Take them out.
    Delete,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditOutcome {
    /// The user is new.
    Added,
    /// The user was there, and has another password now.
    Changed,
    /// The user is gone.
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

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The name cannot stand in such a file.
    #[error(
        "{0:?} cannot be a user's name: it must not be empty, begin with #, or hold a colon, a line's end or space around it"
    )]
    Name(String),
    /// The password cannot be hashed as it is.
    #[error("{0}")]
    Password(&'static str),
    /// bcrypt does not take this cost.
    #[error("the cost {0} is out of range: 4 to 17")]
    Cost(u32),
    /// There is no such user to delete.
    #[error("there is no user {0:?} in it")]
    NoSuchUser(String),
    /// The file.
    #[error("{0}")]
    File(#[from] io::Error),
}

/// Changes one user in an htpasswd file, which is made where it is missing. All other lines stay as
/// they are. When this returns the change is durable; a running server takes it up by itself.
///
/// # Errors
/// See [`EditError`]; the file is as it was then.
pub fn edit_user(path: &Path, user: &str, change: &UserChange) -> Result<EditOutcome, EditError> {
    let is_name = !user.is_empty()
        && !user.starts_with('#')
        && user.trim() == user
        && !user.contains([':', '\n', '\r', '\0']);
    if !is_name {
        return Err(EditError::Name(user.to_owned()));
    }
    let line = match change {
        UserChange::Set { password, cost } => Some(format!("{user}:{}", hash(password, *cost)?)),
        UserChange::Delete => None,
    };
    let mut done = EditOutcome::Deleted;
    htpasswd_file::change(path, |old| {
        let (new, was_there) = replace_user_line(old.unwrap_or_default(), user, line.as_deref());
        done = match (&line, was_there) {
            (Some(_), true) => EditOutcome::Changed,
            (Some(_), false) => EditOutcome::Added,
            (None, true) => EditOutcome::Deleted,
            (None, false) => return Err(EditError::NoSuchUser(user.to_owned())),
        };
        Ok(new)
    })?;
    Ok(done)
}

fn hash(password: &str, cost: u32) -> Result<String, EditError> {
    if password.is_empty() {
        return Err(EditError::Password("the password is empty"));
    }
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(EditError::Password(
            "the password is longer than 72 bytes, and bcrypt would ignore the rest",
        ));
    }
    if password.contains(['\0', '\n', '\r']) {
        return Err(EditError::Password(
            "the password holds a line's end or a zero byte",
        ));
    }
    if !(4..=17).contains(&cost) {
        return Err(EditError::Cost(cost));
    }
    let parts = bcrypt::hash_with_result(password, cost);
    let parts = parts.map_err(|error| io::Error::other(error.to_string()))?;
    // As `htpasswd -B` writes it; Apache's and Go's readers know no other as well.
    Ok(parts.format_for_version(bcrypt::Version::TwoY))
}

/// The file with this line for the user, or none, and whether there was one before.
fn replace_user_line(old: &[u8], user: &str, line: Option<&str>) -> (Vec<u8>, bool) {
    let end: &[u8] = if old.windows(2).any(|pair| pair == b"\r\n") {
        b"\r\n"
    } else {
        b"\n"
    };
    let (mut new, mut was_there) = (Vec::with_capacity(old.len() + 100), false);
    let put = |new: &mut Vec<u8>| {
        new.extend_from_slice(line.unwrap_or_default().as_bytes());
        new.extend_from_slice(end);
    };
    for old_line in old.split_inclusive(|byte| *byte == b'\n') {
        let is_theirs =
            matches!(parse_line(old_line), HtpasswdLine::Entry { name, .. } if name == user);
        if !is_theirs {
            new.extend_from_slice(old_line);
        } else if line.is_some() && !was_there {
            put(&mut new);
        }
        was_there |= is_theirs;
    }
    if line.is_some() && !was_there {
        if !new.is_empty() && !new.ends_with(b"\n") {
            new.extend_from_slice(end);
        }
        put(&mut new);
    }
    (new, was_there)
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
        for (old, line, expected, was_there) in [
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
            assert_eq!(was, was_there, "{old:?}");
        }
        let (new, _) = replace_user_line(b"\xff\xfe\na:0", "a", Some("a:1"));
        assert_eq!(new, b"\xff\xfe\na:1\n");
    }

    #[test]
    fn users_are_added_changed_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        let matches = |user: &str, password: &str| {
            let (table, complaints) = HtpasswdTable::parse(&std::fs::read(&path).unwrap());
            assert_eq!(complaints, []);
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
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_link_stays_a_link() {
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
    fn what_cannot_be_a_user_or_a_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        for name in ["", "a:b", "#a", " a", "a\nb", "a\0"] {
            assert!(matches!(
                edit_user(&path, name, &set("x")),
                Err(EditError::Name(_))
            ));
        }
        for password in ["", "a\nb", "a\0", &"x".repeat(73)] {
            let refused = edit_user(&path, "alice", &set(password));
            assert!(
                matches!(refused, Err(EditError::Password(_))),
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
        let nowhere = folder.path().join("none/htpasswd");
        assert!(matches!(
            edit_user(&nowhere, "alice", &set("x")),
            Err(EditError::File(_))
        ));
    }

    #[test]
    fn many_changes_at_once_lose_nobody() {
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
