//! Finds the end of a deflate stream.

use flate2::{Decompress, FlushDecompress, Status};

/// The most bytes to which a member is inflated, and the cost of one that fails.
const MAX_INFLATED_BYTES: u64 = 256 * 1024 * 1024;
const OUTPUT_BYTES: usize = 64 * 1024;

/// Inflates a member of a zip file and drops the output.
pub(in crate::delta) struct MemberInflater {
    inflate: Decompress,
    output: Vec<u8>,
    limit: u64,
    is_finished: bool,
}

/// The result for some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::delta) enum Inflated {
    /// All bytes belong to the member.
    All,
    /// The member ends after `len` bytes.
    End { len: usize },
    /// This is no deflate stream, or a too large one.
    Failed,
}

impl MemberInflater {
    /// Returns an inflater for a member of at most `limit` bytes.
    pub(in crate::delta) fn new(limit: u64) -> Self {
        Self {
            inflate: Decompress::new(false),
            output: vec![0; OUTPUT_BYTES],
            limit: limit.min(MAX_INFLATED_BYTES),
            is_finished: false,
        }
    }

    pub(in crate::delta) fn advance(&mut self, bytes: &[u8]) -> Inflated {
        let start = self.inflate.total_in();
        loop {
            let len = (self.inflate.total_in() - start) as usize;
            let (before, rest) = (self.inflate.total_out(), &bytes[len..]);
            let flush = FlushDecompress::None;
            let status = self.inflate.decompress(rest, &mut self.output, flush);
            let consumed = (self.inflate.total_in() - start) as usize;
            if self.inflate.total_out() > self.limit {
                return Inflated::Failed;
            }
            match status {
                Ok(Status::StreamEnd) => {
                    self.is_finished = true;
                    return Inflated::End { len: consumed };
                }
                Err(_) => return Inflated::Failed,
                Ok(Status::Ok | Status::BufError) => {}
            }
            let has_progress = consumed > len || self.inflate.total_out() > before;
            if !has_progress {
                let is_all = consumed == bytes.len();
                return if is_all {
                    Inflated::All
                } else {
                    Inflated::Failed
                };
            }
        }
    }

    /// Returns what the member costs of [`super::zip::ZipBudget::inflated`]. It depends on the
    /// bytes of the member only, not on how they were passed.
    pub(in crate::delta) fn cost(&self) -> u64 {
        if self.is_finished {
            self.inflate.total_out()
        } else {
            MAX_INFLATED_BYTES
        }
    }
}

impl std::fmt::Debug for MemberInflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemberInflater").finish_non_exhaustive()
    }
}
