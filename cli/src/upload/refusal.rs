//! Decides what to do when a registry refuses a chunk as a bad request, and not because of its size
//! or the credentials.
//!
//! Registries differ in how they report the state of a session, and some report a wrong offset. The
//! chunks that they have accepted are therefore taken into account too. This module sends no
//! requests. Start reading at [`decide`].

use http::StatusCode;

/// The number of refusals after which the session or the upload mode is given up.
const MAX_REFUSALS: u32 = 6;
/// That number while the registry seems to be processing a request whose connection broke: about 12 s or
/// more. A server ends such a request some seconds after the next one arrives.
const MAX_BUSY_REFUSALS: u32 = 8;

/// The response of the registry to a request for the offset of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionStatus {
    /// The registry holds this many bytes.
    At(u64),
    /// There is no such session, or the registry does not report offsets.
    Unknown,
}

/// A refused chunk, and the state of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RefusedChunk {
    /// The status of the response.
    pub(super) status: StatusCode,
    /// The offset of the chunk's first byte.
    pub(super) first: u64,
    /// The offset after the chunks that the registry has accepted.
    pub(super) accepted: u64,
    /// Whether the session had no fault before. The registry then refuses chunks as such.
    pub(super) is_clean: bool,
    /// The number of chunks refused in this way, this one included.
    pub(super) times: u32,
}

/// The next step after a refused chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalAction {
    /// Resume the session at this offset.
    ResumeAt(u64),
    /// Send the blob again in a new session.
    NewSession,
    /// Use another upload mode, because the registry does not accept this one.
    ChangeMode,
}

/// Returns whether a status refuses the request itself, as opposed to the credentials, the size or
/// the rate of requests.
pub(super) fn is_request_refused(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::LENGTH_REQUIRED
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::RANGE_NOT_SATISFIABLE
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::NOT_IMPLEMENTED
    )
}

/// Returns what to do about a refused chunk, given the reported status of the session.
pub(super) fn decide(refused: RefusedChunk, reported: SessionStatus) -> RefusalAction {
    let RefusedChunk { first, times, .. } = refused;
    let (accepted, is_clean) = (refused.accepted, refused.is_clean);
    let is_busy = !is_clean
        && refused.status == StatusCode::RANGE_NOT_SATISFIABLE
        && reported == SessionStatus::At(first);
    let max_refusals = if is_busy {
        MAX_BUSY_REFUSALS
    } else {
        MAX_REFUSALS
    };
    match reported {
        _ if times >= max_refusals && is_clean => RefusalAction::ChangeMode,
        _ if times >= max_refusals => RefusalAction::NewSession,
        // The offset was right and there was no fault, so the registry does not accept this chunk
        // at all.
        SessionStatus::At(at) if is_clean && at == first => RefusalAction::ChangeMode,
        // Without any fault, the registry has dropped the chunks that it accepted.
        SessionStatus::At(0) if is_clean => RefusalAction::ChangeMode,
        // The chunk started at the reported offset and was refused. The end of the accepted chunks
        // may be the right offset.
        SessionStatus::At(at) if at == first && accepted != first && times <= 2 => {
            RefusalAction::ResumeAt(accepted)
        }
        // The registry may still be processing a request whose connection broke, and refuse this
        // one for that.
        SessionStatus::At(at)
            if at == first && refused.status != StatusCode::RANGE_NOT_SATISFIABLE =>
        {
            RefusalAction::NewSession
        }
        SessionStatus::At(at) => RefusalAction::ResumeAt(at),
        // The registry does not report offsets, or the session is gone. A session may be lost, but
        // not again and again.
        SessionStatus::Unknown
            if is_clean && (refused.status != StatusCode::NOT_FOUND || times > 1) =>
        {
            RefusalAction::ChangeMode
        }
        SessionStatus::Unknown => RefusalAction::NewSession,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, first: u64, accepted: u64, is_clean: bool) -> RefusedChunk {
        RefusedChunk {
            status: StatusCode::from_u16(status).unwrap(),
            first,
            accepted,
            is_clean,
            times: 1,
        }
    }

    #[test]
    fn a_registry_without_chunks_differs_from_a_wrong_session() {
        let clean = |status, first| refused(status, first, first, true);
        // Cases: a registry without PATCH, one that refuses every chunk with a range, and one that
        // accepts only the first chunk.
        assert_eq!(
            decide(clean(405, 0), SessionStatus::Unknown),
            RefusalAction::ChangeMode
        );
        assert_eq!(
            decide(clean(400, 0), SessionStatus::At(0)),
            RefusalAction::ChangeMode
        );
        assert_eq!(
            decide(clean(416, 8), SessionStatus::At(8)),
            RefusalAction::ChangeMode
        );
        assert_eq!(
            decide(clean(416, 8), SessionStatus::At(0)),
            RefusalAction::ChangeMode
        );
        // A session that expired, and a server that lost some bytes in a crash.
        assert_eq!(
            decide(clean(404, 8), SessionStatus::Unknown),
            RefusalAction::NewSession
        );
        let again = RefusedChunk {
            times: 2,
            ..clean(404, 8)
        };
        assert_eq!(
            decide(again, SessionStatus::Unknown),
            RefusalAction::ChangeMode
        );
        assert_eq!(
            decide(clean(416, 8), SessionStatus::At(5)),
            RefusalAction::ResumeAt(5)
        );
        let broken = |first, accepted| refused(416, first, accepted, false);
        assert_eq!(
            decide(broken(8, 8), SessionStatus::At(0)),
            RefusalAction::ResumeAt(0)
        );
        assert_eq!(
            decide(broken(8, 8), SessionStatus::Unknown),
            RefusalAction::NewSession
        );
    }

    #[test]
    fn a_registry_that_still_processes_a_broken_request_is_asked_again() {
        let mut busy = refused(416, 8, 8, false);
        for times in 1..MAX_BUSY_REFUSALS {
            busy.times = times;
            assert_eq!(
                decide(busy, SessionStatus::At(8)),
                RefusalAction::ResumeAt(8)
            );
        }
        busy.times = MAX_BUSY_REFUSALS;
        assert_eq!(
            decide(busy, SessionStatus::At(8)),
            RefusalAction::NewSession
        );
        busy.times = MAX_REFUSALS - 1;
        assert_eq!(
            decide(busy, SessionStatus::At(11)),
            RefusalAction::ResumeAt(11)
        );
        let refused = refused(400, 8, 8, false);
        assert_eq!(
            decide(refused, SessionStatus::At(8)),
            RefusalAction::NewSession
        );
    }

    #[test]
    fn a_wrong_offset_is_used_once() {
        // The reported offset is one too large, or that of a single chunk.
        for reported in [17, 8] {
            let refused = refused(416, reported, 16, false);
            assert_eq!(
                decide(refused, SessionStatus::At(reported)),
                RefusalAction::ResumeAt(16)
            );
        }
        let at_accepted = refused(416, 16, 16, false);
        assert_eq!(
            decide(at_accepted, SessionStatus::At(8)),
            RefusalAction::ResumeAt(8)
        );
        let again = RefusedChunk {
            times: MAX_REFUSALS,
            ..at_accepted
        };
        assert_eq!(
            decide(again, SessionStatus::At(8)),
            RefusalAction::NewSession
        );
    }
}
