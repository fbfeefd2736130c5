//! Chooses the connection that is closed for a new one when all connections are in use.
//!
//! This module does no I/O and does not read the clock. Start reading at [`choose_victim`].

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use crate::client_address::ClientAddress;
use crate::http::ConnectionStanding;

/// A client has this long to send its first or next request, unless it has more connections than
/// its share.
pub(super) const MIN_IDLE: Duration = Duration::from_secs(1);
/// A request or response without progress for this long counts as stalled.
pub(super) const MIN_STALL: Duration = Duration::from_secs(3);

/// An open connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The number of the connection: later connections have higher ones.
    pub(super) id: u64,
    /// The client, if it is known: the connections of a proxy belong to many.
    pub(super) client: Option<ClientAddress>,
    /// The state of the connection.
    pub(super) standing: ConnectionStanding,
}

/// The preference with which connections are closed, from the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Preference {
    /// Idle or stalled, and its client has more connections than its share.
    InactiveOverShare,
    Idle,
    Stalled,
    /// In use, but its client has more connections than its share.
    ActiveOverShare,
}

/// Returns the connection to close, if there is one that may be closed. `share` is the number of
/// connections that each client may have while others need them.
///
/// Of equal connections, one of the client with the most connections is chosen: the one that has
/// been inactive for the longest time, or the newest of those in use, which loses the least work.
pub(super) fn choose_victim(candidates: &[Candidate], share: usize) -> Option<u64> {
    let mut counts: HashMap<ClientAddress, usize> = HashMap::new();
    for client in candidates.iter().filter_map(|candidate| candidate.client) {
        *counts.entry(client).or_default() += 1;
    }
    let rank = |candidate: &Candidate| {
        let count = candidate.client.map_or(0, |client| counts[&client]);
        let (preference, inactive) = preference(candidate.standing, count > share)?;
        let order = match preference {
            Preference::ActiveOverShare => u64::MAX - candidate.id,
            Preference::InactiveOverShare | Preference::Idle | Preference::Stalled => candidate.id,
        };
        Some((preference, Reverse(count), Reverse(inactive), order))
    };
    let ranked = candidates
        .iter()
        .filter_map(|candidate| Some((rank(candidate)?, candidate.id)));
    ranked.min().map(|(_, id)| id)
}

/// Returns how readily a connection is closed, and for how long it has been inactive; `None` if it
/// must stay.
fn preference(standing: ConnectionStanding, is_over_share: bool) -> Option<(Preference, Duration)> {
    match standing {
        ConnectionStanding::Idle(time) if is_over_share => {
            Some((Preference::InactiveOverShare, time))
        }
        ConnectionStanding::Waiting(time) if is_over_share && time >= MIN_STALL => {
            Some((Preference::InactiveOverShare, time))
        }
        ConnectionStanding::Idle(time) if time >= MIN_IDLE => Some((Preference::Idle, time)),
        ConnectionStanding::Waiting(time) if time >= MIN_STALL => Some((Preference::Stalled, time)),
        ConnectionStanding::Waiting(_) | ConnectionStanding::Working if is_over_share => {
            Some((Preference::ActiveOverShare, Duration::ZERO))
        }
        ConnectionStanding::Idle(_)
        | ConnectionStanding::Waiting(_)
        | ConnectionStanding::Working => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: ConnectionStanding = ConnectionStanding::Idle(Duration::from_millis(900));
    const MOVING: ConnectionStanding = ConnectionStanding::Waiting(Duration::from_secs(2));

    fn idle(seconds: u64) -> ConnectionStanding {
        ConnectionStanding::Idle(Duration::from_secs(seconds))
    }

    fn stalled(seconds: u64) -> ConnectionStanding {
        ConnectionStanding::Waiting(Duration::from_secs(seconds))
    }

    /// Chooses among connections of clients, each named by a digit; 0 is a proxy. The ids are the
    /// indices, and the share is two connections.
    fn choose(connections: &[(u8, ConnectionStanding)]) -> Option<u64> {
        let candidates: Vec<_> = (0..)
            .zip(connections)
            .map(|(id, &(client, standing))| Candidate {
                id,
                client: (client > 0).then(|| ClientAddress::Ipv4([192, 0, 2, client].into())),
                standing,
            })
            .collect();
        choose_victim(&candidates, 2)
    }

    #[test]
    fn inactive_connections_are_closed_first() {
        use ConnectionStanding::Working;
        // Nobody has more than the share, and everybody is active.
        let active = [(1, Working), (1, FRESH), (2, MOVING), (0, Working)];
        assert_eq!(choose(&active), None);
        // The one that has been idle for the longest time; before one that is stalled.
        let inactive = [(1, Working), (2, idle(2)), (2, stalled(9)), (1, idle(3))];
        assert_eq!(choose(&inactive), Some(3));
        assert_eq!(
            choose(&[(1, Working), (2, stalled(9)), (3, MOVING)]),
            Some(1)
        );
        // One of the client with more connections.
        assert_eq!(choose(&[(1, idle(9)), (2, idle(2)), (2, idle(1))]), Some(1));
        // Connections of a proxy last.
        assert_eq!(choose(&[(0, idle(9)), (0, idle(8)), (2, idle(1))]), Some(2));
        assert_eq!(choose(&[(0, idle(9)), (0, idle(8)), (2, Working)]), Some(0));
    }

    #[test]
    fn a_client_with_more_than_its_share_loses_its_own() {
        use ConnectionStanding::Working;
        let crowd = [
            (1, Working),
            (1, MOVING),
            (1, Working),
            (2, FRESH),
            (3, Working),
        ];
        assert_eq!(choose(&crowd), Some(2));
        let with_idle = [(1, Working), (1, FRESH), (1, Working), (2, idle(60))];
        assert_eq!(choose(&with_idle), Some(1));
        let two_crowds = [1, 1, 1, 2, 2, 2, 2].map(|client| (client, Working));
        assert_eq!(choose(&two_crowds), Some(6));
        // The connections of a proxy have no share.
        assert_eq!(choose(&[(0, Working); 5]), None);
    }
}
