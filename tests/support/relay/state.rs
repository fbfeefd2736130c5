//! The state of a relay: traffic, requests, and when the next fault or action is due.

use std::net::{Shutdown, SocketAddr, TcpStream};

use super::super::request_parser::{ObservedRequest, RequestParser};

/// The faults that a relay injects. The numbers are bytes sent by clients, used in turn and
/// repeated.
#[derive(Debug, Clone)]
pub enum RelayFault {
    None,
    /// Cuts each connection after this many bytes.
    CutEach(Vec<u64>),
    /// Cuts all connections at the same time, after this many bytes on all of them in total.
    CutAll(Vec<u64>),
    /// Like `CutAll`. After each cut, the relay responds to this many connections with 502, as a
    /// proxy does that cannot reach its registry.
    Outage {
        after: Vec<u64>,
        bad_gateways: usize,
    },
    /// Stalls the first connections, each after its number of bytes, without closing them. Later
    /// connections work.
    Stall(Vec<u64>),
}

/// A point in the traffic of all connections of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Clients have sent this many bytes.
    BytesSent(u64),
    /// The registry has sent this many bytes.
    BytesReceived(u64),
    /// Clients have started this many requests.
    RequestsStarted(usize),
}

/// Bytes on all connections of a relay, including the heads of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes from clients.
    pub up: u64,
    /// Bytes from the registry.
    pub down: u64,
}

impl Traffic {
    /// Returns the bytes in both directions.
    pub fn total(&self) -> u64 {
        self.up + self.down
    }
}

pub(super) struct State {
    /// The registry, or `None` while it is down.
    pub(super) target: Option<SocketAddr>,
    fault: RelayFault,
    connection_count: usize,
    pub(super) fault_count: usize,
    /// Bytes on all connections since they were last cut together.
    bytes_since_cut: u64,
    connections: Vec<Connection>,
    /// Requests on closed connections.
    closed_requests: Vec<ObservedRequest>,
    pub(super) pending: Option<(Trigger, Action)>,
    pub(super) traffic: Traffic,
    pub(super) request_count: usize,
    /// The number of connections that still get a 502.
    pub(super) remaining_bad_gateways: usize,
}

struct Connection {
    parser: RequestParser,
    client: TcpStream,
    registry: TcpStream,
    /// Bytes until the fault of this connection.
    bytes_left: u64,
    /// Whether the connection was cut or stalled.
    is_dead: bool,
}

impl Connection {
    fn has_number(&self, number: usize) -> bool {
        self.parser.connection() == number
    }

    fn cut(&self) {
        // The sockets may already be closed.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.registry.shutdown(Shutdown::Both);
    }
}

pub(super) type Action = Box<dyn FnOnce() + Send>;

impl State {
    pub(super) fn new(target: SocketAddr, fault: RelayFault) -> Self {
        Self {
            target: Some(target),
            fault,
            connection_count: 0,
            fault_count: 0,
            bytes_since_cut: 0,
            connections: Vec::new(),
            closed_requests: Vec::new(),
            pending: None,
            traffic: Traffic::default(),
            request_count: 0,
            remaining_bad_gateways: 0,
        }
    }

    /// Adds a connection, and returns its number.
    pub(super) fn open(&mut self, client: &TcpStream, registry: &TcpStream) -> Option<usize> {
        let number = self.connection_count;
        self.connection_count += 1;
        let bytes_left = match &self.fault {
            RelayFault::CutEach(sizes) => sizes[number % sizes.len()],
            RelayFault::Stall(sizes) => sizes.get(number).copied().unwrap_or(u64::MAX),
            RelayFault::None | RelayFault::CutAll(_) | RelayFault::Outage { .. } => u64::MAX,
        };
        self.connections.push(Connection {
            parser: RequestParser::new(number),
            client: client.try_clone().ok()?,
            registry: registry.try_clone().ok()?,
            bytes_left,
            is_dead: false,
        });
        Some(number)
    }

    /// Removes a connection, and keeps its requests.
    pub(super) fn close(&mut self, number: usize) {
        let mut connections = self.connections.iter();
        let index = connections.position(|connection| connection.has_number(number));
        if let Some(index) = index {
            let connection = self.connections.remove(index);
            let requests = connection.parser.requests();
            self.closed_requests.extend_from_slice(requests);
        }
    }

