//! Measures garbage collections in a generated folder. Nothing is removed, so that each program finds
//! the same.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Kind;
use super::http::Connection;
use super::pushes::{bytes, push};
use super::servers::{STOCK_PROGRAM, imgsync_server_program, status_bytes, write_stock_config};
use super::table::{Row, mebibytes, row, seconds};

/// How often the memory of a process is read.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(2);

/// How long pulls and pushes are counted without a collection.
const QUIET_TIME: Duration = Duration::from_secs(2);
const PUSHED_BYTES: usize = 4096;

/// Measures the start of a server on a folder with `count` blobs, and collections with and without
/// it. The stock registry must not serve meanwhile.
pub(super) fn measure(kind: Kind, root: &Path, repository: &str, count: usize) -> Vec<Row> {
    let row = |name: &str, value| row(format!("{count} blobs: {name}"), value);
    let began = Instant::now();
    let Some(server) = kind.start(root) else {
        return Vec::new();
    };
    let mut rows = vec![row("start", seconds(began.elapsed()))];
    let target = format!("/v2/{repository}/manifests/v1");
    let rate = |pause: &dyn Fn()| {
        let load = Load::start(server.address(), &target);
        pause();
        format!("{:.0}/s", load.stop())
    };
    let quiet = rate(&|| std::thread::sleep(QUIET_TIME));
    rows.push(row("pulls of a manifest and pushes of 4 kB", quiet));
    let unknown = || "-".to_owned();
    let (mut busy, mut time, mut more) = (unknown(), unknown(), unknown());
    if kind == Kind::Imgsync {
        busy = rate(&|| {
            run(collect(kind, root, Path::new("")));
        });
        let memory = server.memory();
        time = seconds(run(collect(kind, root, Path::new(""))).0);
        more = mebibytes(server.peak_memory().saturating_sub(memory));
    }
    rows.push(row("the same during a collection", busy));
    rows.push(row("collection while serving", time));
    rows.push(row("collection while serving, memory in addition", more));
    drop(server);
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.yml");
    write_stock_config(&config, root, ([127, 0, 0, 1], 0).into());
    let (time, peak) = run(collect(kind, root, &config));
    rows.push(row("collection without a server", seconds(time)));
    rows.push(row(
        "collection without a server, peak memory",
        mebibytes(peak),
    ));
    rows
}

/// A client that pulls and pushes in turn until it is stopped.
struct Load {
    began: Instant,
    is_stopped: Arc<AtomicBool>,
    client: JoinHandle<u64>,
}

impl Load {
    fn start(address: SocketAddr, target: &str) -> Self {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (stop, target) = (Arc::clone(&is_stopped), target.to_owned());
        let client = std::thread::spawn(move || {
            let (mut connection, mut count) = (Connection::open(address), 0);
            while !stop.load(Ordering::Relaxed) {
                connection.get(&target);
                push(address, "pushed", &bytes(PUSHED_BYTES, count));
                count += 1;
            }
            count
        });
        Self {
            began: Instant::now(),
            is_stopped,
            client,
        }
    }

    /// Stops the client. Returns how often it pulled and pushed in a second.
    fn stop(self) -> f64 {
        self.is_stopped.store(true, Ordering::Relaxed);
        let count = self.client.join().expect("a count");
        count as f64 / self.began.elapsed().as_secs_f64()
    }
}

/// Returns the command that collects garbage, but removes nothing.
fn collect(kind: Kind, root: &Path, config: &Path) -> Command {
    let mut command = match kind {
        Kind::Imgsync => Command::new(imgsync_server_program()),
        Kind::Stock => Command::new(STOCK_PROGRAM),
    };
    command.args(["garbage-collect", "--dry-run"]);
    match kind {
        Kind::Imgsync => {
            let no_grace = ("REGISTRY_IMGSYNC_GC_GRACE", "0s");
            command.envs([no_grace]).arg("--root").arg(root)
        }
        Kind::Stock => command.arg(config),
    };
    command
}

/// Runs a command. Returns its time and its peak memory in bytes.
fn run(mut command: Command) -> (Duration, u64) {
    let (mut peak, began) = (0, Instant::now());
    let mut process = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    loop {
        peak = status_bytes(&process, "VmHWM:").map_or(peak, |bytes| bytes.max(peak));
        if let Some(status) = process.try_wait().expect("a status") {
            assert!(status.success(), "{command:?}: {status}");
            return (began.elapsed(), peak);
        }
        std::thread::sleep(SAMPLE_INTERVAL);
    }
}
