//! Derived logs: derived files of lines to which lines are appended.
//!
//! Appended lines are not durable until the file is synced. A power cut can lose lines or leave
//! damaged ones, so a line must be recognizable as damaged, and what it says must be computable
//! again. Start reading at [`Store::append_to_log`].

use std::io::BufRead as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::disk::DiskFile;
use super::error::{IoContext, Result};
use super::{DerivedLogKey, Store};

/// How many bytes of a compacted log are written at a time.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;
/// How much of a log is read at a time.
const READ_BUFFER_BYTES: usize = 128 * 1024;
/// Longer lines count as damaged.
pub(crate) const MAX_LOG_LINE_BYTES: usize = 16 * 1024;

/// Lets one thread at a time append to a log or replace one.
#[derive(Default)]
pub(super) struct LogWriteLock(Mutex<()>);

impl LogWriteLock {
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Appends complete lines to a log, which is created if it is missing. Not durably.
    ///
    /// # Errors
    /// The errors of the disk. A part of the lines may have been appended.
    pub(crate) fn append_to_log(&self, key: DerivedLogKey<'_>, lines: &str) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let path = self.paths.derived_log(key);
        let _lock = self.log_write_lock.lock();
        let file = match self.disk.open(&path)? {
            Some(file) => file,
            None => {
                self.folders
                    .ensure_unsynced(path.parent().unwrap_or(&path))?;
                self.disk.create(&path).context("create", &path)?
            }
        };
        append_lines(&file, lines)
    }

    /// Returns the length of a log in bytes.
    pub(crate) fn log_len(&self, key: DerivedLogKey<'_>) -> Result<u64> {
        let len = self.disk.len(&self.paths.derived_log(key))?;
        Ok(len.unwrap_or_default())
    }

    /// Makes the lines of a log durable.
    pub(crate) fn sync_log(&self, key: DerivedLogKey<'_>) -> Result<()> {
        let path = self.paths.derived_log(key);
        match self.disk.open(&path)? {
            Some(file) => file.sync().context("sync", &path),
            None => Ok(()),
        }
    }

    /// Replaces a log by the lines for which `is_kept` is true. The new log is durable.
    pub(crate) fn compact_log(
        &self,
        key: DerivedLogKey<'_>,
        is_kept: &mut dyn FnMut(&str) -> bool,
    ) -> Result<()> {
        self.filter_lines(&self.paths.derived_log(key), is_kept)
    }

    /// Replaces a file by those of its lines for which `is_kept` is true. The new file is durable.
    pub(super) fn filter_lines(
        &self,
        path: &Path,
        is_kept: &mut dyn FnMut(&str) -> bool,
    ) -> Result<()> {
        let _lock = self.log_write_lock.lock();
        let temporary = self.temporary_path();
        let written = self.write_kept_lines(path, &temporary, is_kept);
        let moved = written.and_then(|()| self.rename_durably(&temporary, path));
        moved.inspect_err(|_| self.discard_file(&temporary))
    }

    /// Writes the lines of a file for which `is_kept` is true to a new file, durably.
    fn write_kept_lines(
        &self,
        from: &Path,
        path: &Path,
        is_kept: &mut dyn FnMut(&str) -> bool,
    ) -> Result<()> {
        let file = self.disk.create(path).context("create", path)?;
        let (mut offset, mut lines) = (0, String::new());
        let mut write = |lines: &mut String, min_bytes: usize| -> Result<()> {
            if lines.len() >= min_bytes {
                file.write(offset, lines.as_bytes())
                    .context("write", path)?;
                offset += lines.len() as u64;
                lines.clear();
            }
            Ok(())
        };
        self.visit_lines(from, &mut |line| {
            if is_kept(line) {
                lines.push_str(line);
                lines.push('\n');
            }
            write(&mut lines, WRITE_BUFFER_BYTES).map(ControlFlow::Continue)
        })?;
        write(&mut lines, 0)?;
        file.sync().context("sync", path)
    }

    /// Calls `visit` with each line of a log, in order. Leaves out lines that are too long, not
    /// UTF-8 or not complete.
    ///
    /// # Errors
    /// The errors of the disk and of `visit`.
    pub(crate) fn for_each_log_line(
        &self,
        key: DerivedLogKey<'_>,
        visit: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        self.visit_log_lines(key, &mut |line| visit(line).map(ControlFlow::Continue))
    }

    /// Calls `visit` as [`Store::for_each_log_line`] does, until it breaks.
    ///
    /// # Errors
    /// The errors of the disk and of `visit`.
    pub(crate) fn visit_log_lines(
        &self,
        key: DerivedLogKey<'_>,
        visit: &mut dyn FnMut(&str) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.visit_lines(&self.paths.derived_log(key), visit)
    }

