//! Parses the htpasswd format of Apache: one user per line, `name:hash`. As with the stock
//! registry, only bcrypt hashes are accepted.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The highest bcrypt cost that is accepted. Beyond it one check takes many seconds, and logins
/// with guessed names would keep the server busy.
pub(super) const MAX_BCRYPT_COST: u32 = 17;
/// The highest bcrypt cost without a warning: about a quarter of a second for each check.
const MAX_QUICK_BCRYPT_COST: u32 = 12;
/// The lowest bcrypt cost that the format has.
pub(super) const MIN_BCRYPT_COST: u32 = 4;
/// The bcrypt cost of checking an unknown user if the file has no users: the default of
/// `htpasswd -B`.
const EMPTY_FILE_BCRYPT_COST: u32 = 5;
/// The salt and hash, all zeros, of a bcrypt hash that no known password matches.
const UNMATCHABLE_SALT_AND_HASH: &str = ".....................................................";

/// A bcrypt hash with its version, cost and salt.
#[derive(Debug, Clone)]
pub(super) struct BcryptHash {
    text: Box<str>,
    cost: u32,
}

/// The users of a file.
#[derive(Debug, Default)]
pub(super) struct HtpasswdTable {
    users: HashMap<Box<str>, BcryptHash>,
    cost: u32,
}

/// A fault in a line of the file, which is ignored in most cases. It contains the name of the user, but nothing else of the
/// line, which may hold a password.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HtpasswdWarning {
    line: usize,
    reason: String,
}

impl fmt::Display for HtpasswdWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// The computation that checks a password. Its cost is the same for every name, known or unknown,
/// so that the time of a response does not reveal whether a user exists.
#[derive(Debug)]
pub(super) struct PasswordCheck {
    /// The hash to compare with; for an unknown user, one that no password matches.
    pub(super) hash: String,
    /// The hashes that are computed after a mismatch, only for the time that they take.
    pub(super) padding: Vec<String>,
}

impl BcryptHash {
    fn parse(text: &str) -> Result<Self, String> {
        if !matches!(text.get(..4), Some("$2y$" | "$2a$" | "$2b$")) {
            return Err(format!(
                "{}; only bcrypt (htpasswd -B) is supported",
                describe_hash_kind(text)
            ));
        }
        let text = canonical(text).unwrap_or_else(|| text.to_owned());
        let parts: bcrypt::HashParts = text
            .parse()
            .map_err(|_| "the bcrypt hash is damaged".to_owned())?;
        let cost = parts.get_cost();
        if !(MIN_BCRYPT_COST..=MAX_BCRYPT_COST).contains(&cost) {
            return Err(format!(
                "a bcrypt cost of {cost}; {MIN_BCRYPT_COST} to {MAX_BCRYPT_COST} are supported"
            ));
        }
        let text = text.into_boxed_str();
        Ok(Self { text, cost })
    }

    /// Returns the hash in its text form.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

impl HtpasswdTable {
    /// Parses the content of a file, and returns a warning for each line that is ignored, and one
    /// if checks are slow. If a name has several lines the last one wins, as with the stock
    /// registry.
    pub(super) fn parse(bytes: &[u8]) -> (Self, Vec<HtpasswdWarning>) {
        let (mut users, mut warnings) = (HashMap::new(), Vec::new());
        let mut slowest: Option<(usize, &str, u32)> = None;
        for (number, line) in lines(bytes) {
            let mut warn = |reason| {
                warnings.push(HtpasswdWarning {
                    line: number,
                    reason,
                });
            };
            let (name, hash) = match parse_line(line) {
                HtpasswdLine::Blank => continue,
                HtpasswdLine::Entry { name, hash } => (name, BcryptHash::parse(hash)),
                HtpasswdLine::Malformed => {
                    warn("expected USER:HASH".to_owned());
                    continue;
                }
            };
            // An invalid line must not leave an earlier line of the same user valid.
            if users.remove(name).is_some() {
                warn(format!("user {name:?} is listed again; the last line wins"));
            }
            match hash {
                Ok(hash) => {
                    if slowest.is_none_or(|(_, _, cost)| hash.cost > cost) {
                        slowest = Some((number, name, hash.cost));
                    }
                    users.insert(name.into(), hash);
                }
                Err(reason) => warn(format!("user {name:?} cannot log in: {reason}")),
            }
        }
        warnings
            .extend(slowest.and_then(|(line, name, cost)| slow_check_warning(line, name, cost)));
        let cost = users.values().map(|hash: &BcryptHash| hash.cost).max();
        let cost = cost.unwrap_or(EMPTY_FILE_BCRYPT_COST);
        (Self { users, cost }, warnings)
    }

