//! The systems that the tool runs on, as far as they differ in names and folders.

/// A kind of system. Functions that depend on it take it as an argument, so that all of them are
/// tested everywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum System {
    /// Linux and other systems with its folders.
    #[default]
    Unix,
    /// macOS.
    MacOs,
    /// Windows.
    Windows,
}

impl System {
    /// The system of this program.
    pub(crate) const CURRENT: Self = if cfg!(windows) {
        Self::Windows
    } else if cfg!(target_os = "macos") {
        Self::MacOs
    } else {
        Self::Unix
    };

    /// Returns the variable that names the user's home folder.
    pub(crate) fn home_variable(self) -> &'static str {
        match self {
            Self::Unix | Self::MacOs => "HOME",
            Self::Windows => "USERPROFILE",
        }
    }
}
