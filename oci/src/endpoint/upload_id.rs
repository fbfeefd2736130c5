//! The name of an upload session.

/// Identifies an upload session; always a UUID, so that it is safe in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(uuid::Uuid);

impl UploadId {
    /// A new one, not to be guessed: it comes from the system's random generator.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4())
    }
}

impl std::str::FromStr for UploadId {
    type Err = crate::ParseError;

    fn from_str(text: &str) -> Result<Self, crate::ParseError> {
        let invalid = || crate::ParseError::new("upload session", text);
        let id = uuid::Uuid::try_parse(text).map_err(|_| invalid())?;
        // One spelling only, or two paths would name one session.
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
