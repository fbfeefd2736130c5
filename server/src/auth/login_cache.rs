//! Caches valid logins, so that checking one again takes microseconds instead of a bcrypt hash.
//!
//! This module must not store a password: it stores a keyed hash (MAC) of name, password and bcrypt
//! hash. After a change of the user's line the MAC no longer matches. The key is random for each process.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;

use super::authorization::BasicCredentials;
use super::error::Error;

/// The most logins in the cache, far more than there are users. Each takes about 40 bytes.
const MAX_CACHED_LOGINS: usize = 16 * 1024;

/// The MAC of a login.
pub(super) type LoginMac = [u8; 32];

/// A bounded set of valid logins.
pub(super) struct LoginCache {
    key: hmac::Key,
    macs: RwLock<HashSet<LoginMac>>,
}

impl LoginCache {
    /// Creates an empty cache with a random key.
    ///
    /// # Errors
    /// The system provides no random numbers.
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self {
            key: random_key()?,
            macs: RwLock::default(),
        })
    }

    /// Returns the MAC of a login with the user's bcrypt hash.
    pub(super) fn mac(&self, login: &BasicCredentials, hash: &str) -> LoginMac {
        let mut context = hmac::Context::with_key(&self.key);
        // Each part is preceded by its length, so that no two logins yield the same bytes.
        for part in [login.user.as_bytes(), hash.as_bytes(), &login.password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut mac = LoginMac::default();
        mac.copy_from_slice(context.sign().as_ref());
        mac
    }

    /// Returns whether the login was found valid before.
    pub(super) fn contains(&self, mac: &LoginMac) -> bool {
        let macs = self.macs.read().unwrap_or_else(PoisonError::into_inner);
        macs.contains(mac)
    }

    /// Adds a valid login. A full cache is emptied first.
    pub(super) fn insert(&self, mac: LoginMac) {
        let mut macs = self.macs.write().unwrap_or_else(PoisonError::into_inner);
        if macs.len() >= MAX_CACHED_LOGINS {
            macs.clear();
        }
        macs.insert(mac);
    }
}

/// Creates a random key.
///
/// # Errors
/// The system provides no random numbers.
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
    fn only_the_same_login_with_the_same_hash_is_cached() {
        let cache = LoginCache::new().unwrap();
        let mac = cache.mac(&login("alice", b"secret"), "hash");
        assert!(!cache.contains(&mac));
        cache.insert(mac);
        assert!(cache.contains(&mac));
        for (user, password, hash) in [
            ("alice", "Secret", "hash"),
            ("bob", "secret", "hash"),
            ("alice", "secret", "hash2"),
            ("aliceh", "secret", "ash"),
            ("alice", "esecret", "lin"),
        ] {
            let other = cache.mac(&login(user, password.as_bytes()), hash);
            assert!(!cache.contains(&other), "{user} {password} {hash}");
        }
        let other = LoginCache::new().unwrap();
        assert_ne!(other.mac(&login("alice", b"secret"), "hash"), mac);
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = LoginCache::new().unwrap();
        for number in 0..=MAX_CACHED_LOGINS {
            let password = number.to_string();
            cache.insert(cache.mac(&login("alice", password.as_bytes()), "hash"));
        }
        assert_eq!(cache.macs.read().unwrap().len(), 1);
    }
}
