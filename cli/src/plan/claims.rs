//! Decides what is done about claims, and by which rates. Start reading at [`ClaimPolicy`].

use super::{BlobCandidate, EvidenceSource, Trust};

/// The action of a push for blobs that the target holds, and that are layers only by a claim
/// ([`Trust::Claim`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClaimPolicy {
    /// Whether to use what images at the registry claim, because the user trusts everybody who can
    /// push to the repository.
    pub trust_registry: bool,
    /// The rates by which to decide whether a blob is downloaded and verified, or the layer is sent.
    /// `None` to send it in any case.
    pub verify: Option<TransferRates>,
}

/// The action of a push for one blob that the target holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimVerdict {
    /// The blob is the layer.
    Use,
    /// The blob is downloaded, to find out whether it is the layer.
    Verify,
    /// The blob is not used: the layer is sent.
    Send,
}

impl ClaimPolicy {
    /// Decides about a blob that the target holds.
    pub fn judge(self, candidate: &BlobCandidate) -> ClaimVerdict {
        let evidence = &candidate.evidence;
        let is_trusted = match evidence {
            EvidenceSource::SameImage | EvidenceSource::Claim(_) | EvidenceSource::Copy(_) => {
                self.trust_registry
            }
            _ => evidence.trust() != Trust::Claim,
        };
        let size = candidate.blob.size;
        match self.verify {
            _ if is_trusted => ClaimVerdict::Use,
            Some(rates) if rates.favour_download(size) => ClaimVerdict::Verify,
            _ => ClaimVerdict::Send,
        }
    }
}

/// The rates that earlier transfers with a registry had, in bytes per second. `None` if none was
/// large enough to tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransferRates {
    /// The rate of uploads, reading and compressing included.
    pub sent: Option<u64>,
    /// The rate of downloads, decompressing included.
    pub received: Option<u64>,
}

/// Up to this size in bytes, the number of requests counts, and a download needs the fewest.
const MAX_SMALL_BLOB_BYTES: u64 = 1024 * 1024;

impl TransferRates {
    /// Returns whether downloading a blob of `size` bytes is expected to be quicker than sending it.
    /// As long as a rate is unknown it is: few connections receive more slowly than they send.
    pub fn favour_download(&self, size: u64) -> bool {
        let is_faster = match (self.sent, self.received) {
            (Some(sent), Some(received)) => received >= sent,
            _ => true,
        };
        is_faster || size <= MAX_SMALL_BLOB_BYTES
    }
}
