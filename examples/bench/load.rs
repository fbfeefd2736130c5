//! Many requests at a time, counted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::http::Connection;

/// What was counted.
pub(super) struct Rate {
    pub(super) a_second: f64,
}

/// Asks the same on every connection for a while.
pub(super) fn requests_a_second(
    address: SocketAddr,
    method: &str,
    target: &str,
    connections: usize,
    time: Duration,
) -> Rate {
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n");
    let (request, is_head) = (request.as_bytes(), method == "HEAD");
    let count = counted(connections, time, |until| {
        let mut connection = Connection::open(address);
        let mut count = 0;
        while Instant::now() < until {
            let answer = connection.repeat(request, is_head);
            assert_eq!(answer.status, 200, "{target}");
            count += 1;
        }
        count
    });
    Rate {
        a_second: count as f64 / time.as_secs_f64(),
    }
}

/// Reads the same again and again on every connection for a while.
pub(super) fn mib_a_second(
    address: SocketAddr,
    target: &str,
    connections: usize,
    time: Duration,
) -> f64 {
    let began = Instant::now();
    let bytes = counted(connections, time, |until| {
        let mut connection = Connection::open(address);
        let mut bytes = 0;
        while Instant::now() < until {
            bytes += connection.get(target).len;
        }
        bytes
    });
    bytes as f64 / 1048576.0 / began.elapsed().as_secs_f64()
}

fn counted(threads: usize, time: Duration, work: impl Fn(Instant) -> u64 + Sync) -> u64 {
    let until = Instant::now() + time;
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(until))).collect();
        running
            .into_iter()
            .map(|it| it.join().expect("no panic"))
            .sum()
    })
}
