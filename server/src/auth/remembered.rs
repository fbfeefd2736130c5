//! Logins that were found right, so that checking them again costs microseconds instead of a
//! bcrypt. Kept is a keyed hash of name, password and the line in the file; a change of the line
//! makes it worthless, and so does the end of the process, which is the end of the key.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;

use super::basic::Login;
use super::error::Error;

/// Far more than users log in; each costs some 40 bytes.
const MAX: usize = 16 * 1024;

/// What stands for a login.
pub(super) type Tag = [u8; 32];

/// The logins.
pub(super) struct Remembered {
    key: hmac::Key,
    tags: RwLock<HashSet<Tag>>,
}

impl Remembered {
    /// Nobody yet.
    ///
    /// # Errors
    /// There are no random numbers for a key.
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self {
            key: random_key()?,
            tags: RwLock::default(),
        })
    }

    /// What stands for this login against this line of the file.
    pub(super) fn tag(&self, login: &Login, line: &str) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        // Lengths first: no two logins run into the same bytes.
        for part in [login.user.as_bytes(), line.as_bytes(), &login.password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut tag = Tag::default();
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// Whether it was found right before.
    pub(super) fn contains(&self, tag: &Tag) -> bool {
        let tags = self.tags.read().unwrap_or_else(PoisonError::into_inner);
        tags.contains(tag)
    }

    /// Remembers that it is right. When there are too many, all others are forgotten.
    pub(super) fn insert(&self, tag: Tag) {
        let mut tags = self.tags.write().unwrap_or_else(PoisonError::into_inner);
        if tags.len() >= MAX {
            tags.clear();
        }
        tags.insert(tag);
    }
}

/// A key that nobody knows.
pub(super) fn random_key() -> Result<hmac::Key, Error> {
    hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| Error::Random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, password: &[u8]) -> Login {
        Login {
            user: user.to_owned(),
            password: password.into(),
        }
    }

    #[test]
    fn only_the_same_login_against_the_same_line_is_known() {
        let remembered = Remembered::new().unwrap();
        let tag = remembered.tag(&login("alice", b"secret"), "line");
        assert!(!remembered.contains(&tag));
        remembered.insert(tag);
        assert!(remembered.contains(&tag));
        for (user, password, line) in [
            ("alice", "Secret", "line"),
            ("bob", "secret", "line"),
            ("alice", "secret", "line2"),
            ("alicel", "secret", "ine"),
            ("alice", "esecret", "lin"),
        ] {
            let other = remembered.tag(&login(user, password.as_bytes()), line);
            assert!(!remembered.contains(&other), "{user} {password} {line}");
        }
        let other = Remembered::new().unwrap();
        assert_ne!(other.tag(&login("alice", b"secret"), "line"), tag);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let remembered = Remembered::new().unwrap();
        for number in 0..=MAX {
            let password = number.to_string();
            remembered.insert(remembered.tag(&login("alice", password.as_bytes()), "line"));
        }
        assert_eq!(remembered.tags.read().unwrap().len(), 1);
    }
}
