//! Records two pushes on a terminal as an animated SVG, for the README.
//!
//! Starts a server, pushes a sample image and then a changed version of it, and writes what the
//! terminal shows. `examples/recording.sh` builds everything and runs this program.
#![allow(clippy::print_stdout, reason = "the example prints its result")]

mod animation;
#[path = "../quickstart/programs.rs"]
mod programs;
#[path = "../quickstart/sample.rs"]
mod sample;
mod screen;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use programs::{Server, program};
use screen::Recorder;

type Error = Box<dyn std::error::Error>;

/// The rate of the uploads, so that there is something to see.
const RATE: &str = "1500kB";
/// How long a command stays on the screen before it starts.
const PAUSE: Duration = Duration::from_millis(1200);
/// How long the last picture stays.
const LAST_PAUSE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let output = std::env::args_os().nth(1).map(PathBuf::from);
    let output = output.unwrap_or_else(|| PathBuf::from("docs/push.svg"));
    match record(&output) {
        Ok(()) => {
            println!("wrote {}", output.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("recording failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn record(output: &Path) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(&folder.path().join("registry"))?;
    let mut recorder = Recorder::new()?;
    for version in [1, 2] {
        let image = format!("app-v{version}.tar");
        sample::write(&folder.path().join(&image), version)?;
        let arguments = ["push", &image, &server.address, "--limit-rate", RATE];
        recorder.print(&format!("$ imgsync {}\r\n", arguments.join(" ")), PAUSE);
        let mut command = Command::new(program("imgsync")?);
        command.args(arguments).current_dir(folder.path());
        // The cache of earlier runs must not make this run faster.
        command.env("XDG_CACHE_HOME", folder.path().join("cache"));
        recorder.run(command)?;
    }
    recorder.print("$ ", LAST_PAUSE);
    std::fs::write(output, animation::to_svg(&recorder.pictures))?;
    Ok(())
}
