//! Digests of content, and the hashers that compute them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256, Sha512};

use crate::ParseError;

/// A registered digest algorithm (OCI image-spec, descriptor, "Registered Algorithms").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 64 hex characters; in practice the only one in use.
    Sha256,
    /// SHA-512, 128 hex characters.
    Sha512,
}

impl Algorithm {
    /// Returns the name of the algorithm, the part of a digest before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl FromStr for Algorithm {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            other => Err(ParseError::new("digest algorithm", other)),
        }
    }
}

/// A valid digest: a known algorithm, and lower-case hex of the right length.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl Digest {
    /// Returns the SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_with(Algorithm::Sha256, bytes)
    }

    /// Returns the digest of `bytes` with `algorithm`.
    pub fn of_with(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns the digest with this hex part.
    ///
    /// # Errors
    /// If `hex` has the wrong length, or is not lower-case hex.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Result<Self, ParseError> {
        let lower_hex = |b: u8| b.is_ascii_digit() | (b'a'..=b'f').contains(&b);
        // Without an early end, so that the compiler can check many bytes at a time.
        let is_hex = hex.bytes().fold(true, |is_hex, b| is_hex & lower_hex(b));
        if hex.len() != algorithm.hex_len() || !is_hex {
            return Err(ParseError::new("digest", hex));
        }
        Ok(Self {
            algorithm,
            hex: hex.into(),
        })
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the hex part, without the algorithm and the colon.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Returns the first twelve hex characters, for messages.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (algorithm, hex) = text
            .split_once(':')
            .ok_or_else(|| ParseError::new("digest", text))?;
        let digest = Self::from_hex(algorithm.parse()?, hex);
        digest.map_err(|_| ParseError::new("digest", text))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Computes a digest. The state can be saved to disk and restored by a later process.
#[derive(Clone)]
pub struct Hasher(HasherState);

#[derive(Clone)]
enum HasherState {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Returns a hasher of no bytes yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => HasherState::Sha256(Sha256::new()),
            Algorithm::Sha512 => HasherState::Sha512(Sha512::new()),
        })
    }

    /// Returns the algorithm of the digest.
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            HasherState::Sha256(_) => Algorithm::Sha256,
            HasherState::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Hashes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            HasherState::Sha256(state) => state.update(bytes),
            HasherState::Sha512(state) => state.update(bytes),
        }
    }

    /// Returns the digest of all bytes.
    pub fn finish(self) -> Digest {
        match self.0 {
            HasherState::Sha256(state) => Digest {
                algorithm: Algorithm::Sha256,
                hex: hex::encode(state.finalize()).into(),
            },
            HasherState::Sha512(state) => Digest {
                algorithm: Algorithm::Sha512,
                hex: hex::encode(state.finalize()).into(),
            },
        }
    }

    /// Serializes the state, for [`Hasher::resume`]. Only the same major version of the hash library
    /// can restore the state, so the hashed bytes must be kept as well.
    pub fn state(&self) -> Vec<u8> {
        match &self.0 {
            HasherState::Sha256(state) => state.serialize().to_vec(),
            HasherState::Sha512(state) => state.serialize().to_vec(),
        }
    }

    /// Restores a serialized state; `None` if the bytes are no such state.
    pub fn resume(algorithm: Algorithm, state: &[u8]) -> Option<Self> {
        Some(Self(match algorithm {
            Algorithm::Sha256 => {
                HasherState::Sha256(Sha256::deserialize(state.try_into().ok()?).ok()?)
            }
            Algorithm::Sha512 => {
                HasherState::Sha512(Sha512::deserialize(state.try_into().ok()?).ok()?)
            }
        }))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_is_parsed_and_formatted_alike() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(digest, Digest::of(b""));
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(digest.short(), "e3b0c44298fc");
    }

    #[test]
    fn invalid_digests_are_rejected() {
        let upper = EMPTY.to_uppercase();
        for text in [
            "",
            "sha256",
            "sha256:",
            "md5:00",
            "sha256:../../x",
            &upper,
            &EMPTY[..70],
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(
            format!("sha512:{}", "0".repeat(64))
                .parse::<Digest>()
                .is_err()
        );
    }

    #[test]
    fn a_saved_state_is_restored() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(&[7; 1001]);
            let mut later = Hasher::resume(algorithm, &hasher.state()).unwrap();
            later.update(&[8; 77]);
            let whole = [vec![7; 1001], vec![8; 77]].concat();
            assert_eq!(later.finish(), Digest::of_with(algorithm, &whole));
            assert!(Hasher::resume(algorithm, b"not a state").is_none());
        }
    }
}
