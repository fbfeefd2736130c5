//! A line between a client and a registry: it records the requests, counts their bytes, and can
//! be told to break, again and again.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::framing::{Framing, Request};

/// When the line breaks. The sizes, in bytes from the client, are taken in turn, for ever.
#[derive(Debug, Clone)]
pub enum Cut {
    /// It does not.
    Never,
    /// Each connection on its own, after so many bytes.
    Each(Vec<u64>),
    /// All connections at once, after so many bytes on all of them together.
    All(Vec<u64>),
}

/// A relay on a loopback port.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    closing: AtomicBool,
    state: Mutex<State>,
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
    on_bytes: Option<(u64, Box<dyn FnOnce() + Send>)>,
    total: u64,
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
    fn cut(&self) {
        // It may be gone already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.registry.shutdown(Shutdown::Both);
    }
}

impl Relay {
    /// A relay before a registry.
    pub fn start(target: SocketAddr, cut: Cut) -> Self {
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
            on_bytes: None,
            total: 0,
        });
        let shared = Arc::new(Shared {
            closing: AtomicBool::new(false),
            state,
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
        self.shared.state().on_bytes = Some((bytes, Box::new(action)));
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
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection, to its end.
    fn serve(&self, client: TcpStream) {
        let target = self.state().target;
        // A registry that is down: the client finds its connection closed.
        let Ok(registry) = TcpStream::connect_timeout(&target, Duration::from_secs(10)) else {
            return;
        };
        let both = (client.try_clone(), registry.try_clone());
        let (Ok(to_client), Ok(from_registry)) = both else {
            return;
        };
        let Some(number) = self.open(&client, &registry) else {
            return;
        };
        let down = std::thread::spawn(move || {
            copy(from_registry, &to_client);
            let _ = to_client.shutdown(Shutdown::Write);
        });
        self.up(number, &client, &registry);
        let _ = registry.shutdown(Shutdown::Write);
        let _ = down.join();
        let mut state = self.state();
        let place = state
            .open
            .iter()
            .position(|open| open.framing.connection() == number);
        if let Some(place) = place {
            let open = state.open.remove(place);
            state.done.extend_from_slice(open.framing.requests());
        }
    }

    fn open(&self, client: &TcpStream, registry: &TcpStream) -> Option<usize> {
        let mut state = self.state();
        let number = state.connections;
        state.connections += 1;
        let left = match &state.cut {
            Cut::Each(sizes) => sizes[number % sizes.len()],
            Cut::Never | Cut::All(_) => u64::MAX,
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
    fn up(&self, number: usize, mut client: &TcpStream, mut registry: &TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(size @ 1..) = client.read(&mut buffer) {
            let (allowed, action) = self.state().seen(number, &buffer[..size]);
            if let Some(action) = action {
                action();
            }
            // A registry that no longer reads may still have said why: the answer passes.
            if registry.write_all(&buffer[..allowed]).is_err() {
                return;
            }
            if allowed < size {
                let _ = client.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

type Action = Box<dyn FnOnce() + Send>;

impl State {
    /// Counts what a client sent; yields how much of it may still pass, and what is to be done.
    fn seen(&mut self, number: usize, bytes: &[u8]) -> (usize, Option<Action>) {
        let size = bytes.len() as u64;
        self.total += size;
        let due = self.on_bytes.take_if(|(at, _)| self.total >= *at);
        let action = due.map(|(_, action)| action);
        let Some(open) = self
            .open
            .iter_mut()
            .find(|open| open.framing.connection() == number)
        else {
            return (0, action);
        };
        // All of it was sent, also what does not arrive.
        open.framing.take(bytes);
        if open.dead {
            return (0, action);
        }
        let room = match &self.cut {
            Cut::Never => size,
            Cut::Each(_) => {
                let room = open.left.min(size);
                open.left -= room;
                room
            }
            Cut::All(sizes) => {
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

    /// Breaks the line of this connection, whose thread closes it when the last bytes are through,
    /// and those of all others if they break together.
    fn break_line(&mut self, number: usize) {
        self.cuts += 1;
        self.since = 0;
        let all = matches!(self.cut, Cut::All(_));
        for open in &mut self.open {
            let own = open.framing.connection() == number;
            open.dead |= own || all;
            if all && !own {
                open.cut();
            }
        }
    }
}

fn copy(mut from: TcpStream, mut to: &TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..size]).is_err() {
            return;
        }
    }
}
