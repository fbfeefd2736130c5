//! The htpasswd format (Apache's, of which the stock registry reads the bcrypt lines): a user a
//! line, `name:hash`.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Beyond this one login takes many seconds; a line with more is a mistake, and whoever guesses
/// names would keep the server busy with it.
const MAX_BCRYPT_COST: u32 = 17;
const MIN_BCRYPT_COST: u32 = 4;
/// What an unknown user costs where the file has nobody to go by; what `htpasswd -B` writes.
const EMPTY_FILE_BCRYPT_COST: u32 = 5;
/// What follows the cost of a hash that no password is known for: salt and hash, all zeros.
const UNMATCHABLE_SALT_AND_HASH: &str = ".....................................................";

/// A bcrypt hash as it stands in the file, with salt and cost.
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

/// A line that does not count, and why. Says nothing of the line but a user's name.
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

/// What is computed to check a password: the same amount for everyone in a table, known or not, so
/// that time tells nobody who is in it.
#[derive(Debug)]
pub(super) struct PasswordCheck {
    /// The hash that decides; one that nothing matches where the user is unknown.
    pub(super) hash: String,
    /// What is computed besides where it did not match, for the time it takes.
    pub(super) padding: Vec<String>,
}

impl BcryptHash {
    fn parse(text: &str) -> Result<Self, String> {
        if !matches!(text.get(..4), Some("$2y$" | "$2a$" | "$2b$")) {
            return Err(format!(
                "{}; only bcrypt (htpasswd -B) counts",
                describe_hash_kind(text)
            ));
        }
        let text = canonical(text).unwrap_or_else(|| text.to_owned());
        let parts: bcrypt::HashParts = text
            .parse()
            .map_err(|_| "its bcrypt hash is damaged".to_owned())?;
        let cost = parts.get_cost();
        if !(MIN_BCRYPT_COST..=MAX_BCRYPT_COST).contains(&cost) {
            return Err(format!(
                "a bcrypt cost of {cost}; {MIN_BCRYPT_COST} to {MAX_BCRYPT_COST} count"
            ));
        }
        let text = text.into_boxed_str();
        Ok(Self { text, cost })
    }

    /// The hash as it stands in the file.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

impl HtpasswdTable {
    /// Reads a file's content, and says which lines do not count. Where a name stands twice the
    /// last counts, as for the stock registry.
    pub(super) fn parse(bytes: &[u8]) -> (Self, Vec<HtpasswdWarning>) {
        let (mut users, mut complaints) = (HashMap::new(), Vec::new());
        for (number, line) in lines(bytes) {
            let mut complain = |reason| {
                let line = number;
                complaints.push(HtpasswdWarning { line, reason });
            };
            let (name, hash) = match parse_line(line) {
                HtpasswdLine::Blank => continue,
                HtpasswdLine::Entry { name, hash } => (name, BcryptHash::parse(hash)),
                HtpasswdLine::Malformed => {
                    complain("is not of the form USER:HASH".to_owned());
                    continue;
                }
            };
            // A line that does not count must not leave an earlier one of the same user in force.
            if users.remove(name).is_some() {
                complain(format!(
                    "user {name:?} stands here again; the last line counts"
                ));
            }
            match hash {
                Ok(hash) => {
                    users.insert(name.into(), hash);
                }
                Err(reason) => complain(format!("user {name:?} cannot log in: {reason}")),
            }
        }
        let cost = users.values().map(|hash: &BcryptHash| hash.cost).max();
        let cost = cost.unwrap_or(EMPTY_FILE_BCRYPT_COST);
        (Self { users, cost }, complaints)
    }

    /// Whether nobody can log in.
    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// A user's hash.
    pub(super) fn get(&self, name: &str) -> Option<&BcryptHash> {
        self.users.get(name)
    }

    /// What to compute for a user with this hash, or without any.
    pub(super) fn password_check(&self, hash: Option<&BcryptHash>) -> PasswordCheck {
        let nothing = |cost| format!("$2b${cost:02}${UNMATCHABLE_SALT_AND_HASH}");
        match hash {
            // A cost one higher takes twice as long, so these add up to one of the highest cost.
            Some(hash) => PasswordCheck {
                hash: hash.as_str().to_owned(),
                padding: (hash.cost..self.cost).map(nothing).collect(),
            },
            None => PasswordCheck {
                hash: nothing(self.cost),
                padding: Vec::new(),
            },
        }
    }
}

/// What a line holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HtpasswdLine<'a> {
    /// A comment, or nothing.
    Blank,
    /// A user.
    Entry {
        /// Their name.
        name: &'a str,
        /// Whatever stands for their password.
        hash: &'a str,
    },
    /// Something else.
    Malformed,
}

