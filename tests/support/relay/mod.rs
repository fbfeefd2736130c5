//! A line between a client and a registry: it records the requests, counts the bytes both ways, and
//! can be told to break, to fall silent, to answer for the registry, or to be slow.

mod state;
mod throttle;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::request_parser::ObservedRequest;
use state::State;
pub use state::{RelayFault, Traffic, Trigger};
use throttle::Lane;
pub use throttle::Throttle;

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

impl Relay {
    /// A relay before a registry.
    pub fn start(target: SocketAddr, cut: RelayFault) -> Self {
        Self::start_throttled(target, cut, Throttle::default())
    }

    /// The same, with a line of this shape.
    pub fn start_throttled(target: SocketAddr, cut: RelayFault, shape: Throttle) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            closing: AtomicBool::new(false),
            state: Mutex::new(State::new(target, cut)),
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
    pub fn run_after_bytes_sent(&self, bytes: u64, action: impl FnOnce() + Send + 'static) {
        self.run_at(Trigger::BytesSent(bytes), action);
    }

    /// Runs `action` once, at that moment or as soon as something passes after it. It takes the
    /// place of an earlier one that is not yet due.
    pub fn run_at(&self, moment: Trigger, action: impl FnOnce() + Send + 'static) {
        self.shared.state().due = Some((moment, Box::new(action)));
    }

    /// What has passed so far.
    pub fn traffic(&self) -> Traffic {
        self.shared.state().traffic
    }

    /// How many requests have begun so far.
    pub fn request_count(&self) -> usize {
        self.shared.state().asked
    }

    /// How often the line broke.
    pub fn fault_count(&self) -> usize {
        self.shared.state().cuts
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<ObservedRequest> {
        self.shared.state().requests()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        self.shared.state().cut_all();
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
        let Some(number) = self.state().open(&client, &registry) else {
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
        self.state().close(number);
    }

    /// Answers one request as a proxy does that does not find its registry.
    fn answer(&self, mut client: &TcpStream) {
        let Some(number) = self.state().open(client, client) else {
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
            let has_begun = self.state().has_request(number);
            if has_begun && !std::mem::replace(&mut answered, true) {
                let action = self.state().returned(number, BAD_GATEWAY);
                if let Some(action) = action {
                    action();
                }
                let _ = client.write_all(BAD_GATEWAY);
                let _ = client.shutdown(Shutdown::Write);
            }
        }
        self.state().close(number);
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
                let action = self.state().returned(number, &buffer[..size]);
                if let Some(action) = action {
                    action();
                }
                if self.state().is_silent(number) {
                    self.stand_still();
                    return;
                }
                if !carry.pass(&buffer[..size]) {
                    return;
                }
            }
        });
    }

    /// Where lines fall silent rather than break: stands still until the relay goes.
    fn stand_still(&self) -> bool {
        let mut state = self.state();
        if !state.falls_silent() {
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