    /// Returns whether there are no users.
    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Returns the hash of a user.
    pub(super) fn get(&self, name: &str) -> Option<&BcryptHash> {
        self.users.get(name)
    }

    /// Returns the check for a user with this hash, or for an unknown user.
    pub(super) fn password_check(&self, hash: Option<&BcryptHash>) -> PasswordCheck {
        let unmatchable = |cost| format!("$2b${cost:02}${UNMATCHABLE_SALT_AND_HASH}");
        match hash {
            // Each cost takes twice as long as the one below, so a hash of cost n and padding of
            // the costs n to max-1 take as long as one hash of cost max.
            Some(hash) => PasswordCheck {
                hash: hash.as_str().to_owned(),
                padding: (hash.cost..self.cost).map(unmatchable).collect(),
            },
            None => PasswordCheck {
                hash: unmatchable(self.cost),
                padding: Vec::new(),
            },
        }
    }
}

/// Returns the warning about the line with the highest bcrypt cost, if that is high. The check of any
/// name takes as long as that of this one.
fn slow_check_warning(line: usize, name: &str, cost: u32) -> Option<HtpasswdWarning> {
    let factor = 1_u32
        << cost
            .checked_sub(MAX_QUICK_BCRYPT_COST)
            .filter(|more| *more > 0)?;
    let reason = format!(
        "the bcrypt cost of user {name:?} is {cost}: each check of a password, also of a wrong one, \
         takes {factor} times as long as with {MAX_QUICK_BCRYPT_COST}, so a few wrong logins delay \
         all others; set the password again with a cost of {MAX_QUICK_BCRYPT_COST} or less"
    );
    Some(HtpasswdWarning { line, reason })
}

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HtpasswdLine<'a> {
    /// An empty line or a comment.
    Blank,
    /// A user.
    Entry {
        /// The name.
        name: &'a str,
        /// The hash of the password, of any kind.
        hash: &'a str,
    },
    /// Any other line.
    Malformed,
}

/// Returns the lines of a file with their numbers from 1, without a byte order mark.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    (1..).zip(bytes.split(|byte| *byte == b'\n'))
}

/// Parses one line, with or without its line break.
pub(super) fn parse_line(line: &[u8]) -> HtpasswdLine<'_> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return HtpasswdLine::Blank;
    }
    let Some((name, rest)) = std::str::from_utf8(line)
        .ok()
        .and_then(|line| line.split_once(':'))
    else {
        return HtpasswdLine::Malformed;
    };
    // Apache ignores the text after a second colon.
    let hash = rest.split(':').next().unwrap_or(rest).trim_end();
    if name.is_empty() || hash.is_empty() {
        return HtpasswdLine::Malformed;
    }
    HtpasswdLine::Entry { name, hash }
}

/// Clears the unused bits in the last character of the salt. Some programs leave them set; the
/// stock registry ignores them, and the bcrypt library rejects them.
fn canonical(text: &str) -> Option<String> {
    const BASE64_TRAILING_BITS_ALLOWED: GeneralPurpose = GeneralPurpose::new(
        &alphabet::BCRYPT,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_encode_padding(false)
            .with_decode_padding_mode(DecodePaddingMode::RequireNone),
    );
    let (settings, rest) = text.split_at_checked(7)?;
    let (salt, hash) = rest.split_at_checked(22)?;
    let salt = BASE64_TRAILING_BITS_ALLOWED.encode(BASE64_TRAILING_BITS_ALLOWED.decode(salt).ok()?);
    Some(format!("{settings}{salt}{hash}"))
}

