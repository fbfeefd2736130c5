//! Measures garbage collections in a generated folder. Nothing is removed, so that each program finds
//! the same.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Kind;
use super::servers::{STOCK_PROGRAM, imgsync_server_program, status_bytes, write_stock_config};
use super::table::{Row, mebibytes, row, seconds};

/// How often the memory of a process is read.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(2);

/// Measures the start of a server on a folder with `count` blobs, and collections with and without
/// it. The stock registry must not run meanwhile.
pub(super) fn measure(kind: Kind, root: &Path, count: usize) -> Vec<Row> {
    let row = |name: &str, value| row(format!("{count} blobs: {name}"), value);
    let began = Instant::now();
    let Some(server) = kind.start(root) else {
        return Vec::new();
    };
    let mut rows = vec![row("start", seconds(began.elapsed()))];
    let idle = server.memory();
    let served = match kind {
        Kind::Imgsync => {
            let (time, _) = run(collect(kind, root, Path::new("")));
            let more = server.peak_memory().saturating_sub(idle);
            (seconds(time), mebibytes(more))
        }
        Kind::Stock => ("-".to_owned(), "-".to_owned()),
    };
    rows.push(row("collection while serving", served.0));
    rows.push(row(
        "collection while serving, memory in addition",
        served.1,
    ));
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
