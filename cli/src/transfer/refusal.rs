//! What to make of a registry that refuses a chunk for what it is, and not for its size or the
//! caller. Registries differ in what they say of a session's state, and some say what is not so;
//! what they take tells more. Pure.

use http::StatusCode;

/// Refusals before the session, or the way, is given up.
const MOST: u32 = 6;

/// What the registry said when it was asked where the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It holds so many bytes.
    Holds(u64),
    /// There is no such session, or it cannot tell.
    Nothing,
}

/// What is known of a session in which a chunk was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// The status.
    pub(super) status: StatusCode,
    /// The chunk's first byte.
    pub(super) first: u64,
    /// How many bytes the registry took, by its answers to earlier chunks.
    pub(super) taken: u64,
    /// Whether nothing went wrong before: then the refusal is about chunks as such.
    pub(super) is_clean: bool,
    /// How many chunks were refused so, this one included.
    pub(super) times: u32,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Send on from this byte.
    From(u64),
    /// Begin again in another session.
    Anew,
    /// The registry does not take blobs in this way.
    AnotherWay,
}

/// Whether a status is about what was asked for: not about who asks, how much, or when.
pub(super) fn is_about_the_request(status: StatusCode) -> bool {
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
pub(super) fn next(refused: Refused, said: Said) -> Next {
    let Refused {
        status,
        first,
        taken,
        is_clean,
        times,
    } = refused;
    if times >= MOST {
        return match is_clean {
            true => Next::AnotherWay,
            false => Next::Anew,
        };
    }
    match said {
        // It was all as it should be.
        Said::Holds(at) if is_clean && at == first => Next::AnotherWay,
        // It forgot what it took, and nothing had happened.
        Said::Holds(0) if is_clean => Next::AnotherWay,
        // Its word was followed, and it was wrong: its answers before may be right.
        Said::Holds(at) if at == first && taken != first && times <= 2 => Next::From(taken),
        // A request that broke here may still be under way there, and may be refused for that.
        Said::Holds(at) if at == first && status != StatusCode::RANGE_NOT_SATISFIABLE => Next::Anew,
        Said::Holds(at) => Next::From(at),
        // There is no asking; or the session is gone, as sessions go, but not again and again.
        Said::Nothing if is_clean && (status != StatusCode::NOT_FOUND || times > 1) => {
            Next::AnotherWay
        }
        Said::Nothing => Next::Anew,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, first: u64, taken: u64, is_clean: bool) -> Refused {
        Refused {
            status: StatusCode::from_u16(status).unwrap(),
            first,
            taken,
            is_clean,
            times: 1,
        }
    }

    #[test]
    fn a_registry_without_chunks_is_told_from_a_session_in_disorder() {
        let clean = |status, first| refused(status, first, first, true);
        // No PATCH at all; none with a range; none but the first.
        assert_eq!(next(clean(405, 0), Said::Nothing), Next::AnotherWay);
        assert_eq!(next(clean(400, 0), Said::Holds(0)), Next::AnotherWay);
        assert_eq!(next(clean(416, 8), Said::Holds(8)), Next::AnotherWay);
        assert_eq!(next(clean(416, 8), Said::Holds(0)), Next::AnotherWay);
        // A session that went away, a server that crashed and lost a little.
        assert_eq!(next(clean(404, 8), Said::Nothing), Next::Anew);
        let again = Refused {
            times: 2,
            ..clean(404, 8)
        };
        assert_eq!(next(again, Said::Nothing), Next::AnotherWay);
        assert_eq!(next(clean(416, 8), Said::Holds(5)), Next::From(5));
        let broken = |first, taken| refused(416, first, taken, false);
        assert_eq!(next(broken(8, 8), Said::Holds(0)), Next::From(0));
        assert_eq!(next(broken(8, 8), Said::Nothing), Next::Anew);
    }

    #[test]
    fn who_is_still_busy_with_what_broke_is_asked_again() {
        let mut busy = refused(416, 8, 8, false);
        for times in 1..MOST {
            busy.times = times;
            assert_eq!(next(busy, Said::Holds(8)), Next::From(8));
        }
        assert_eq!(next(busy, Said::Holds(11)), Next::From(11));
        let refused = refused(400, 8, 8, false);
        assert_eq!(next(refused, Said::Holds(8)), Next::Anew);
    }

    #[test]
    fn a_state_that_is_wrong_is_believed_once() {
        // A byte too much; only the first chunk; only the last one.
        for said in [17, 8] {
            let refused = refused(416, said, 16, false);
            assert_eq!(next(refused, Said::Holds(said)), Next::From(16));
        }
        let at_its_own = refused(416, 16, 16, false);
        assert_eq!(next(at_its_own, Said::Holds(8)), Next::From(8));
        let again = Refused {
            times: MOST,
            ..at_its_own
        };
        assert_eq!(next(again, Said::Holds(8)), Next::Anew);
    }
}
