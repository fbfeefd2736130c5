//! Kills the processes of a push, as the action of a relay.

use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{Relay, Server};

/// Returns an action of the relay that kills the server behind it, starts it again, and counts the
/// kill. The port is another one: until the server runs again, another test may take the old one.
pub fn kill_server(
    server: &Arc<Mutex<Server>>,
    relay: &Relay,
    kills: &Arc<AtomicUsize>,
) -> impl FnOnce() + Send + use<> {
    let (server, target, kills) = (Arc::clone(server), relay.target(), Arc::clone(kills));
    move || {
        let mut server = server.lock().unwrap();
        target.disconnect();
        server.kill();
        server.restart();
        target.forward_to(server.address());
        kills.fetch_add(1, Ordering::SeqCst);
    }
}

/// Returns an action that kills the client and counts the kill, unless the client has ended already.
pub fn kill_client(
    client: &Arc<Mutex<Child>>,
    kills: &Arc<AtomicUsize>,
) -> impl FnOnce() + Send + use<> {
    let (client, kills) = (Arc::clone(client), Arc::clone(kills));
    move || {
        let mut client = client.lock().unwrap();
        let status = client.try_wait().expect("the status of the child");
        if status.is_none() {
            let _ = client.kill();
            kills.fetch_add(1, Ordering::SeqCst);
        }
    }
}
