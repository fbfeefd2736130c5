//! A line between a client and a registry: it records the requests, counts the bytes both ways, and
//! can be told to break, to fall silent, to answer for the registry, or to be slow.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::framing::{Framing, Request};
use super::shape::{Lane, Shape};

/// When the line breaks. The sizes, in bytes from the client, are taken in turn, for ever.
#[derive(Debug, Clone)]
pub enum Cut {
    /// It does not.
    Never,
    /// Each connection on its own, after so many bytes.
    Each(Vec<u64>),
    /// All connections at once, after so many bytes on all of them together.
    All(Vec<u64>),
    /// The same, and after each cut the relay answers so many connections itself, with the
    /// 502 of a proxy that does not find its registry.
    Outage { after: Vec<u64>, answers: usize },
    /// The first connections fall silent after so many bytes, each after its own number, and never
    /// close; later ones are sound.
    Silence(Vec<u64>),
}

/// A moment in the life of a relay, counted over all its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Clients have sent so many bytes.
    Sent(u64),
    /// The registry has answered so many bytes.
    Answered(u64),
    /// Clients have begun so many requests.
    Asked(usize),
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

/// A relay on a loopback port.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    closing: AtomicBool,
    state: Mutex<State>,
    /// Told when the relay goes, for threads that stand still.
    closed: Condvar,
    /// What the client sends, and what comes back.
    lanes: [Lane; 2],
}

struct State {
    target: SocketAddr,
    cut: Cut,
    /// How many connections there were.
    connections: usize,
    /// How often the line broke.
    cuts: usize,
    /// Bytes on all connections since the last cut of all.
    since: u64,
    open: Vec<Open>,
    /// Requests on connections that have ended.
    done: Vec<Request>,
    due: Option<(Moment, Action)>,
    traffic: Traffic,
    asked: usize,
    /// How many more connections are answered with 502.
    answers: usize,
}

struct Open {
    framing: Framing,
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

impl Relay {
    /// A relay before a registry.
    pub fn start(target: SocketAddr, cut: Cut) -> Self {
        Self::shaped(target, cut, Shape::default())
    }

