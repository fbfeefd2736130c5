//! Measures what a rebuilt layer costs: the bytes that are sent, and the time of the push.
//!
//!     examples/bench/delta.sh [FOLDER] [KIND]…
//!
//! All programs run on this machine. A relay between client and registry counts the bytes of both
//! directions; for the slow link it is limited to 20 Mbit/s with a round-trip time of 40 ms. Compare
//! only times of one run.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a benchmark may panic and print"
)]

// The archives, images and the relay are those of the tests; the programs are those of `compare`.
#[allow(dead_code, unreachable_pub, reason = "not all of it is used here")]
#[path = "../../../tests/support/archive.rs"]
mod archive;
#[allow(dead_code, unreachable_pub, reason = "not all of it is used here")]
#[path = "../../../tests/support/bytes.rs"]
mod bytes;
#[allow(dead_code, reason = "not all of it is used here")]
#[path = "../compare/daemon.rs"]
mod daemon;
#[allow(dead_code, unreachable_pub, reason = "not all of it is used here")]
#[path = "../../../tests/support/image.rs"]
mod image;
#[allow(dead_code, reason = "not all of it is used here")]
#[path = "../compare/measure.rs"]
mod measure;
#[allow(dead_code, reason = "not all of it is used here")]
#[path = "../compare/registry.rs"]
mod registry;
#[allow(dead_code, unreachable_pub, reason = "not all of it is used here")]
#[path = "../../../tests/support/relay/mod.rs"]
mod relay;
#[allow(dead_code, unreachable_pub, reason = "not all of it is used here")]
#[path = "../../../tests/support/request_parser.rs"]
mod request_parser;

mod bytes_table;
mod pair;
mod push;
mod rsync;
mod times_table;

use std::path::PathBuf;

use self::pair::Pair;

/// The start of the kinds whose times are measured, if they are among the pairs: the most frequent change.
const TIMED_KIND: &str = "venv";

fn main() {
    let mut words = std::env::args().skip(1);
    let folder = PathBuf::from(words.next().expect("the folder of the pairs"));
    let kinds: Vec<String> = words.collect();
    let scratch = tempfile::tempdir_in(&folder).expect("a folder");
    let pairs = Pair::find(&folder, &kinds, scratch.path());
    bytes_table::print(&pairs);
    println!();
    for pair in &pairs {
        if pair.kind.starts_with(TIMED_KIND) || kinds.len() == 1 {
            times_table::print(pair);
        }
    }
}
