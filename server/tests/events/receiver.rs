//! A receiver of events, which can be stopped and started again on its port.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fake::{FakeServer, Reply, Request, status};
use crate::reserved_port::ReservedPort;

/// How long a test waits for events.
const DEADLINE: Duration = Duration::from_secs(60);

/// Requests that the receiver has answered with 2xx.
type AcceptedRequests = Arc<Mutex<Vec<Request>>>;

/// A running receiver, stopped on drop.
pub(crate) struct EventReceiver {
    pub(crate) server: FakeServer,
    port: ReservedPort,
    accepted: AcceptedRequests,
}

impl EventReceiver {
    /// Starts a receiver that accepts everything.
    pub(crate) fn start() -> Self {
        Self::start_with(|_, _| status(200))
    }

    /// Starts a receiver that answers with `respond`, which gets the number of the request.
    pub(crate) fn start_with(
        respond: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_on(ReservedPort::new(), Arc::default(), respond)
    }

    fn start_on(
        port: ReservedPort,
        accepted: AcceptedRequests,
        respond: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        // The thread that accepts connections ends a moment after a receiver is stopped.
        let listener = wait_until(|| TcpListener::bind(port.address()).map_err(|e| e.to_string()));
        let (log, counter) = (Arc::clone(&accepted), Mutex::new(0));
        let server = FakeServer::start_at(listener, move |request| {
            let number = {
                let mut counter = counter.lock().unwrap();
                *counter += 1;
                *counter
            };
            let reply = respond(number, request);
            if reply.is_success() {
                log.lock().unwrap().push(request.clone());
            }
            reply
        });
        Self {
            server,
            port,
            accepted,
        }
    }

    /// Stops the receiver, and returns what [`StoppedReceiver::start`] needs.
    pub(crate) fn stop(self) -> StoppedReceiver {
        drop(self.server);
        StoppedReceiver {
            port: self.port,
            accepted: self.accepted,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/events", self.server.address())
    }

    /// Returns the accepted requests so far.
    pub(crate) fn accepted(&self) -> Vec<Request> {
        self.accepted.lock().unwrap().clone()
    }

    /// Returns the accepted events so far, in order, without those that came again.
    pub(crate) fn events(&self) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        for request in self.accepted() {
            let envelope: Value = serde_json::from_slice(&request.body).unwrap();
            let [event] = envelope["events"].as_array().unwrap().as_slice() else {
                panic!("{envelope}");
            };
            if events.iter().all(|known| known["id"] != event["id"]) {
                events.push(event.clone());
            }
        }
        events
    }

    /// Waits until a condition on the events holds, and returns the events.
    pub(crate) fn wait_for(&self, condition: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        wait_until(|| {
            let events = self.events();
            if condition(&events) {
                Ok(events)
            } else {
                Err(format!("{events:#?}"))
            }
        })
    }
}

/// A receiver that does not listen.
pub(crate) struct StoppedReceiver {
    port: ReservedPort,
    accepted: AcceptedRequests,
}

impl StoppedReceiver {
    /// Starts the receiver on its port again.
    pub(crate) fn start(
        self,
        respond: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
    ) -> EventReceiver {
        EventReceiver::start_on(self.port, self.accepted, respond)
    }
}

/// Calls `check` until it succeeds.
pub(crate) fn wait_until<T>(check: impl Fn() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match check() {
            Ok(found) => return found,
            Err(error) => assert!(began.elapsed() < DEADLINE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
