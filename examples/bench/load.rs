//! Sends requests on many connections, and counts requests and bytes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::http::Connection;

/// Repeats a request on every connection for the duration `time`, and returns the number of requests
/// per second.
pub(super) fn requests_per_second(
    address: SocketAddr,
    method: &str,
    target: &str,
    connections: usize,
    time: Duration,
) -> f64 {
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n");
    let (request, is_head) = (request.as_bytes(), method == "HEAD");
    let count = count_in_threads(connections, time, |deadline| {
        let mut connection = Connection::open(address);
        let mut count = 0;
        while Instant::now() < deadline {
            let response = connection.send_prepared(request, is_head);
            assert_eq!(response.status, 200, "{target}");
            count += 1;
        }
        count
    });
    count as f64 / time.as_secs_f64()
}

/// Repeats a download on every connection for the duration `time`, and returns the MiB per second.
pub(super) fn mib_per_second(
    address: SocketAddr,
    target: &str,
    connections: usize,
    time: Duration,
) -> f64 {
    let began = Instant::now();
    let bytes = count_in_threads(connections, time, |deadline| {
        let mut connection = Connection::open(address);
        let mut bytes = 0;
        while Instant::now() < deadline {
            bytes += connection.get(target).len;
        }
        bytes
    });
    bytes as f64 / 1048576.0 / began.elapsed().as_secs_f64()
}

/// Runs `work` in several threads until the deadline, and returns the sum of the results.
fn count_in_threads(threads: usize, time: Duration, work: impl Fn(Instant) -> u64 + Sync) -> u64 {
    let deadline = Instant::now() + time;
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| work(deadline)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum()
    })
}
