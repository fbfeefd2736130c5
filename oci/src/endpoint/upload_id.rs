//! The id of an upload session.

/// The id of an upload session: a UUID in lower case with hyphens, which is safe in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(uuid::Uuid);

impl UploadId {
    /// Returns a new random id, which cannot be guessed.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4())
    }
}

impl std::str::FromStr for UploadId {
    type Err = crate::ParseError;

    fn from_str(text: &str) -> Result<Self, crate::ParseError> {
        let invalid = || crate::ParseError::new("upload session", text);
        let id = uuid::Uuid::try_parse(text).map_err(|_| invalid())?;
        // With several spellings, several paths would name one session.
        (id.hyphenated().to_string() == text)
            .then_some(Self(id))
            .ok_or_else(invalid)
    }
}

impl std::fmt::Display for UploadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}