    /// Calls `visit` with the lines of a file, as [`Store::visit_log_lines`] does.
    pub(super) fn visit_lines(
        &self,
        path: &Path,
        visit: &mut dyn FnMut(&str) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let Some(file) = self.disk.open_to_read(path)? else {
            return Ok(());
        };
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        // The part of a line that was read is at the start of the buffer.
        let (mut offset, mut filled, mut is_skipping) = (0, 0, false);
        loop {
            let read = file.read_into(offset, &mut buffer[filled..]);
            let read = read.context("read", path)?;
            if read == 0 {
                return Ok(());
            }
            offset += read as u64;
            let mut rest = &buffer[..filled + read];
            while let Some(line) = take_line(&mut rest) {
                let is_whole = !std::mem::take(&mut is_skipping);
                if is_whole
                    && line.len() <= MAX_LOG_LINE_BYTES
                    && let Ok(line) = std::str::from_utf8(line)
                    && visit(line)?.is_break()
                {
                    return Ok(());
                }
            }
            let (start, len) = (filled + read - rest.len(), rest.len());
            buffer.copy_within(start..start + len, 0);
            filled = len;
            if filled > MAX_LOG_LINE_BYTES {
                (filled, is_skipping) = (0, true);
            }
        }
    }

    /// Returns the last line of a log, if it is complete and at most `limit` bytes long.
    pub(crate) fn last_log_line(
        &self,
        key: DerivedLogKey<'_>,
        limit: usize,
    ) -> Result<Option<String>> {
        let path = self.paths.derived_log(key);
        let Some(file) = self.disk.open_to_read(&path)? else {
            return Ok(None);
        };
        let (size, len) = (file.len()?, limit as u64 + 2);
        let tail = file.read(size.saturating_sub(len), limit + 2);
        let tail = tail.context("read", &path)?;
        let tail = String::from_utf8_lossy(&tail);
        let Some(tail) = tail.strip_suffix('\n') else {
            return Ok(None);
        };
        Ok(match tail.rsplit_once('\n') {
            Some((_, line)) => Some(line.to_owned()),
            // The log has one line, or a longer one than the limit.
            None => (size < len).then(|| tail.to_owned()),
        })
    }
}

/// Appends complete lines to a file. Not durably.
pub(super) fn append_lines(file: &DiskFile, lines: &str) -> Result<()> {
    let (path, len) = (file.path(), file.len()?);
    // The last write may have failed, or a power cut may have cut it off.
    let is_line_open = len > 0 && file.read(len - 1, 1).context("read", path)? != b"\n";
    let bytes = [if is_line_open { "\n" } else { "" }, lines].concat();
    file.write(len, bytes.as_bytes()).context("write", path)
}

/// Takes the first line, without its end; `None` if there is no complete line.
fn take_line<'a>(text: &mut &'a [u8]) -> Option<&'a [u8]> {
    let start = *text;
    let len = text.skip_until(b'\n').ok()?;
    let line = start[..len].strip_suffix(b"\n");
    if line.is_none() {
        *text = start;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgsync_oci::Repository;

    #[test]
    fn complete_lines_are_read_and_damaged_ones_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let repository: Repository = "a/b".parse().unwrap();
        let key = DerivedLogKey::Manifests(&repository);
        let lines = || {
            let mut lines = Vec::new();
            let mut visit = |line: &str| {
                lines.push(line.chars().take(9).collect::<String>());
                Ok(())
            };
            store.for_each_log_line(key, &mut visit).unwrap();
            lines
        };
        assert_eq!(lines(), [""; 0]);
        assert_eq!(store.last_log_line(key, 9).unwrap(), None);
        store.append_to_log(key, "one\n").unwrap();
        assert_eq!(store.last_log_line(key, 9).unwrap().unwrap(), "one");
        // A write that was cut off.
        store.append_to_log(key, "tw").unwrap();
        assert_eq!(lines(), ["one"]);
        assert_eq!(store.last_log_line(key, 9).unwrap(), None);
        let long = format!("three\n{}\nfour\n", "x".repeat(MAX_LOG_LINE_BYTES + 1));
        store.append_to_log(key, &long).unwrap();
        assert_eq!(lines(), ["one", "tw", "three", "four"]);
        let many: String = (0..9999).map(|number| format!("{number:0999}\n")).collect();
        store
            .append_to_log(key, &format!("{}\n{many}last\n", "y".repeat(999_999)))
            .unwrap();
        assert_eq!(lines().len(), 4 + 9999 + 1);
        assert_eq!(store.last_log_line(key, 9).unwrap().unwrap(), "last");
        assert_eq!(store.last_log_line(key, 3).unwrap(), None);
        store
            .compact_log(key, &mut |line| line.starts_with('t'))
            .unwrap();
        assert_eq!(lines(), ["tw", "three"]);
        store.append_to_log(key, "five\n").unwrap();
        assert_eq!(lines(), ["tw", "three", "five"]);
    }
}