    /// Closes all connections.
    pub(super) fn cut_all(&self) {
        self.connections.iter().for_each(Connection::cut);
    }

    /// Returns all requests so far.
    pub(super) fn requests(&self) -> Vec<ObservedRequest> {
        let connections = self.connections.iter();
        let open_requests = connections.flat_map(|connection| connection.parser.requests());
        let requests = self.closed_requests.iter().chain(open_requests);
        requests.cloned().collect()
    }

    /// Reports whether the fault is a stall instead of a cut.
    pub(super) fn stalls(&self) -> bool {
        matches!(self.fault, RelayFault::Stall(_))
    }

    /// Reports whether a connection is stalled: open, but without any traffic.
    pub(super) fn is_stalled(&mut self, number: usize) -> bool {
        self.stalls()
            && self
                .find(number)
                .is_some_and(|connection| connection.is_dead)
    }

    /// Counts bytes from a client. Returns how many of them may be forwarded before the fault, and
    /// the action that is due.
    pub(super) fn record_sent(&mut self, number: usize, bytes: &[u8]) -> (usize, Option<Action>) {
        let size = bytes.len() as u64;
        self.traffic.up += size;
        let Some(connection) = self.find(number) else {
            return (0, None);
        };
        // The client sent all of these bytes, also those that a fault discards.
        let before = connection.parser.requests().len();
        connection.parser.add(bytes);
        self.request_count += connection.parser.requests().len() - before;
        let action = self.take_due_action();
        let mut connections = self.connections.iter_mut();
        let Some(connection) = connections.find(|connection| connection.has_number(number)) else {
            return (0, action);
        };
        if connection.is_dead {
            return (0, action);
        }
        let allowed = match &self.fault {
            RelayFault::None => size,
            RelayFault::CutEach(_) | RelayFault::Stall(_) => {
                let allowed = connection.bytes_left.min(size);
                connection.bytes_left -= allowed;
                allowed
            }
            RelayFault::CutAll(sizes) | RelayFault::Outage { after: sizes, .. } => {
                let limit = sizes[self.fault_count % sizes.len()];
                let allowed = (limit - self.bytes_since_cut).min(size);
                self.bytes_since_cut += allowed;
                allowed
            }
        };
        if allowed < size {
            self.inject_fault(number);
        }
        let allowed = usize::try_from(allowed).expect("at most the size of the buffer");
        (allowed, action)
    }

    /// Counts bytes from the registry. Returns the action that is due.
    pub(super) fn record_received(&mut self, number: usize, bytes: &[u8]) -> Option<Action> {
        self.traffic.down += bytes.len() as u64;
        // A response that a fault discards does not count for the request.
        if let Some(connection) = self.find(number).filter(|connection| !connection.is_dead) {
            connection.parser.add_response(bytes);
        }
        self.take_due_action()
    }

    fn take_due_action(&mut self) -> Option<Action> {
        let (traffic, request_count) = (self.traffic, self.request_count);
        let due = self.pending.take_if(|(trigger, _)| match *trigger {
            Trigger::BytesSent(bytes) => traffic.up >= bytes,
            Trigger::BytesReceived(bytes) => traffic.down >= bytes,
            Trigger::RequestsStarted(requests) => request_count >= requests,
        });
        due.map(|(_, action)| action)
    }

    fn find(&mut self, number: usize) -> Option<&mut Connection> {
        let mut connections = self.connections.iter_mut();
        connections.find(|connection| connection.has_number(number))
    }

    /// Reports whether the client has started a request on this connection.
    pub(super) fn has_request(&mut self, number: usize) -> bool {
        let connection = self.find(number);
        connection.is_some_and(|connection| !connection.parser.requests().is_empty())
    }

    /// Marks a connection as dead; its thread closes it after the last forwarded bytes. If all
    /// connections are cut together, also closes the others.
    fn inject_fault(&mut self, number: usize) {
        self.fault_count += 1;
        self.bytes_since_cut = 0;
        let cuts_all = matches!(
            self.fault,
            RelayFault::CutAll(_) | RelayFault::Outage { .. }
        );
        if let RelayFault::Outage { bad_gateways, .. } = self.fault {
            self.remaining_bad_gateways = bad_gateways;
        }
        for connection in &mut self.connections {
            let is_affected = connection.has_number(number);
            connection.is_dead |= is_affected || cuts_all;
            if cuts_all && !is_affected {
                connection.cut();
            }
        }
    }
}
