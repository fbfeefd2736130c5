//! Tests of the program for Windows under wine. `tests/targets.sh` builds the program and runs these
//! tests, so they are ignored otherwise.

mod interrupted;
mod logins;
mod paths;
mod pipe;

use crate::support::prelude::*;
use crate::support::wine;

/// A folder name with spaces, and with letters that no single code page of Windows has.
const FOLDER: &str = "Bilder für 漢字";

struct WindowsFixture {
    server: Server,
    imgsync: Imgsync,
    image: Image,
    /// Dropped last: the server must have stopped before its folder is deleted.
    scratch: Scratch,
}

impl WindowsFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let layers = [(1, 700_000), (2, 40_000)].map(|(seed, size)| layer("f", noise(seed, size)));
        Self {
            server: Server::start(&scratch.folder("root")),
            imgsync: Imgsync::new(&scratch.folder("home")),
            image: Image::new(layers.to_vec()),
            scratch,
        }
    }

    fn remote(&self, name: &str) -> String {
        format!("{}/{name}", self.server.address())
    }

    /// Returns the command, with the folders that a user of Windows has.
    fn command(&self) -> Command {
        let mut command = self.imgsync.command();
        command.env_remove("XDG_CACHE_HOME");
        command.env_remove("XDG_STATE_HOME");
        command.env_remove("DOCKER_HOST");
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        run(self.command().args(arguments))
    }

    /// Returns a folder of the user's profile, which is `C:\users\USER\Bilder für 漢字`.
    fn user_folder(&self) -> PathBuf {
        self.scratch.folder(&format!("home/{FOLDER}"))
    }

    /// Returns the path of a folder of the user's profile as Windows spells it.
    fn on_drive_c(&self, name: &str) -> String {
        format!(r"{}\{FOLDER}\{name}", wine::profile())
    }

    /// Writes the image as an archive and as a layout into the folder of the user's profile.
    fn write_image(&self) -> (PathBuf, PathBuf) {
        let (archive, layout) = (
            self.user_folder().join("image.tar"),
            self.user_folder().join("layout"),
        );
        archive::write_tar(&self.image.docker_archive("app:v1"), &archive);
        archive::write_folder(&self.image.oci_layout("v1"), &layout);
        (archive, layout)
    }

    /// Panics unless the registry has the image under this name.
    fn assert_pushed(&self, name: &str) {
        let found = check::at_registry(self.server.address(), name);
        assert_eq!(found.config, self.image.id(), "{name}");
    }
}

/// Returns the last event of a command with `--json`.
fn last_event(outcome: &Outcome) -> serde_json::Value {
    let line = outcome.stdout.lines().last().expect("an event");
    serde_json::from_str(line).expect("JSON")
}
