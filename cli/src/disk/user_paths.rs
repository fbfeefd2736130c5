//! Paths that environment variables name.

use std::path::PathBuf;

/// Returns the path in an environment variable; `None` if the variable is not set or empty.
pub(crate) fn env_path(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// Returns the user's home folder.
pub(crate) fn home() -> Option<PathBuf> {
    env_path("HOME")
}

/// Returns the folder in an environment variable if the path is absolute (XDG Base Directory
/// Specification, "Basics"), else the folder at the path `below_home` in the home folder.
pub(crate) fn xdg_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let folder = env_path(variable).filter(|path| path.is_absolute());
    folder.or_else(|| Some(home()?.join(below_home)))
}
