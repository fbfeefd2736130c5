//! Logins that were found right, so that checking them again costs microseconds instead of a
//! bcrypt. Kept is a keyed hash of name, password and the line in the file; a change of the line
//! makes it worthless, and so does the end of the process, which is the end of the key.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;

use super::authorization::BasicCredentials;
use super::error::Error;

/// Far more than users log in; each costs some 40 bytes.
const MAX_CACHED_LOGINS: usize = 16 * 1024;

/// What stands for a login.
pub(super) type LoginMac = [u8; 32];

/// The logins.
pub(super) struct LoginCache {
    key: hmac::Key,
    macs: RwLock<HashSet<LoginMac>>,
}

impl LoginCache {
    /// Nobody yet.
    ///
    /// # Errors
    /// There are no random numbers for a key.
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self {
            key: random_key()?,
            macs: RwLock::default(),
        })
    }

    /// What stands for this login against this line of the file.
    pub(super) fn mac(&self, login: &BasicCredentials, line: &str) -> LoginMac {
        let mut context = hmac::Context::with_key(&self.key);
        // Lengths first: no two logins run into the same bytes.
        for part in [login.user.as_bytes(), line.as_bytes(), &login.password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut tag = LoginMac::default();
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// Whether it was found right before.
    pub(super) fn contains(&self, tag: &LoginMac) -> bool {
        let tags = self.macs.read().unwrap_or_else(PoisonError::into_inner);
        tags.contains(tag)
    }

    /// Remembers that it is right. When there are too many, all others are forgotten.
    pub(super) fn insert(&self, tag: LoginMac) {
        let mut tags = self.macs.write().unwrap_or_else(PoisonError::into_inner);
        if tags.len() >= MAX_CACHED_LOGINS {
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

    fn login(user: &str, password: &[u8]) -> BasicCredentials {
        BasicCredentials {
            user: user.to_owned(),
            password: password.into(),
        }
    }

    #[test]
    fn only_the_same_login_against_the_same_line_is_known() {
        let remembered = LoginCache::new().unwrap();
        let tag = remembered.mac(&login("alice", b"secret"), "line");
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
            let other = remembered.mac(&login(user, password.as_bytes()), line);
            assert!(!remembered.contains(&other), "{user} {password} {line}");
        }
        let other = LoginCache::new().unwrap();
        assert_ne!(other.mac(&login("alice", b"secret"), "line"), tag);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let remembered = LoginCache::new().unwrap();
        for number in 0..=MAX_CACHED_LOGINS {
            let password = number.to_string();
            remembered.insert(remembered.mac(&login("alice", password.as_bytes()), "line"));
        }
        assert_eq!(remembered.macs.read().unwrap().len(), 1);
    }
}
