//! The sessions of browsers that are logged in. They are only in memory, so a restart ends them.
//!
//! This module must not store an id: whoever reads the memory later cannot use the sessions.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

use super::User;
use super::error::Error;
use super::login_cache::random_key;

/// How long a browser stays logged in.
pub(crate) const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// The most sessions. Beyond it, the first one of the user with the most is closed.
const MAX_SESSIONS: usize = if cfg!(test) { 4 } else { 1000 };
/// The random bytes of an id.
const ID_BYTES: usize = 32;

/// The MAC of the id of a session.
type SessionMac = [u8; 32];

/// A bounded table of sessions.
pub(super) struct SessionTable {
    key: hmac::Key,
    sessions: Mutex<HashMap<SessionMac, BrowserSession>>,
}

/// A session of a browser.
struct BrowserSession {
    user: User,
    /// The password hash of the user at the login. A change of the password ends the session.
    hash: String,
    end: Instant,
}

impl SessionTable {
    /// Creates an empty table with a random key.
    ///
    /// # Errors
    /// The system provides no random numbers.
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self {
            key: random_key()?,
            sessions: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionMac, BrowserSession>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session of a user with this password hash, and returns its id.
    ///
    /// # Errors
    /// The system provides no random numbers.
    pub(super) fn open(&self, user: &User, hash: &str, now: Instant) -> Result<String, Error> {
        let mut bytes = [0; ID_BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Error::Random)?;
        let id = hex::encode(bytes);
        let mut sessions = self.lock();
        sessions.retain(|_, session| now < session.end);
        if sessions.len() >= MAX_SESSIONS
            && let Some(surplus) = surplus_session(&sessions)
        {
            sessions.remove(&surplus);
        }
        let session = BrowserSession {
            user: user.clone(),
            hash: hash.to_owned(),
            end: now + SESSION_LIFETIME,
        };
        sessions.insert(self.mac(&id), session);
        Ok(id)
    }

    /// Returns the user of a session, and the password hash at the login; `None` if there is no such
    /// session, or it is over.
    pub(super) fn find(&self, id: &str, now: Instant) -> Option<(User, String)> {
        let sessions = self.lock();
        let session = sessions.get(&self.mac(id))?;
        (now < session.end).then(|| (session.user.clone(), session.hash.clone()))
    }

    /// Closes a session, if there is one.
    pub(super) fn close(&self, id: &str) {
        self.lock().remove(&self.mac(id));
    }

    /// Returns the token of the forms that are shown to a session.
    pub(super) fn form_token(&self, id: &str) -> String {
        hex::encode(hmac::sign(&self.key, &form_payload(id)))
    }

    /// Returns whether a token is that of the forms of a session.
    pub(super) fn is_form_token(&self, id: &str, token: &str) -> bool {
        let mac = hex::decode(token).unwrap_or_default();
        hmac::verify(&self.key, &form_payload(id), &mac).is_ok()
    }

    fn mac(&self, id: &str) -> SessionMac {
        let mut mac = SessionMac::default();
        let signed = hmac::sign(&self.key, format!("session {id}").as_bytes());
        mac.copy_from_slice(signed.as_ref());
        mac
    }
}

fn form_payload(id: &str) -> Vec<u8> {
    format!("form {id}").into_bytes()
}

/// Returns the session that ends first, of the user with the most: nobody can end those of others by
/// logging in again and again.
fn surplus_session(sessions: &HashMap<SessionMac, BrowserSession>) -> Option<SessionMac> {
    let mut counts = HashMap::<&str, usize>::new();
    for session in sessions.values() {
        *counts.entry(session.user.as_str()).or_default() += 1;
    }
    let count = |session: &BrowserSession| counts.get(session.user.as_str());
    let rank = |session: &BrowserSession| (Reverse(count(session)), session.end);
    let surplus = sessions.iter().min_by_key(|(_, session)| rank(session));
    surplus.map(|(mac, _)| *mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lasts_until_it_is_closed_or_over() {
        let (table, now) = (SessionTable::new().unwrap(), Instant::now());
        let alice = User("alice".into());
        let id = table.open(&alice, "hash", now).unwrap();
        let expected = Some((alice.clone(), "hash".to_owned()));
        assert_eq!(table.find(&id, now), expected);
        assert_eq!(table.find(&id, now + SESSION_LIFETIME), None);
        assert_eq!(table.find(&id[1..], now), None);
        assert_eq!(table.find("", now), None);
        table.close(&id);
        assert_eq!(table.find(&id, now), None);
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let (table, now) = (SessionTable::new().unwrap(), Instant::now());
        let alice = User("alice".into());
        let later = |number: usize| now + Duration::from_secs(number as u64);
        let bob = table.open(&User("bob".into()), "", now).unwrap();
        let open = |number| table.open(&alice, "", later(number)).unwrap();
        let ids: Vec<String> = (0..MAX_SESSIONS).map(open).collect();
        assert_eq!(table.find(&ids[0], now), None);
        assert!(ids[1..].iter().all(|id| table.find(id, now).is_some()));
        assert!(table.find(&bob, now).is_some(), "others stay logged in");
    }

    #[test]
    fn a_form_token_belongs_to_one_session() {
        let table = SessionTable::new().unwrap();
        let token = table.form_token("a");
        assert!(table.is_form_token("a", &token));
        assert!(!table.is_form_token("b", &token));
        assert!(!table.is_form_token("a", "") && !table.is_form_token("a", "zz"));
        assert_ne!(token, hex::encode(table.mac("a")));
    }
}
