//! Signs and verifies the tokens of this server. A token identifies a user for a few minutes.
//!
//! This module must not grant permissions: they are checked at every request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;

use super::User;
use super::error::Error;
use super::login_cache::random_key;

/// The name of the token format. It is part of the signed bytes, so that no other use of the same
/// secret yields a valid token.
const TOKEN_FORMAT: &str = "imgsync-token-1";

/// Signs tokens and verifies its own.
#[derive(Clone)]
pub(super) struct TokenSigner(hmac::Key);

impl TokenSigner {
    /// Creates a signer with a key that is derived from a secret, or with a random key.
    ///
    /// # Errors
    /// The system provides no random numbers.
    pub(super) fn new(secret: Option<&str>) -> Result<Self, Error> {
        let key = match secret {
            Some(secret) => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                let derived = hmac::sign(&secret, TOKEN_FORMAT.as_bytes());
                hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
            }
            None => random_key()?,
        };
        Ok(Self(key))
    }

    /// Signs a token for a user with this password hash, or for an anonymous caller with an empty
    /// one. The token ends at the time `expiry`, and when the hash changes.
    pub(super) fn sign(&self, user: Option<&User>, expiry: SystemTime, hash: &str) -> String {
        let expiry = expiry
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let user = hex::encode(user.map_or("", User::as_str));
        let mac = hmac::sign(&self.0, &signed_payload(&user, expiry, hash));
        format!("{user}.{expiry}.{}", hex::encode(mac))
    }

    /// Returns the user of a valid token; `Some(None)` for an anonymous one. `None` if the token is
    /// not signed by this key, has expired, or `hash_of` its user has changed.
    pub(super) fn verify<'a>(
        &self,
        token: &str,
        now: SystemTime,
        hash_of: impl FnOnce(&str) -> Option<&'a str>,
    ) -> Option<Option<User>> {
        let mut parts = token.split('.');
        let (user, expiry, mac) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let expiry: u64 = expiry.parse().ok()?;
        let name = String::from_utf8(hex::decode(user).ok()?).ok()?;
        let hash = if name.is_empty() { "" } else { hash_of(&name)? };
        let mac = hex::decode(mac).ok()?;
        hmac::verify(&self.0, &signed_payload(user, expiry, hash), &mac).ok()?;
        let expiry = UNIX_EPOCH.checked_add(Duration::from_secs(expiry))?;
        let user = (!name.is_empty()).then(|| User(name.into()));
        (now < expiry).then_some(user)
    }
}

fn signed_payload(user: &str, expiry: u64, hash: &str) -> Vec<u8> {
    // Only the last part can contain a space, so no two tokens have the same payload.
    format!("{TOKEN_FORMAT} {user} {expiry} {hash}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_until_it_expires_or_the_password_hash_changes() {
        let signer = TokenSigner::new(None).unwrap();
        let now = SystemTime::now();
        let expiry = now + Duration::from_secs(60);
        let alice = User("alice".into());
        let token = signer.sign(Some(&alice), expiry, "hash");
        let read = |signer: &TokenSigner, token: &str, now, hash: Option<&'static str>| {
            signer.verify(token, now, |name| hash.filter(|_| name == "alice"))
        };
        assert_eq!(
            read(&signer, &token, now, Some("hash")),
            Some(Some(alice.clone()))
        );
        assert_eq!(read(&signer, &token, expiry, Some("hash")), None);
        assert_eq!(read(&signer, &token, now, Some("other")), None);
        assert_eq!(read(&signer, &token, now, None), None);
        assert_eq!(
            read(&TokenSigner::new(None).unwrap(), &token, now, Some("hash")),
            None
        );

        let anonymous = signer.sign(None, expiry, "");
        assert_eq!(read(&signer, &anonymous, now, None), Some(None));
        let mac = anonymous.rsplit('.').next().unwrap();
        let expiry = token.split('.').nth(1).unwrap();
        let forged = format!("{}.{expiry}.{mac}", hex::encode("alice"));
        assert_eq!(read(&signer, &forged, now, Some("")), None);
        let later = token.replace(expiry, "99999999999");
        assert_eq!(read(&signer, &later, now, Some("hash")), None);
        for bad in [
            "",
            ".",
            "..",
            "a.b.c",
            &format!("{token}."),
            &token[..token.len() - 1],
        ] {
            assert_eq!(read(&signer, bad, now, Some("hash")), None, "{bad}");
        }
        let far = format!(".{}.{mac}", u64::MAX);
        assert_eq!(read(&signer, &far, now, None), None);
    }

    #[test]
    fn servers_with_the_same_secret_accept_each_others_tokens() {
        let expiry = SystemTime::now() + Duration::from_secs(60);
        let token = TokenSigner::new(Some("s")).unwrap().sign(None, expiry, "");
        let read = |secret| {
            let signer = TokenSigner::new(Some(secret)).unwrap();
            signer.verify(&token, SystemTime::now(), |_| None)
        };
        assert_eq!((read("s"), read("t")), (Some(None), None));
    }
}
