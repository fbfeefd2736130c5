//! What has passed on a line, when it breaks, and what is to happen at which moment.

use std::net::{Shutdown, SocketAddr, TcpStream};

use super::super::request_parser::{ObservedRequest, RequestParser};

/// When the line breaks. The sizes, in bytes from the client, are taken in turn, for ever.
#[derive(Debug, Clone)]
pub enum RelayFault {
    /// It does not.
    None,
    /// Each connection on its own, after so many bytes.
    CutEach(Vec<u64>),
    /// All connections at once, after so many bytes on all of them together.
    CutAll(Vec<u64>),
    /// The same, and after each cut the relay answers so many connections itself, with the
    /// 502 of a proxy that does not find its registry.
    Outage {
        after: Vec<u64>,
        bad_gateways: usize,
    },
    /// The first connections fall silent after so many bytes, each after its own number, and never
    /// close; later ones are sound.
    Stall(Vec<u64>),
}

/// A moment in the life of a relay, counted over all its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Clients have sent so many bytes.
    BytesSent(u64),
    /// The registry has answered so many bytes.
    BytesReceived(u64),
    /// Clients have begun so many requests.
    RequestsStarted(usize),
}

/// Bytes that clients and the registry have sent, heads included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// What clients sent.
    pub up: u64,
    /// What came back.
    pub down: u64,
}

impl Traffic {
    /// Both ways together.
    pub fn total(&self) -> u64 {
        self.up + self.down
    }
}

/// What has passed, and what will break.
pub(super) struct State {
    pub(super) target: SocketAddr,
    cut: RelayFault,
    /// How many connections there were.
    connections: usize,
    /// How often the line broke.
    pub(super) cuts: usize,
    /// Bytes on all connections since the last cut of all.
    since: u64,
    open: Vec<Open>,
    /// Requests on connections that have ended.
    done: Vec<ObservedRequest>,
    pub(super) due: Option<(Trigger, Action)>,
    pub(super) traffic: Traffic,
    pub(super) asked: usize,
    /// How many more connections are answered with 502.
    pub(super) answers: usize,
}

/// A connection.
struct Open {
    framing: RequestParser,
    client: TcpStream,
    registry: TcpStream,
    /// Bytes until this connection is cut.
    left: u64,
    /// Nothing passes any more.
    dead: bool,
}

impl Open {
    fn is(&self, number: usize) -> bool {
        self.framing.connection() == number
    }

    fn cut(&self) {
        // It may be gone already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.registry.shutdown(Shutdown::Both);
    }
}

/// What is to be done at a moment.
pub(super) type Action = Box<dyn FnOnce() + Send>;

impl State {
    /// A line to `target` on which nothing has passed.
    pub(super) fn new(target: SocketAddr, cut: RelayFault) -> Self {
        Self {
            target,
            cut,
            connections: 0,
            cuts: 0,
            since: 0,
            open: Vec::new(),
            done: Vec::new(),
            due: None,
            traffic: Traffic::default(),
            asked: 0,
            answers: 0,
        }
    }

    /// A new connection; yields its number.
    pub(super) fn open(&mut self, client: &TcpStream, registry: &TcpStream) -> Option<usize> {
        let number = self.connections;
        self.connections += 1;
        let left = match &self.cut {
            RelayFault::CutEach(sizes) => sizes[number % sizes.len()],
            RelayFault::Stall(sizes) => sizes.get(number).copied().unwrap_or(u64::MAX),
            RelayFault::None | RelayFault::CutAll(_) | RelayFault::Outage { .. } => u64::MAX,
        };
        self.open.push(Open {
            framing: RequestParser::new(number),
            client: client.try_clone().ok()?,
            registry: registry.try_clone().ok()?,
            left,
            dead: false,
        });
        Some(number)
    }

