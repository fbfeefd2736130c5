//! One small file an entry, so that concurrent runs never disturb each other. It is replaced as a
//! whole, and its date tells when it was last of use.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::SystemTime;

/// What stands in an entry, of which at most `longest` bytes are read; `None` where there is none,
/// or it is no text.
pub fn read(path: &Path, longest: u64) -> Option<String> {
    let file = File::open(path).ok()?;
    // Without a fresh date it is forgotten too soon, and found out again.
    let _ = file.set_modified(SystemTime::now());
    let mut text = String::new();
    file.take(longest).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Writes an entry. A disk that cannot keep it costs a later run time and nothing else, so there is
/// no error.
pub fn write(path: &Path, text: &str) {
    let Some(folder) = path.parent() else { return };
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    let _ = write();
}