/// The lines of a file with their numbers, without what ends them.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    (1..).zip(bytes.split(|byte| *byte == b'\n'))
}

/// Reads one line, with or without its end.
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
    // Apache ignores what follows a second colon.
    let hash = rest.split(':').next().unwrap_or(rest).trim_end();
    if name.is_empty() || hash.is_empty() {
        return HtpasswdLine::Malformed;
    }
    HtpasswdLine::Entry { name, hash }
}

/// The hash with the bits cleared that a salt's last letter has too many. Some writers leave them
/// set; the stock registry reads past them, and the bcrypt library does not.
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

/// What a hash is that is not bcrypt, as Apache's documentation calls it.
fn describe_hash_kind(hash: &str) -> &'static str {
    match hash {
        _ if hash.starts_with("$apr1$") => "an MD5 hash (htpasswd -m)",
        _ if hash.starts_with("{SHA}") => "a SHA-1 hash (htpasswd -s)",
        _ if hash.starts_with("$5$") => "a SHA-256 hash (htpasswd -2)",
        _ if hash.starts_with("$6$") => "a SHA-512 hash (htpasswd -5)",
        _ => "a hash of another kind, or a password as it is",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";

    fn warnings(text: &str) -> Vec<String> {
        let (_, complaints) = HtpasswdTable::parse(text.as_bytes());
        complaints.iter().map(HtpasswdWarning::to_string).collect()
    }

    #[test]
    fn users_comments_blank_lines_and_line_ends() {
        let text = format!(
            "\u{feff}# users\r\n\r\n  alice:{ALICE} \r\nbob:{}:Bob\n\n#carol:{ALICE}\ndora:{}",
            ALICE.replace("2y", "2a"),
            ALICE.replace("2y", "2b"),
        );
        let (table, complaints) = HtpasswdTable::parse(text.as_bytes());
        assert_eq!(complaints, []);
        for user in ["alice", "bob", "dora"] {
            assert_eq!(table.get(user).unwrap().as_str().len(), 60, "{user}");
        }
        assert!(table.get("carol").is_none() && table.get("Alice").is_none());
        assert!(HtpasswdTable::parse(b"").0.is_empty());
    }

    #[test]
    fn a_bad_line_is_named_and_spoils_no_other() {
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
            let said = warnings(&text);
            assert_eq!(said.len(), 1, "{line}");
            assert!(said[0].starts_with("line 2: "), "{said:?}");
            assert!(
                said[0].contains(words) && !said[0].contains(secret),
                "{said:?}"
            );
        }
        let (table, said) = HtpasswdTable::parse(b"\xff\xfe:x\n");
        assert!(table.is_empty() && said.len() == 1);
    }

    #[test]
    fn the_last_line_of_a_user_counts_also_when_nobody_can_log_in_with_it() {
        let text = format!("alice:{ALICE}\nalice:plain\n");
        assert!(HtpasswdTable::parse(text.as_bytes()).0.is_empty());
        assert_eq!(warnings(&text).len(), 2);
    }

    #[test]
    fn a_salt_with_bits_too_many_is_read() {
        let hash = bcrypt::hash_with_salt("secret", 4, [7; 16]).unwrap();
        let good = hash.to_string();
        // The same salt: of its last letter's six bits two count.
        let last = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let index = last.find(&good[28..29]).unwrap();
        let bad = format!(
            "{}{}{}",
            &good[..28],
            &last[index + 5..=index + 5],
            &good[29..]
        );
        assert!(bcrypt::verify("secret", &bad).is_err());
        let (table, complaints) = HtpasswdTable::parse(format!("alice:{bad}").as_bytes());
        assert_eq!(complaints, []);
        assert_eq!(table.get("alice").unwrap().as_str(), good);
    }

    #[test]
    fn everyone_costs_the_same() {
        let text = format!("alice:{ALICE}\nbob:{}\n", ALICE.replace("$05$", "$09$"));
        let (table, _) = HtpasswdTable::parse(text.as_bytes());
        let cost = |user| {
            let work = table.password_check(table.get(user));
            let all = std::iter::once(&work.hash).chain(&work.padding);
            all.map(|hash| 1 << hash.parse::<bcrypt::HashParts>().unwrap().get_cost())
                .sum::<u32>()
        };
        assert_eq!([cost("alice"), cost("bob"), cost("nobody")], [1 << 9; 3]);
    }
}
