//! A TCP relay between a client and a registry. It records requests, counts bytes, throttles
//! connections, and injects faults: cut connections, stalled connections, and 502 responses.

mod state;
mod throttle;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::request_parser::ObservedRequest;
use state::State;
pub use state::{RelayFault, Traffic, Trigger};
pub use throttle::Throttle;
use throttle::ThrottledDirection;

/// The longest time to connect to the registry, which is on the same machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A running relay on a loopback port, stopped on drop.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    is_closing: AtomicBool,
    state: Mutex<State>,
    /// Wakes the threads of stalled connections when the relay is dropped.
    closed: Condvar,
    to_registry: ThrottledDirection,
    to_client: ThrottledDirection,
}

impl Relay {
    /// Starts a relay to a registry, without a throttle.
    pub fn start(target: SocketAddr, fault: RelayFault) -> Self {
        Self::start_throttled(target, fault, Throttle::default())
    }

    /// Starts a throttled relay to a registry.
    pub fn start_throttled(target: SocketAddr, fault: RelayFault, throttle: Throttle) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            is_closing: AtomicBool::new(false),
            state: Mutex::new(State::new(target, fault)),
            closed: Condvar::new(),
            to_registry: ThrottledDirection::new(throttle),
            to_client: ThrottledDirection::new(throttle),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.is_closing.load(Ordering::SeqCst) {
                    return;
                }
                let shared = accepting.clone();
                std::thread::spawn(move || shared.serve(client.expect("a connection")));
            }
        });
        Self { address, shared }
    }

    /// Returns the address for the client.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects new connections to another registry.
    pub fn forward_to(&self, target: SocketAddr) {
        self.shared.state().target = Some(target);
    }

    /// Returns a handle to change the registry, for an action of this relay.
    pub fn target(&self) -> RelayTarget {
        RelayTarget(Arc::downgrade(&self.shared))
    }

    /// Runs `action` once, when clients have sent this many bytes in total.
    pub fn run_after_bytes_sent(&self, bytes: u64, action: impl FnOnce() + Send + 'static) {
        self.run_at(Trigger::BytesSent(bytes), action);
    }

    /// Runs `action` once, when the trigger is reached. If it is already reached, runs the action
    /// with the next bytes. Replaces an earlier action that has not run.
    pub fn run_at(&self, trigger: Trigger, action: impl FnOnce() + Send + 'static) {
        self.shared.state().pending = Some((trigger, Box::new(action)));
    }

    /// Returns the bytes so far.
    pub fn traffic(&self) -> Traffic {
        self.shared.state().traffic
    }

    /// Returns the number of requests so far, including incomplete ones.
    pub fn request_count(&self) -> usize {
        self.shared.state().request_count
    }

    /// Returns how many faults the relay has injected.
    pub fn fault_count(&self) -> usize {
        self.shared.state().fault_count
    }

    /// Returns all requests so far.
    pub fn requests(&self) -> Vec<ObservedRequest> {
        self.shared.state().requests()
    }
}

/// The registry to which a relay connects new connections. Does nothing after the end of the relay,
/// which owns the actions that own this handle.
pub struct RelayTarget(Weak<Shared>);

impl RelayTarget {
    /// Connects new connections to this registry.
    pub fn forward_to(&self, target: SocketAddr) {
        self.set(Some(target));
    }

    /// Closes new connections at once, as if the registry were down.
    pub fn disconnect(&self) {
        self.set(None);
    }

    fn set(&self, target: Option<SocketAddr>) {
        if let Some(shared) = self.0.upgrade() {
            shared.state().target = target;
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_closing.store(true, Ordering::SeqCst);
        // `accept` returns only when a client connects.
        let _ = TcpStream::connect(self.address);
        self.shared.state().cut_all();
        self.shared.closed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a connection until it closes.
    fn serve(&self, client: TcpStream) {
        let target = {
            let mut state = self.state();
            if state.remaining_bad_gateways > 0 {
                state.remaining_bad_gateways -= 1;
                drop(state);
                return self.respond_bad_gateway(&client);
            }
            state.target
        };
        // If the registry is down, the client sees that its connection is closed.
        let registry = target.map(|target| TcpStream::connect_timeout(&target, CONNECT_TIMEOUT));
        let Some(Ok(registry)) = registry else {
            return;
        };
        let _ = (client.set_nodelay(true), registry.set_nodelay(true));
        let Some(number) = self.state().open(&client, &registry) else {
            return;
        };
        // The TCP handshake takes one round trip.
        self.to_registry.wait_for_delay();
        self.to_client.wait_for_delay();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                self.forward_responses(number, &registry, &client);
                let _ = client.shutdown(Shutdown::Write);
            });
            self.forward_requests(number, &client, &registry);
            let _ = registry.shutdown(Shutdown::Write);
        });
        self.state().close(number);
    }

    /// Responds to one request with 502, as a proxy does that cannot reach its registry.
    fn respond_bad_gateway(&self, mut client: &TcpStream) {
        let Some(number) = self.state().open(client, client) else {
            return;
        };
        let mut buffer = vec![0; 64 * 1024];
        let mut has_responded = false;
        // Read until the client closes the connection. Otherwise a TCP reset could discard the
        // response before the client reads it.
        while let Ok(size @ 1..) = client.read(&mut buffer) {
            let (_, action) = self.state().record_sent(number, &buffer[..size]);
            if let Some(action) = action {
                action();
            }
            let has_request = self.state().has_request(number);
            if has_request && !std::mem::replace(&mut has_responded, true) {
                let action = self.state().record_received(number, BAD_GATEWAY);
                if let Some(action) = action {
                    action();
                }
                let _ = client.write_all(BAD_GATEWAY);
                let _ = client.shutdown(Shutdown::Write);
            }
        }
        self.state().close(number);
    }

    /// Forwards bytes from the client until either side closes the connection or a fault occurs.
    fn forward_requests(&self, number: usize, mut client: &TcpStream, registry: &TcpStream) {
        self.to_registry.run(registry, |writer| {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(size @ 1..) = client.read(writer.limit(&mut buffer)) {
                let (allowed, action) = self.state().record_sent(number, &buffer[..size]);
                if let Some(action) = action {
                    action();
                }
                // The registry may have responded before it closed the connection, so responses are
                // still forwarded.
                if !writer.write(&buffer[..allowed]) {
                    return;
                }
                if allowed < size {
                    if !self.stall() {
                        let _ = client.shutdown(Shutdown::Both);
                    }
                    return;
                }
            }
        });
    }

    /// Forwards bytes from the registry until either side closes the connection.
    fn forward_responses(&self, number: usize, mut registry: &TcpStream, client: &TcpStream) {
        self.to_client.run(client, |writer| {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(size @ 1..) = registry.read(writer.limit(&mut buffer)) {
                let action = self.state().record_received(number, &buffer[..size]);
                if let Some(action) = action {
                    action();
                }
                if self.state().is_stalled(number) {
                    self.stall();
                    return;
                }
                if !writer.write(&buffer[..size]) {
                    return;
                }
            }
        });
    }

    /// With `RelayFault::Stall`, blocks until the relay is dropped and returns `true`. Otherwise
    /// returns `false` immediately.
    fn stall(&self) -> bool {
        let mut state = self.state();
        if !state.stalls() {
            return false;
        }
        while !self.is_closing.load(Ordering::SeqCst) {
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
