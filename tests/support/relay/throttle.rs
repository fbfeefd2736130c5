//! Limits the bandwidth of a relay and adds latency. Each direction has the full bandwidth; all
//! connections share it.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The size of one write. Small, so that connections take turns.
const MAX_WRITE_BYTES: usize = 8 * 1024;

/// Bandwidth and latency of a relay. The default has no limit and no delay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttle {
    /// The bandwidth in each direction. `None` is no limit.
    pub bytes_per_second: Option<u64>,
    /// The latency in each direction; a round trip takes twice as long.
    pub delay: Duration,
    /// The number of bytes in each direction before the bandwidth is limited.
    pub burst_bytes: u64,
}

impl Throttle {
    /// Returns a link of 20 Mbit/s with a round-trip time of 40 ms.
    pub fn dsl() -> Self {
        Self {
            bytes_per_second: Some(20_000_000 / 8),
            delay: Duration::from_millis(20),
            burst_bytes: 0,
        }
    }

    /// Returns the minimum time in seconds to send this many bytes in one direction.
    pub fn min_seconds(&self, bytes: u64) -> f64 {
        let seconds = self.bytes_per_second.map_or(0.0, |rate| {
            bytes.saturating_sub(self.burst_bytes) as f64 / rate as f64
        });
        seconds + self.delay.as_secs_f64()
    }
}

/// One direction of a throttled relay.
pub(super) struct ThrottledDirection {
    throttle: Throttle,
    schedule: Mutex<Schedule>,
}

struct Schedule {
    /// The time when all scheduled bytes are sent.
    free_at: Instant,
    /// Bytes left before the bandwidth is limited.
    burst_bytes: u64,
}

impl ThrottledDirection {
    pub(super) fn new(throttle: Throttle) -> Self {
        let schedule = Mutex::new(Schedule {
            free_at: Instant::now(),
            burst_bytes: throttle.burst_bytes,
        });
        Self { throttle, schedule }
    }

    /// Waits for the latency of this direction.
    pub(super) fn wait_for_delay(&self) {
        std::thread::sleep(self.throttle.delay);
    }

    /// Calls `work` with a throttled writer to `stream`. Returns when all bytes are written.
    pub(super) fn run(&self, stream: &TcpStream, work: impl FnOnce(&ThrottledWriter<'_>)) {
        if self.throttle.bytes_per_second.is_none() && self.throttle.delay.is_zero() {
            return work(&ThrottledWriter::Direct(stream));
        }
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            scope.spawn(move || write_delayed(&receiver, stream));
            work(&ThrottledWriter::Delayed {
                direction: self,
                sender,
            });
        });
    }

    /// Schedules bytes, and returns the time when the last of them arrives. Waits until the bytes
    /// before them are sent, so each connection has at most one write in flight.
    fn schedule(&self, bytes: usize) -> Instant {
        let (start, end) = {
            let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
            let unlimited = schedule.burst_bytes.min(bytes as u64);
            schedule.burst_bytes -= unlimited;
            let limited = bytes as u64 - unlimited;
            let seconds = self
                .throttle
                .bytes_per_second
                .map_or(0.0, |rate| limited as f64 / rate as f64);
            let start = schedule.free_at.max(Instant::now());
            schedule.free_at = start + Duration::from_secs_f64(seconds);
            (start, schedule.free_at)
        };
        std::thread::sleep(start.saturating_duration_since(Instant::now()));
        end + self.throttle.delay
    }
}

/// Writes to a connection, at once or with the delay of a throttle.
pub(super) enum ThrottledWriter<'a> {
    Direct(&'a TcpStream),
    Delayed {
        direction: &'a ThrottledDirection,
        sender: Sender<(Instant, Vec<u8>)>,
    },
}

impl ThrottledWriter<'_> {
    /// Returns the part of a buffer that one read may fill.
    pub(super) fn limit<'b>(&self, buffer: &'b mut [u8]) -> &'b mut [u8] {
        match self {
            Self::Direct(_) => buffer,
            Self::Delayed { .. } => &mut buffer[..MAX_WRITE_BYTES],
        }
    }

    /// Writes bytes. Returns `false` if the receiver has closed the connection.
    pub(super) fn write(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Direct(stream) => {
                let mut stream: &TcpStream = stream;
                stream.write_all(bytes).is_ok()
            }
            Self::Delayed { direction, sender } => {
                let arrival = direction.schedule(bytes.len());
                sender.send((arrival, bytes.to_vec())).is_ok()
            }
        }
    }
}

fn write_delayed(pieces: &Receiver<(Instant, Vec<u8>)>, mut stream: &TcpStream) {
    for (arrival, bytes) in pieces {
        std::thread::sleep(arrival.saturating_duration_since(Instant::now()));
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}
