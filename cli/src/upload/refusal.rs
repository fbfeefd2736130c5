//! What to make of a registry that refuses a chunk for what it is, and not for its size or the
//! caller. Registries differ in what they say of a session's state, and some say what is not so;
//! what they take tells more. Pure.

use http::StatusCode;

/// Refusals before the session, or the way, is given up.
const MAX_REFUSALS: u32 = 6;

/// What the registry said when it was asked where the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionStatus {
    /// It holds so many bytes.
    At(u64),
    /// There is no such session, or it cannot tell.
    Unknown,
}

/// What is known of a session in which a chunk was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RefusedChunk {
    /// The status.
    pub(super) status: StatusCode,
    /// The chunk's first byte.
    pub(super) first: u64,
    /// How many bytes the registry took, by its answers to earlier chunks.
    pub(super) accepted: u64,
    /// Whether nothing went wrong before: then the refusal is about chunks as such.
    pub(super) is_clean: bool,
    /// How many chunks were refused so, this one included.
    pub(super) times: u32,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalAction {
    /// Send on from this byte.
    ResumeAt(u64),
    /// Begin again in another session.
    NewSession,
    /// The registry does not take blobs in this way.
    ChangeMode,
}

/// Whether a status is about what was asked for: not about who asks, how much, or when.
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

/// What to do about a refused chunk.
pub(super) fn decide(refused: RefusedChunk, said: SessionStatus) -> RefusalAction {
    let RefusedChunk {
        status,
        first,
        accepted: taken,
        is_clean,
        times,
    } = refused;
    if times >= MAX_REFUSALS {
        return match is_clean {
            true => RefusalAction::ChangeMode,
            false => RefusalAction::NewSession,
        };
    }
    match said {
        // It was all as it should be.
        SessionStatus::At(at) if is_clean && at == first => RefusalAction::ChangeMode,
        // It forgot what it took, and nothing had happened.
        SessionStatus::At(0) if is_clean => RefusalAction::ChangeMode,
        // Its word was followed, and it was wrong: its answers before may be right.
        SessionStatus::At(at) if at == first && taken != first && times <= 2 => {
            RefusalAction::ResumeAt(taken)
        }
        // A request that broke here may still be under way there, and may be refused for that.
        SessionStatus::At(at) if at == first && status != StatusCode::RANGE_NOT_SATISFIABLE => {
            RefusalAction::NewSession
        }
        SessionStatus::At(at) => RefusalAction::ResumeAt(at),
        // There is no asking; or the session is gone, as sessions go, but not again and again.
        SessionStatus::Unknown if is_clean && (status != StatusCode::NOT_FOUND || times > 1) => {
            RefusalAction::ChangeMode
        }
        SessionStatus::Unknown => RefusalAction::NewSession,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, first: u64, taken: u64, is_clean: bool) -> RefusedChunk {
        RefusedChunk {
            status: StatusCode::from_u16(status).unwrap(),
            first,
            accepted: taken,
            is_clean,
            times: 1,
        }
    }

    #[test]
    fn a_registry_without_chunks_is_told_from_a_session_in_disorder() {
        let clean = |status, first| refused(status, first, first, true);
        // No PATCH at all; none with a range; none but the first.
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
        // A session that went away, a server that crashed and lost a little.
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
        let broken = |first, taken| refused(416, first, taken, false);
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
    fn who_is_still_busy_with_what_broke_is_asked_again() {
        let mut busy = refused(416, 8, 8, false);
        for times in 1..MAX_REFUSALS {
            busy.times = times;
            assert_eq!(
                decide(busy, SessionStatus::At(8)),
                RefusalAction::ResumeAt(8)
            );
        }
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
    fn a_state_that_is_wrong_is_believed_once() {
        // A byte too much; only the first chunk; only the last one.
        for said in [17, 8] {
            let refused = refused(416, said, 16, false);
            assert_eq!(
                decide(refused, SessionStatus::At(said)),
                RefusalAction::ResumeAt(16)
            );
        }
        let at_its_own = refused(416, 16, 16, false);
        assert_eq!(
            decide(at_its_own, SessionStatus::At(8)),
            RefusalAction::ResumeAt(8)
        );
        let again = RefusedChunk {
            times: MAX_REFUSALS,
            ..at_its_own
        };
        assert_eq!(
            decide(again, SessionStatus::At(8)),
            RefusalAction::NewSession
        );
    }
}
