//! Work that is shown while it runs, and ends by itself when it is dropped.

use std::io::{self, Read};
use std::sync::Arc;

use super::Report;

/// Work other than the transfer of a blob, for example the compression of a layer.
pub struct ProgressTask {
    report: Arc<dyn Report>,
    id: u64,
}

impl ProgressTask {
    /// Shows that work has started. `text` is a participle with its object, and `size` the number of
    /// bytes to process, if it is known.
    pub fn start(report: &Arc<dyn Report>, text: &str, size: Option<u64>) -> Self {
        Self {
            report: Arc::clone(report),
            id: report.start_task(text, size),
        }
    }

    /// Shows how many bytes are processed.
    pub fn set_position(&self, position: u64) {
        self.report.update_task(self.id, position);
    }
}

impl Drop for ProgressTask {
    fn drop(&mut self) {
        self.report.finish_task(self.id);
    }
}

/// Reads bytes, and shows how many were read.
pub struct TaskReader<R> {
    reader: R,
    task: ProgressTask,
    position: u64,
}

impl<R> TaskReader<R> {
    /// Creates a reader that ends the task when it is dropped.
    pub fn new(reader: R, task: ProgressTask) -> Self {
        Self {
            reader,
            task,
            position: 0,
        }
    }
}

impl<R: Read> Read for TaskReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(buffer)?;
        self.position += len as u64;
        self.task.set_position(self.position);
        Ok(len)
    }
}
