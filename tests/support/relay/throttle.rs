//! The shape of a line: so many bytes a second, and so long on the way. Each direction has the whole
//! rate to itself; all connections share it.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So little is on the line at a time that connections take turns.
const PIECE: usize = 8 * 1024;

/// How a line is. The default one is as fast as this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttle {
    /// Bytes a second in each direction; `None` is no limit.
    pub bytes_per_second: Option<u64>,
    /// How long a byte is on the way; there and back takes twice that.
    pub delay: Duration,
    /// So many bytes in each direction pass before the rate counts.
    pub burst_bytes: u64,
}

impl Throttle {
    /// A line of 20 Mbit/s on which there and back takes 40 ms.
    pub fn dsl() -> Self {
        Self {
            bytes_per_second: Some(20_000_000 / 8),
            delay: Duration::from_millis(20),
            burst_bytes: 0,
        }
    }

    /// The least time in seconds that so many bytes take on their way in one direction.
    pub fn min_seconds(&self, bytes: u64) -> f64 {
        let sent = self.bytes_per_second.map_or(0.0, |rate| {
            bytes.saturating_sub(self.burst_bytes) as f64 / rate as f64
        });
        sent + self.delay.as_secs_f64()
    }
}

/// One direction of a line.
pub(super) struct Lane {
    shape: Throttle,
    state: Mutex<Busy>,
}

struct Busy {
    /// When all that was put on the line has left.
    free: Instant,
    /// Bytes that may still pass before the rate counts.
    quick: u64,
}

impl Lane {
    pub(super) fn new(shape: Throttle) -> Self {
        let state = Mutex::new(Busy {
            free: Instant::now(),
            quick: shape.burst_bytes,
        });
        Self { shape, state }
    }

    /// Waits for as long as a byte is on the way.
    pub(super) fn wait(&self) {
        std::thread::sleep(self.shape.delay);
    }

    /// Carries what `pass` is given to its end, late and slowly; ends when all of it is through.
    pub(super) fn carry(&self, to: &TcpStream, work: impl FnOnce(&Carry<'_>)) {
        if self.shape.bytes_per_second.is_none() && self.shape.delay.is_zero() {
            return work(&Carry {
                lane: self,
                way: Way::Straight(to),
            });
        }
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            scope.spawn(move || deliver(&receiver, to));
            work(&Carry {
                lane: self,
                way: Way::Late(sender),
            });
        });
    }

    /// Takes the line for so many bytes; yields when the last of them arrives. Waits until the line
    /// is free, so no more than a piece of each connection is on it.
    fn take(&self, bytes: usize) -> Instant {
        let (start, end) = {
            let mut busy = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let quick = busy.quick.min(bytes as u64);
            busy.quick -= quick;
            let slow = bytes as u64 - quick;
            let time = self
                .shape
                .bytes_per_second
                .map_or(0.0, |rate| slow as f64 / rate as f64);
            let start = busy.free.max(Instant::now());
            busy.free = start + Duration::from_secs_f64(time);
            (start, busy.free)
        };
        std::thread::sleep(start.saturating_duration_since(Instant::now()));
        end + self.shape.delay
    }
}

/// The end of a lane that bytes are put in at.
pub(super) struct Carry<'a> {
    lane: &'a Lane,
    way: Way<'a>,
}

enum Way<'a> {
    Straight(&'a TcpStream),
    Late(Sender<(Instant, Vec<u8>)>),
}

impl Carry<'_> {
    /// As much of a buffer as one read should fill.
    pub(super) fn room<'b>(&self, buffer: &'b mut [u8]) -> &'b mut [u8] {
        match self.way {
            Way::Straight(_) => buffer,
            Way::Late(_) => &mut buffer[..PIECE],
        }
    }

    /// Puts bytes on the line; `false` once the other end takes none any more.
    pub(super) fn pass(&self, bytes: &[u8]) -> bool {
        match &self.way {
            Way::Straight(to) => {
                let mut to: &TcpStream = to;
                to.write_all(bytes).is_ok()
            }
            Way::Late(sender) => {
                let arrives = self.lane.take(bytes.len());
                sender.send((arrives, bytes.to_vec())).is_ok()
            }
        }
    }
}

fn deliver(pieces: &Receiver<(Instant, Vec<u8>)>, mut to: &TcpStream) {
    for (arrives, bytes) in pieces {
        std::thread::sleep(arrives.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            return;
        }
    }
}
