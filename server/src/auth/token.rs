//! Tokens of our own: they say who their bearer is for a few minutes, and nothing of what they may
//! do, which is asked anew at every request. Only this server reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;

use super::User;
use super::error::Error;
use super::login_cache::random_key;

/// Names the layout, so that no other use of the same secret yields a token.
const TOKEN_FORMAT: &str = "imgsync-token-1";

/// Makes tokens, and reads those that it made.
#[derive(Clone)]
pub(super) struct TokenSigner(hmac::Key);

impl TokenSigner {
    /// With a key made of a secret, or a random one.
    ///
    /// # Errors
    /// There are no random numbers.
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

    /// A token for a user whose line in the file is this, or for somebody unknown. A change of the
    /// line ends it.
    pub(super) fn sign(&self, user: Option<&User>, until: SystemTime, line: &str) -> String {
        let until = until
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let user = hex::encode(user.map_or("", User::as_str));
        let mark = hmac::sign(&self.0, &signed_payload(&user, until, line));
        format!("{user}.{until}.{}", hex::encode(mark))
    }

    /// Who a token is from: `Some(None)` is somebody unknown. `None` where it is not one of ours,
    /// is too old, or `line_of` its user is gone or another one now.
    pub(super) fn verify<'a>(
        &self,
        token: &str,
        now: SystemTime,
        line_of: impl FnOnce(&str) -> Option<&'a str>,
    ) -> Option<Option<User>> {
        let mut parts = token.split('.');
        let (user, until, mark) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let until: u64 = until.parse().ok()?;
        let name = String::from_utf8(hex::decode(user).ok()?).ok()?;
        let line = match name.is_empty() {
            true => "",
            false => line_of(&name)?,
        };
        let mark = hex::decode(mark).ok()?;
        hmac::verify(&self.0, &signed_payload(user, until, line), &mark).ok()?;
        let until = UNIX_EPOCH.checked_add(Duration::from_secs(until))?;
        let user = (!name.is_empty()).then(|| User(name.into()));
        (now < until).then_some(user)
    }
}

fn signed_payload(user: &str, until: u64, line: &str) -> Vec<u8> {
    // No part but the last can hold a space.
    format!("{TOKEN_FORMAT} {user} {until} {line}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_who_one_is_until_it_ends_or_the_users_line_changes() {
        let signer = TokenSigner::new(None).unwrap();
        let now = SystemTime::now();
        let until = now + Duration::from_secs(60);
        let alice = User("alice".into());
        let token = signer.sign(Some(&alice), until, "line");
        let read = |signer: &TokenSigner, token: &str, now, line: Option<&'static str>| {
            signer.verify(token, now, |name| line.filter(|_| name == "alice"))
        };
        assert_eq!(
            read(&signer, &token, now, Some("line")),
            Some(Some(alice.clone()))
        );
        assert_eq!(read(&signer, &token, until, Some("line")), None);
        assert_eq!(read(&signer, &token, now, Some("other")), None);
        assert_eq!(read(&signer, &token, now, None), None);
        assert_eq!(
            read(&TokenSigner::new(None).unwrap(), &token, now, Some("line")),
            None
        );

        let anonymous = signer.sign(None, until, "");
        assert_eq!(read(&signer, &anonymous, now, None), Some(None));
        let mark = anonymous.rsplit('.').next().unwrap();
        let until = token.split('.').nth(1).unwrap();
        let forged = format!("{}.{until}.{mark}", hex::encode("alice"));
        assert_eq!(read(&signer, &forged, now, Some("")), None);
        let later = token.replace(until, "99999999999");
        assert_eq!(read(&signer, &later, now, Some("line")), None);
        for bad in [
            "",
            ".",
            "..",
            "a.b.c",
            &format!("{token}."),
            &token[..token.len() - 1],
        ] {
            assert_eq!(read(&signer, bad, now, Some("line")), None, "{bad}");
        }
        let far = format!(".{}.{mark}", u64::MAX);
        assert_eq!(read(&signer, &far, now, None), None);
    }

    #[test]
    fn servers_with_the_same_secret_read_each_others_tokens() {
        let until = SystemTime::now() + Duration::from_secs(60);
        let token = TokenSigner::new(Some("s")).unwrap().sign(None, until, "");
        let read = |secret| {
            let signer = TokenSigner::new(Some(secret)).unwrap();
            signer.verify(&token, SystemTime::now(), |_| None)
        };
        assert_eq!((read("s"), read("t")), (Some(None), None));
    }
}
