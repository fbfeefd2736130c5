//! Fuzz targets: `Authorization` headers, tokens and htpasswd files.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::User;
use super::authorization::{Authorization, BasicCredentials};
use super::htpasswd::{HtpasswdTable, MAX_BCRYPT_COST, MIN_BCRYPT_COST};
use super::token::TokenSigner;

/// Accepted credentials are written as the header in which they came.
pub fn authorization(data: &[u8]) {
    let Some(parsed) = Authorization::parse(data) else {
        return;
    };
    let Ok(text) = std::str::from_utf8(data) else {
        panic!("accepted, but not UTF-8");
    };
    let Some((scheme, value)) = text.trim().split_once(' ') else {
        panic!("accepted without a scheme");
    };
    match parsed {
        Authorization::Bearer(token) => {
            assert!(scheme.eq_ignore_ascii_case("bearer"));
            assert_eq!(token, value.trim());
        }
        Authorization::Basic(BasicCredentials { user, password }) => {
            assert!(scheme.eq_ignore_ascii_case("basic"));
            assert!(!user.contains(':'));
            let login = [user.as_bytes(), b":", &password].concat();
            let encoded = STANDARD_NO_PAD.encode(login);
            assert_eq!(encoded, value.trim().trim_end_matches('='));
        }
    }
}

/// The time at which the tokens are verified.
const NOW_SECONDS: u64 = 1_700_000_000;

/// The signer of the tokens in the corpus.
static SIGNER: LazyLock<TokenSigner> = LazyLock::new(|| match TokenSigner::new(Some("fuzz")) {
    Ok(signer) => signer,
    Err(error) => panic!("{error}"),
});

/// Only tokens that the signer has issued are accepted, and all of them until they expire.
pub fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let now = UNIX_EPOCH + Duration::from_secs(NOW_SECONDS);
    if let Some(user) = SIGNER.verify(text, now, password_hash) {
        // Hex digits and numbers have several forms.
        let parts: Vec<&str> = text.split('.').collect();
        let [_, expiry, mac] = parts[..] else {
            panic!("accepted with {} parts", parts.len());
        };
        let seconds = expiry.parse().unwrap_or_default();
        assert!(seconds > NOW_SECONDS, "{seconds}");
        let issued = issue(user.as_ref().map_or("", User::as_str), seconds);
        assert_eq!(issued.rsplit('.').next(), Some(&*mac.to_ascii_lowercase()));
    }
    // The input as the name of a user.
    let (name, expiry) = (text.trim(), NOW_SECONDS + data.len() as u64);
    let user = (!name.is_empty()).then(|| User(name.into()));
    let accepted = (password_hash(name).is_some() || name.is_empty()) && expiry > NOW_SECONDS;
    let verified = SIGNER.verify(&issue(name, expiry), now, password_hash);
    assert_eq!(verified, accepted.then_some(user));
}

/// Issues a token that ends at a time in seconds.
fn issue(name: &str, expiry: u64) -> String {
    let user = (!name.is_empty()).then(|| User(name.into()));
    let end = UNIX_EPOCH.checked_add(Duration::from_secs(expiry));
    let hash = password_hash(name).unwrap_or_default();
    SIGNER.sign(user.as_ref(), end.unwrap_or(SystemTime::UNIX_EPOCH), hash)
}

/// Returns the hash of a user: those whose names begin with a letter exist.
fn password_hash(name: &str) -> Option<&'static str> {
    name.starts_with(char::is_alphabetic)
        .then_some("$2y$05$hash")
}

/// Every user has a valid hash, which is in the file.
pub fn htpasswd(data: &[u8]) {
    let (table, _) = HtpasswdTable::parse(data);
    let lines = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let lines = lines.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let names = lines.filter_map(|line| Some(std::str::from_utf8(line).ok()?.split_once(':')?.0));
    let mut users = 0;
    for name in names {
        let Some(hash) = table.get(name) else {
            continue;
        };
        users += 1;
        let fields: Vec<&str> = hash.as_str().split('$').collect();
        let ["", "2a" | "2b" | "2y", cost, salt_and_hash] = fields[..] else {
            panic!("{hash:?}");
        };
        let cost: u32 = cost.parse().unwrap_or_default();
        assert!((MIN_BCRYPT_COST..=MAX_BCRYPT_COST).contains(&cost));
        assert_eq!(salt_and_hash.len(), 53, "{hash:?}");
        assert!(table.password_check(Some(hash)).padding.len() < 32);
        // All but the last character of the salt is kept as it is.
        let kept = &salt_and_hash.as_bytes()[..21];
        assert!(data.windows(kept.len()).any(|window| window == kept));
    }
    assert_eq!(users == 0, table.is_empty());
}
