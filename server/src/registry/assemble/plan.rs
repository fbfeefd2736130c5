//! Checks what a request to assemble a layer says. No I/O.

use imgsync_oci::delta::FORMAT_NAME;
use imgsync_oci::endpoint::UploadId;
use imgsync_oci::ext::assemble::AssembleRequest;
use imgsync_oci::layer::GZIP_FORMAT_NAME;
use imgsync_oci::units::format_bytes;
use imgsync_oci::{Algorithm, Digest};

use super::super::error::{Error, Result};

/// The most bytes that a delta has in addition to those of its layer, and to 1/64 of them: compressing
/// bytes that do not compress makes them a little longer.
const MAX_DELTA_OVERHEAD_BYTES: u64 = 1 << 20;

/// A request whose fields are supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AssemblyPlan {
    /// The session with the delta.
    pub(super) session: UploadId,
    pub(super) delta_digest: Digest,
    pub(super) bases: Vec<Digest>,
    pub(super) diff_id: Digest,
    /// The size of the uncompressed layer in bytes.
    pub(super) raw_size: u64,
    /// The size in bytes of the largest uncompressed layer that may be a base.
    pub(super) max_base_bytes: u64,
}

impl AssemblyPlan {
    /// Checks a request. Layers may have `max_layer_bytes`, uncompressed.
    ///
    /// # Errors
    /// [`Error::AssemblyInvalid`].
    pub(super) fn new(request: &AssembleRequest, max_layer_bytes: u64) -> Result<Self> {
        let invalid = |text: String| Err(Error::AssemblyInvalid(text));
        for (field, value, supported) in [
            ("format", &request.format, FORMAT_NAME),
            ("compression", &request.compression, GZIP_FORMAT_NAME),
        ] {
            if value != supported {
                return invalid(format!("{field} must be {supported}, not {value:?}"));
            }
        }
        for (field, digest) in [
            ("deltaDigest", &request.delta_digest),
            ("diffID", &request.diff_id),
        ] {
            if digest.algorithm() != Algorithm::Sha256 {
                return invalid(format!("{field} must be a sha256 digest"));
            }
        }
        if request.raw_size > max_layer_bytes {
            return invalid(format!(
                "the layer has {}, and at most {} are allowed (imgsync.delta.maxsize)",
                format_bytes(request.raw_size),
                format_bytes(max_layer_bytes)
            ));
        }
        let Ok(session) = request.session.parse() else {
            return invalid("session must be the ID of an upload session".to_owned());
        };
        Ok(Self {
            session,
            delta_digest: request.delta_digest.clone(),
            bases: request.bases.clone(),
            diff_id: request.diff_id.clone(),
            raw_size: request.raw_size,
            max_base_bytes: max_layer_bytes,
        })
    }

    /// Checks that a delta has no more bytes than one of the layer can have, so that a short layer is
    /// not a long work.
    ///
    /// # Errors
    /// [`Error::AssemblyInvalid`].
    pub(super) fn check_delta_size(&self, size: u64) -> Result<()> {
        let overhead = self.raw_size / 64 + MAX_DELTA_OVERHEAD_BYTES;
        let longest = self.raw_size.saturating_add(overhead);
        if size <= longest {
            return Ok(());
        }
        Err(Error::AssemblyInvalid(format!(
            "the delta has {}, more than a layer of {} needs",
            format_bytes(size),
            format_bytes(self.raw_size)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid_request() -> AssembleRequest {
        AssembleRequest {
            session: UploadId::random().to_string(),
            delta_digest: Digest::of(b"delta"),
            bases: vec![Digest::of(b"base")],
            diff_id: Digest::of(b"layer"),
            raw_size: 1000,
            format: FORMAT_NAME.to_owned(),
            compression: GZIP_FORMAT_NAME.to_owned(),
        }
    }

    #[test]
    fn unsupported_fields_are_named() {
        let plan = AssemblyPlan::new(&valid_request(), 1000).unwrap();
        assert_eq!(plan.raw_size, 1000);
        let long = Digest::of_with(Algorithm::Sha512, b"x");
        type Change<'a> = &'a dyn Fn(&mut AssembleRequest);
        let changes: [(&str, Change<'_>); 6] = [
            ("format must", &|request| request.format = "delta-2".into()),
            ("compression must", &|request| {
                request.compression = "zstd".into();
            }),
            ("deltaDigest must", &|request| {
                request.delta_digest = long.clone();
            }),
            ("diffID must", &|request| request.diff_id = long.clone()),
            ("imgsync.delta.maxsize", &|request| request.raw_size = 1001),
            ("session must", &|request| request.session = "../x".into()),
        ];
        for (expected, change) in changes {
            let mut request = valid_request();
            change(&mut request);
            let error = AssemblyPlan::new(&request, 1000).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