    /// A connection's requests are kept when it is over.
    pub(super) fn close(&mut self, number: usize) {
        let place = self.open.iter().position(|open| open.is(number));
        if let Some(place) = place {
            let open = self.open.remove(place);
            self.done.extend_from_slice(open.framing.requests());
        }
    }

    /// Ends all connections.
    pub(super) fn cut_all(&self) {
        self.open.iter().for_each(Open::cut);
    }

    /// All requests so far.
    pub(super) fn requests(&self) -> Vec<ObservedRequest> {
        let open = self.open.iter().flat_map(|open| open.framing.requests());
        self.done.iter().chain(open).cloned().collect()
    }

    /// Whether connections fall silent here rather than break.
    pub(super) fn falls_silent(&self) -> bool {
        matches!(self.cut, RelayFault::Stall(_))
    }

    /// Whether nothing passes on this connection any more, which yet is not closed.
    pub(super) fn is_silent(&mut self, number: usize) -> bool {
        self.falls_silent() && self.find(number).is_some_and(|open| open.dead)
    }

    /// Counts what a client sent; yields how much of it may still pass, and what is to be done.
    pub(super) fn seen(&mut self, number: usize, bytes: &[u8]) -> (usize, Option<Action>) {
        let size = bytes.len() as u64;
        self.traffic.up += size;
        let Some(open) = self.find(number) else {
            return (0, None);
        };
        // All of it was sent, also what does not arrive.
        let before = open.framing.requests().len();
        open.framing.take(bytes);
        self.asked += open.framing.requests().len() - before;
        let action = self.due();
        let Some(open) = self.open.iter_mut().find(|open| open.is(number)) else {
            return (0, action);
        };
        if open.dead {
            return (0, action);
        }
        let room = match &self.cut {
            RelayFault::None => size,
            RelayFault::CutEach(_) | RelayFault::Stall(_) => {
                let room = open.left.min(size);
                open.left -= room;
                room
            }
            RelayFault::CutAll(sizes) | RelayFault::Outage { after: sizes, .. } => {
                let room = (sizes[self.cuts % sizes.len()] - self.since).min(size);
                self.since += room;
                room
            }
        };
        if room < size {
            self.break_line(number);
        }
        (usize::try_from(room).expect("within the buffer"), action)
    }

    /// Counts what the registry answered; yields what is to be done.
    pub(super) fn returned(&mut self, number: usize, bytes: &[u8]) -> Option<Action> {
        self.traffic.down += bytes.len() as u64;
        // What does not get through is no answer.
        if let Some(open) = self.find(number).filter(|open| !open.dead) {
            open.framing.answer(bytes);
        }
        self.due()
    }

    /// What was to be done at a moment that has come.
    fn due(&mut self) -> Option<Action> {
        let (traffic, asked) = (self.traffic, self.asked);
        let due = self.due.take_if(|(moment, _)| match *moment {
            Trigger::BytesSent(bytes) => traffic.up >= bytes,
            Trigger::BytesReceived(bytes) => traffic.down >= bytes,
            Trigger::RequestsStarted(requests) => asked >= requests,
        });
        due.map(|(_, action)| action)
    }

    fn find(&mut self, number: usize) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.is(number))
    }

    /// Whether a request has begun on this connection.
    pub(super) fn has_request(&mut self, number: usize) -> bool {
        let open = self.find(number);
        open.is_some_and(|open| !open.framing.requests().is_empty())
    }

    /// Breaks the line of this connection, whose thread closes it when the last bytes are through,
    /// and those of all others if they break together.
    fn break_line(&mut self, number: usize) {
        self.cuts += 1;
        self.since = 0;
        let all = matches!(self.cut, RelayFault::CutAll(_) | RelayFault::Outage { .. });
        if let RelayFault::Outage { bad_gateways, .. } = self.cut {
            self.answers = bad_gateways;
        }
        for open in &mut self.open {
            let own = open.is(number);
            open.dead |= own || all;
            if all && !own {
                open.cut();
            }
        }
    }
}