/// Names the kind of a hash that is not bcrypt, in the words of Apache's documentation.
fn describe_hash_kind(hash: &str) -> &'static str {
    match hash {
        _ if hash.starts_with("$apr1$") => "an MD5 hash (htpasswd -m)",
        _ if hash.starts_with("{SHA}") => "a SHA-1 hash (htpasswd -s)",
        _ if hash.starts_with("$5$") => "a SHA-256 hash (htpasswd -2)",
        _ if hash.starts_with("$6$") => "a SHA-512 hash (htpasswd -5)",
        _ => "a hash of an unknown kind, or a plain text password",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";

    fn warnings(text: &str) -> Vec<String> {
        let (_, warnings) = HtpasswdTable::parse(text.as_bytes());
        warnings.iter().map(HtpasswdWarning::to_string).collect()
    }

    #[test]
    fn users_comments_blank_lines_and_line_ends() {
        let text = format!(
            "\u{feff}# users\r\n\r\n  alice:{ALICE} \r\nbob:{}:Bob\n\n#carol:{ALICE}\ndora:{}",
            ALICE.replace("2y", "2a"),
            ALICE.replace("2y", "2b"),
        );
        let (table, warnings) = HtpasswdTable::parse(text.as_bytes());
        assert_eq!(warnings, []);
        for user in ["alice", "bob", "dora"] {
            assert_eq!(table.get(user).unwrap().as_str().len(), 60, "{user}");
        }
        assert!(table.get("carol").is_none() && table.get("Alice").is_none());
        assert!(HtpasswdTable::parse(b"").0.is_empty());
    }

    #[test]
    fn an_invalid_line_is_reported_and_affects_no_other() {
        let secret = "hunter2";
        for (line, words) in [
            (format!("bob:{secret}"), "\"bob\" cannot log in"),
            ("bob:$apr1$x$hunter2".to_owned(), "MD5"),
            ("bob:{SHA}hunter2".to_owned(), "SHA-1"),
            ("bob:$6$hunter2".to_owned(), "SHA-512"),
            ("bob:$2y$05$hunter2".to_owned(), "damaged"),
            (
                format!("bob:{}", ALICE.replace("$05$", "$31$")),
                "cost of 31",
            ),
            (format!("bob:{}", ALICE.replace("$05$", "$ü$")), "damaged"),
            (secret.to_owned(), "USER:HASH"),
            (format!(":{secret}"), "USER:HASH"),
            ("bob:".to_owned(), "USER:HASH"),
            (format!("alice:{ALICE}"), "again"),
        ] {
            let text = format!("alice:{ALICE}\n{line}\ncarol:{ALICE}\n");
            let (table, _) = HtpasswdTable::parse(text.as_bytes());
            assert!(table.get("alice").is_some() && table.get("carol").is_some());
            assert!(table.get("bob").is_none(), "{line}");
            let warnings = warnings(&text);
            assert_eq!(warnings.len(), 1, "{line}");
            assert!(warnings[0].starts_with("line 2: "), "{warnings:?}");
            assert!(
                warnings[0].contains(words) && !warnings[0].contains(secret),
                "{warnings:?}"
            );
        }
        let (table, warnings) = HtpasswdTable::parse(b"\xff\xfe:x\n");
        assert!(table.is_empty() && warnings.len() == 1);
    }

    #[test]
    fn the_last_line_of_a_user_wins_even_if_it_is_invalid() {
        let text = format!("alice:{ALICE}\nalice:plain\n");
        assert!(HtpasswdTable::parse(text.as_bytes()).0.is_empty());
        assert_eq!(warnings(&text).len(), 2);
    }

    #[test]
    fn a_high_cost_is_accepted_with_one_warning() {
        let line = |name: &str, cost: &str| format!("{name}:{}\n", ALICE.replace("$05$", cost));
        assert_eq!(warnings(&line("alice", "$12$")), [""; 0]);
        let text = [
            line("alice", "$13$"),
            line("bob", "$15$"),
            line("carol", "$14$"),
        ]
        .concat();
        let (table, _) = HtpasswdTable::parse(text.as_bytes());
        assert!(
            ["alice", "bob", "carol"]
                .iter()
                .all(|name| table.get(name).is_some())
        );
        let warnings = warnings(&text);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let expected = "line 2: the bcrypt cost of user \"bob\" is 15";
        assert!(warnings[0].starts_with(expected), "{warnings:?}");
        assert!(warnings[0].contains("8 times"), "{warnings:?}");
    }

    #[test]
    fn a_salt_with_unused_bits_set_is_accepted() {
        let hash = bcrypt::hash_with_salt("secret", 4, [7; 16]).unwrap();
        let good = hash.to_string();
        // Only two of the six bits of the last character belong to the salt.
        let characters = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let index = characters.find(&good[28..29]).unwrap();
        let bad = format!(
            "{}{}{}",
            &good[..28],
            &characters[index + 5..=index + 5],
            &good[29..]
        );
        assert!(bcrypt::verify("secret", &bad).is_err());
        let (table, warnings) = HtpasswdTable::parse(format!("alice:{bad}").as_bytes());
        assert_eq!(warnings, []);
        assert_eq!(table.get("alice").unwrap().as_str(), good);
    }

    #[test]
    fn a_check_costs_the_same_for_every_name() {
        let text = format!("alice:{ALICE}\nbob:{}\n", ALICE.replace("$05$", "$09$"));
        let (table, _) = HtpasswdTable::parse(text.as_bytes());
        let cost = |user| {
            let check = table.password_check(table.get(user));
            let hashes = std::iter::once(&check.hash).chain(&check.padding);
            hashes
                .map(|hash| 1 << hash.parse::<bcrypt::HashParts>().unwrap().get_cost())
                .sum::<u32>()
        };
        assert_eq!([cost("alice"), cost("bob"), cost("nobody")], [1 << 9; 3]);
    }
}
