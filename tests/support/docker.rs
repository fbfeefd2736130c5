//! Docker: its client and daemon.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::run::must;

/// `docker …`, which must succeed; yields what it printed.
pub fn docker(arguments: &[&str]) -> String {
    must(Command::new("docker").args(arguments))
}

/// The command that prints an image as `docker save` does.
pub fn save(image: &str) -> Command {
    let mut command = Command::new("docker");
    command.args(["save", image]);
    command
}

/// An image in the daemon; removed when this goes.
pub struct DockerImage {
    reference: String,
}

impl DockerImage {
    /// Builds `tests/images/app` as `NAME:VERSION`. Other names share no layers with it.
    pub fn build(name: &str, version: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/images/build.sh");
        must(Command::new("bash").arg(script).args([name, version, name]));
        Self::known(format!("{name}:{version}"))
    }

    /// One that is there, or will be.
    pub fn known(reference: impl Into<String>) -> Self {
        Self {
            reference: reference.into(),
        }
    }

    /// Pulls one.
    pub fn pull(reference: impl Into<String>) -> Self {
        let image = Self::known(reference);
        docker(&["pull", image.reference()]);
        image
    }

    /// Gives it another name.
    pub fn tag(&self, reference: impl Into<String>) -> Self {
        let other = Self::known(reference);
        docker(&["tag", &self.reference, &other.reference]);
        other
    }

    /// What it is called.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Its ID.
    pub fn id(&self) -> String {
        docker(&["image", "inspect", "--format", "{{.Id}}", &self.reference])
    }

    /// What a container of it prints.
    pub fn prints(&self) -> String {
        docker(&["run", "--rm", "--network", "none", &self.reference])
    }

    /// Writes it to a file as `docker save` does.
    pub fn save(&self, path: PathBuf) -> PathBuf {
        let file = path.to_str().expect("a path in UTF-8");
        docker(&["save", "--output", file, &self.reference]);
        path
    }

    /// Takes it out of the daemon, with all layers that no other image has.
    pub fn remove(self) {
        drop(self);
    }
}

impl Drop for DockerImage {
    fn drop(&mut self) {
        let mut command = Command::new("docker");
        command.args(["image", "rm", "--force", &self.reference]);
        // A failing test may not have come as far as making it.
        let _ = command.output();
    }
}

/// A name that no other test has, nor any other run.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("imgsync-tests/{name}-{}-{count}", std::process::id())
}
