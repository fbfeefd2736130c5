//! Tests pushes from Docker's classic store that read only the layers that are missing: the tool
//! lets the daemon push them to a registry of its own on the loopback interface.

mod harm;
mod kills;
mod layers;
mod traces;

use super::SourcesFixture;
use crate::support::archive::Entry;
use crate::support::bytes::mixed;
use crate::support::docker::DockerDaemon;
use crate::support::prelude::*;

/// Docker: the daemon of this machine, or one of the test.
#[derive(Clone, Copy)]
struct Engine<'a>(Option<&'a DockerDaemon>);

/// The daemon of this machine.
const MACHINE: Engine<'static> = Engine(None);

impl Engine<'_> {
    fn command(self) -> Command {
        self.0
            .map_or_else(|| Command::new("docker"), DockerDaemon::command)
    }

    fn docker(self, arguments: &[&str]) -> String {
        must(self.command().args(arguments))
    }

    fn id(self, name: &str) -> String {
        self.docker(&["image", "inspect", "--format", "{{.Id}}", name])
    }

    /// Returns the tool, which reads from this daemon.
    fn imgsync(self, imgsync: &Imgsync) -> Command {
        let mut command = imgsync.command();
        let address = self.0.map(|daemon| ("DOCKER_HOST", daemon.address()));
        command.envs(address);
        command
    }

    /// Runs `imgsync push OPTIONS… IMAGE REMOTE`.
    fn push(self, imgsync: &Imgsync, options: &[&str], image: &str, remote: &str) -> Outcome {
        let mut command = self.imgsync(imgsync);
        run(command.arg("push").args(options).args([image, remote]))
    }

    /// Builds `name` from scratch: one layer for each file, and an environment variable. An image
    /// that had the name before loses it.
    fn build(self, scratch: &Scratch, name: &str, files: &[Entry], variable: &str) {
        let folder = scratch.folder(&unique("context").replace('/', "-"));
        let mut dockerfile = "FROM scratch\nCMD [\"none\"]\n".to_owned();
        for file in files {
            let path = folder.join(&file.name);
            std::fs::write(&path, &file.bytes).expect("a file");
            let written = std::fs::File::open(&path).expect("the file");
            written
                .set_modified(std::time::SystemTime::UNIX_EPOCH)
                .expect("the time");
            dockerfile.push_str(&format!("COPY {0} /{0}\n", file.name));
        }
        dockerfile.push_str(&format!("ENV VARIABLE={variable}\n"));
        std::fs::write(folder.join("Dockerfile"), dockerfile).expect("the Dockerfile");
        let mut command = self.command();
        command.env("DOCKER_BUILDKIT", "0");
        command.args(["build", "--quiet", "--network", "none", "--tag", name]);
        must(command.arg(folder));
    }

    /// Panics if a tag or a container of a push of this image is left in the daemon.
    fn assert_no_traces(self, image: &str) {
        let tags = self.docker(&["inspect", "--format", "{{.RepoTags}}", image]);
        assert!(!tags.contains("imgsync/push"), "{tags}");
        let ancestor = format!("ancestor={image}");
        let containers = self.docker(&["ps", "--all", "--quiet", "--filter", &ancestor]);
        assert_eq!(containers, "");
    }

    /// Builds the image again and pushes it. Panics unless only `changed` layers are read, and
    /// unless a dry run has said so and done nothing.
    fn push_changed(
        self,
        fixture: &SourcesFixture,
        name: &str,
        files: &[Entry],
        step: usize,
        changed: usize,
    ) {
        self.build(&fixture.scratch, name, files, &step.to_string());
        let id = self.id(name);
        let expected = format!("reading {changed} of {} layers", files.len());
        self.assert_dry_run_says(fixture, name, &expected);
        let remote = fixture.remote("app");
        let outcome = self.push(&fixture.imgsync, &["-v"], name, &remote);
        let outcome = outcome.succeeded();
        assert_eq!(fixture.check_image("app").config, id, "{outcome}");
        assert!(outcome.stderr.contains(&expected), "{outcome}");
        assert!(!outcome.stderr.contains("exporting"), "{outcome}");
        self.assert_no_traces(&id);
    }

    /// Panics unless a dry run prints `expected`, and leaves the image alone.
    fn assert_dry_run_says(self, fixture: &SourcesFixture, image: &str, expected: &str) {
        let now = || {
            let time = std::time::SystemTime::now();
            let time = time.duration_since(std::time::SystemTime::UNIX_EPOCH);
            format!("{:.6}", time.expect("the time").as_secs_f64())
        };
        let since = now();
        let remote = fixture.remote("app");
        let outcome = self.push(&fixture.imgsync, &["--dry-run"], image, &remote);
        let outcome = outcome.succeeded();
        assert!(outcome.stdout.contains(expected), "{outcome}");
        let filter = format!("image={}", self.id(image));
        let arguments = ["events", "--since", &since, "--until", &now()];
        let events = self.docker(&[&arguments[..], &["--filter", &filter]].concat());
        assert_eq!(events, "", "{outcome}");
    }
}

/// Returns one file for each pair of a seed and a size.
fn files(contents: &[(u64, usize)]) -> Vec<Entry> {
    let contents = contents.iter().enumerate();
    let file = |(position, (seed, size)): (usize, &(u64, usize))| {
        Entry::new(format!("file{position}"), mixed(*seed, *size))
    };
    contents.map(file).collect()
}

/// Returns the number in a variable: how often a test repeats what it does.
fn repetitions(variable: &str, default: usize) -> usize {
    let number = std::env::var(variable);
    number.map_or(default, |text| text.parse().expect("a number"))
}