    /// The same, with a line of this shape.
    pub fn shaped(target: SocketAddr, cut: Cut, shape: Shape) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = Mutex::new(State {
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
        });
        let shared = Arc::new(Shared {
            closing: AtomicBool::new(false),
            state,
            closed: Condvar::new(),
            lanes: [Lane::new(shape), Lane::new(shape)],
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.closing.load(Ordering::SeqCst) {
                    return;
                }
                let shared = accepting.clone();
                std::thread::spawn(move || shared.serve(client.expect("a connection")));
            }
        });
        Self { address, shared }
    }

    /// `127.0.0.1:PORT`: what the client is told.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends new connections to another address.
    pub fn forward_to(&self, target: SocketAddr) {
        self.shared.state().target = target;
    }

    /// Runs `action` once, when clients have sent so many bytes in all.
    pub fn after(&self, bytes: u64, action: impl FnOnce() + Send + 'static) {
        self.at(Moment::Sent(bytes), action);
    }

    /// Runs `action` once, at that moment or as soon as something passes after it. It takes the
    /// place of an earlier one that is not yet due.
    pub fn at(&self, moment: Moment, action: impl FnOnce() + Send + 'static) {
        self.shared.state().due = Some((moment, Box::new(action)));
    }

    /// What has passed so far.
    pub fn traffic(&self) -> Traffic {
        self.shared.state().traffic
    }

    /// How many requests have begun so far.
    pub fn asked(&self) -> usize {
        self.shared.state().asked
    }

    /// How often the line broke.
    pub fn cuts(&self) -> usize {
        self.shared.state().cuts
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        let state = self.shared.state();
        let open = state.open.iter().flat_map(|open| open.framing.requests());
        state.done.iter().chain(open).cloned().collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        for open in &self.shared.state().open {
            open.cut();
        }
        self.shared.closed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection, to its end.
    fn serve(&self, client: TcpStream) {
        let target = {
            let mut state = self.state();
            if state.answers > 0 {
                state.answers -= 1;
                drop(state);
                return self.answer(&client);
            }
            state.target
        };
        // A registry that is down: the client finds its connection closed.
        let Ok(registry) = TcpStream::connect_timeout(&target, Duration::from_secs(10)) else {
            return;
        };
        let _ = (client.set_nodelay(true), registry.set_nodelay(true));
        let Some(number) = self.open(&client, &registry) else {
            return;
        };
        // The handshake takes a way there and back as well.
        self.lanes.iter().for_each(Lane::wait);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                self.down(number, &registry, &client);
                let _ = client.shutdown(Shutdown::Write);
            });
            self.up(number, &client, &registry);
            let _ = registry.shutdown(Shutdown::Write);
        });
        self.close(number);
    }

    /// A connection's requests are kept when it is over.
    fn close(&self, number: usize) {
        let mut state = self.state();
        let place = state.open.iter().position(|open| open.is(number));
        if let Some(place) = place {
            let open = state.open.remove(place);
            state.done.extend_from_slice(open.framing.requests());
        }
    }

    /// Answers one request as a proxy does that does not find its registry.
    fn answer(&self, mut client: &TcpStream) {
        let Some(number) = self.open(client, client) else {
            return;
        };
        let mut buffer = vec![0; 64 * 1024];
        let mut answered = false;
        // To the client's end: an answer must not be overtaken by the end of the connection.
        while let Ok(size @ 1..) = client.read(&mut buffer) {
            let (_, action) = self.state().seen(number, &buffer[..size]);
            if let Some(action) = action {
                action();
            }
            let begun = self.state().has_request(number);
            if begun && !std::mem::replace(&mut answered, true) {
                self.state().returned(number, BAD_GATEWAY.len());
                let _ = client.write_all(BAD_GATEWAY);
                let _ = client.shutdown(Shutdown::Write);
            }
        }
        self.close(number);
    }

    fn open(&self, client: &TcpStream, registry: &TcpStream) -> Option<usize> {
        let mut state = self.state();
        let number = state.connections;
        state.connections += 1;
        let left = match &state.cut {
            Cut::Each(sizes) => sizes[number % sizes.len()],
            Cut::Silence(sizes) => sizes.get(number).copied().unwrap_or(u64::MAX),
            Cut::Never | Cut::All(_) | Cut::Outage { .. } => u64::MAX,
        };
        state.open.push(Open {
            framing: Framing::new(number),
            client: client.try_clone().ok()?,
            registry: registry.try_clone().ok()?,
            left,
            dead: false,
        });
        Some(number)
    }

    /// Passes on what the client sends, until one end closes or the line is cut.
    fn up(&self, number: usize, mut client: &TcpStream, registry: &TcpStream) {
        self.lanes[0].carry(registry, |carry| {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(size @ 1..) = client.read(carry.room(&mut buffer)) {
                let (allowed, action) = self.state().seen(number, &buffer[..size]);
                if let Some(action) = action {
                    action();
                }
                // A registry that no longer reads may still have said why: the answer passes.
                if !carry.pass(&buffer[..allowed]) {
                    return;
                }
                if allowed < size {
                    if !self.stand_still() {
                        let _ = client.shutdown(Shutdown::Both);
                    }
                    return;
                }
            }
        });
    }

    /// Passes on what the registry answers, until one end closes.
    fn down(&self, number: usize, mut registry: &TcpStream, client: &TcpStream) {
        self.lanes[1].carry(client, |carry| {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(size @ 1..) = registry.read(carry.room(&mut buffer)) {
                let action = self.state().returned(number, size);
                if let Some(action) = action {
                    action();
                }
                if self.is_silent(number) {
                    self.stand_still();
                    return;
                }
                if !carry.pass(&buffer[..size]) {
                    return;
                }
            }
        });
    }

    /// Whether nothing passes on this connection, which yet is not closed.
    fn is_silent(&self, number: usize) -> bool {
        let mut state = self.state();
        let falls_silent = matches!(state.cut, Cut::Silence(_));
        falls_silent && state.find(number).is_some_and(|open| open.dead)
    }

    /// Where lines fall silent rather than break: stands still until the relay goes.
    fn stand_still(&self) -> bool {
        let mut state = self.state();
        if !matches!(state.cut, Cut::Silence(_)) {
            return false;
        }
        while !self.closing.load(Ordering::SeqCst) {
            state = self
                .closed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}

const BAD_GATEWAY: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\n\
    Content-Type: text/html\r\nContent-Length: 28\r\nConnection: close\r\n\r\n\
    <h1>502 Bad Gateway</h1>\r\n\r\n";

type Action = Box<dyn FnOnce() + Send>;

impl State {
    /// Counts what a client sent; yields how much of it may still pass, and what is to be done.
    fn seen(&mut self, number: usize, bytes: &[u8]) -> (usize, Option<Action>) {
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
            Cut::Never => size,
            Cut::Each(_) | Cut::Silence(_) => {
                let room = open.left.min(size);
                open.left -= room;
                room
            }
            Cut::All(sizes) | Cut::Outage { after: sizes, .. } => {
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
    fn returned(&mut self, number: usize, size: usize) -> Option<Action> {
        self.traffic.down += size as u64;
        // What does not get through is no answer.
        if let Some(open) = self.find(number).filter(|open| !open.dead) {
            open.framing.answer();
        }
        self.due()
    }

    /// What was to be done at a moment that has come.
    fn due(&mut self) -> Option<Action> {
        let (traffic, asked) = (self.traffic, self.asked);
        let due = self.due.take_if(|(moment, _)| match *moment {
            Moment::Sent(bytes) => traffic.up >= bytes,
            Moment::Answered(bytes) => traffic.down >= bytes,
            Moment::Asked(requests) => asked >= requests,
        });
        due.map(|(_, action)| action)
    }

    fn find(&mut self, number: usize) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.is(number))
    }

    fn has_request(&mut self, number: usize) -> bool {
        let open = self.find(number);
        open.is_some_and(|open| !open.framing.requests().is_empty())
    }

    /// Breaks the line of this connection, whose thread closes it when the last bytes are through,
    /// and those of all others if they break together.
    fn break_line(&mut self, number: usize) {
        self.cuts += 1;
        self.since = 0;
        let all = matches!(self.cut, Cut::All(_) | Cut::Outage { .. });
        if let Cut::Outage { answers, .. } = self.cut {
            self.answers = answers;
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
