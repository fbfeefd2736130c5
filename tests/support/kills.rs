//! Kills the processes of a push, as the action of a relay.

use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::Server;

/// Returns an action that kills the server, starts it again on the same port, and counts the kill.
pub fn kill_server(
    server: &Arc<Mutex<Server>>,
    kills: &Arc<AtomicUsize>,
) -> impl FnOnce() + Send + use<> {
    let (server, kills) = (Arc::clone(server), Arc::clone(kills));
    move || {
        let mut server = server.lock().unwrap();
        server.kill();
        server.restart_on_same_port();
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
