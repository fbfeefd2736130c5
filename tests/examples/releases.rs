//! Tests the files of a release that `packaging/release.sh` writes, and the commands in the documents that
//! download and install them. The programs of the release only print their version.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use super::document::{Block, DOCUMENTS, blocks, read, top};
use crate::support::fake::{self, FakeServer};
use crate::support::prelude::*;

/// A program for both architectures: what `packaging/debian/build.sh` runs, and nothing else.
const PROGRAM: &str = "#!/bin/sh\ncase $1 in\n\
    --version) echo \"${0##*/} 0.1.0\" ;;\nman) echo page >\"$2/page.1\" ;;\nesac\n";

/// Folders in which the commands of the documents install programs, and those of the tests.
const INSTALL_FOLDERS: [(&str, &str); 2] = [
    ("/usr/local/bin", "$HOME/.local/bin"),
    ("/opt/imgsync/bin", "$HOME/opt"),
];

fn write_script(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The systems for which only the tool exists.
const OTHER_SYSTEMS: [&str; 4] = [
    "x86_64-macos",
    "aarch64-macos",
    "x86_64-windows",
    "aarch64-windows",
];

/// Programs, and the folder of the release that is made of them.
struct Release {
    scratch: Scratch,
}

impl Release {
    /// Creates the programs of these architectures.
    fn new(architectures: &[&str]) -> Self {
        let scratch = Scratch::new();
        for arch in architectures {
            for program in ["imgsync", "imgsync-server"] {
                write_script(&scratch.path("programs").join(arch).join(program), PROGRAM);
            }
        }
        let bin = scratch.folder("bin");
        // A script needs no emulator.
        for name in ["qemu-x86_64", "qemu-aarch64", "sudo"] {
            write_script(&bin.join(name), "#!/bin/sh\nexec \"$@\"\n");
        }
        // The installer of root would change the machine.
        write_script(&bin.join("id"), "#!/bin/sh\necho 1000\n");
        Self { scratch }
    }

    /// Adds everything else that a complete release has.
    fn complete(&self) {
        for system in OTHER_SYSTEMS {
            let extension = if system.ends_with("windows") {
                ".exe"
            } else {
                ""
            };
            let program = format!("programs/{system}/imgsync{extension}");
            write_script(&self.scratch.path(&program), PROGRAM);
        }
        std::fs::create_dir(self.output()).unwrap();
        for name in ["imgsync.cdx.json", "imgsync-server.cdx.json"] {
            std::fs::write(self.output().join(name), "{}").unwrap();
        }
    }

    fn output(&self) -> PathBuf {
        self.scratch.path("files")
    }

    /// Reads a file of the release.
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.output().join(name)).expect(name)
    }

    /// Returns the checksums of the release: the file names with the hex digests.
    fn checksums(&self) -> BTreeMap<String, String> {
        let sums = self.read("SHA256SUMS");
        let lines = sums.lines().map(|line| line.split_once("  ").unwrap());
        lines
            .map(|(sum, name)| (name.to_owned(), sum.to_owned()))
            .collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap();
        let (home, bin) = (self.scratch.folder("home"), self.scratch.path("bin"));
        let (own, installed) = (bin.display(), home.join(".local/bin"));
        command.env("PATH", format!("{own}:{}:{path}", installed.display()));
        command.env("HOME", home);
        command.env_remove("IMGSYNC_RELEASES").stdin(Stdio::null());
        command
    }

    /// Runs `packaging/release.sh` with more options.
    fn write(&self, releases: &str, options: &[&str]) -> Outcome {
        let mut command = self.command("bash");
        command.arg(top().join("packaging/release.sh"));
        command.args(["--releases", releases]).args(options);
        command
            .arg(self.scratch.path("programs"))
            .arg(self.output());
        run(command.env("DPKG_DEB_COMPRESSOR_TYPE", "none"))
    }
}

#[test]
fn an_incomplete_release_is_not_written_silently() {
    if !programs_available(&["dpkg-deb"]) {
        return;
    }
    let release = Release::new(&["x86_64"]);
    let missing = [
        "aarch64:",
        "aarch64-macos",
        "x86_64-windows",
        "SBOM imgsync.cdx.json",
        "SBOM imgsync-server",
    ];
    let refused = release.write("https://example.invalid", &["--complete"]);
    refused.failed(1, &missing);
    assert!(!release.output().exists(), "something was written");

    let outcome = release.write("https://example.invalid", &[]).succeeded();
    for word in missing.into_iter().chain(["WARNING"]) {
        assert!(outcome.stderr.contains(word), "{word}: {outcome}");
    }
    let names: BTreeSet<_> = release.checksums().into_keys().collect();
    let expected = [
        "imgsync-server-x86_64-linux",
        "imgsync-server-x86_64-linux.tar.gz",
        "imgsync-server_amd64.deb",
        "imgsync-x86_64-linux",
        "imgsync-x86_64-linux.tar.gz",
        "imgsync_amd64.deb",
        "install.sh",
    ];
    assert_eq!(names, BTreeSet::from(expected.map(str::to_owned)));
}

#[test]
fn a_release_has_archives_and_package_managers_for_macos_and_windows() {
    if !programs_available(&["dpkg-deb", "python3"]) {
        return;
    }
    let release = Release::new(&["x86_64", "aarch64"]);
    release.complete();
    let releases = "https://example.invalid/a&b/releases";
    let outcome = release.write(releases, &["--complete"]).succeeded();
    // Where ruby is installed, the script checks the syntax of the formula.
    if Command::new("ruby").arg("--version").output().is_ok() {
        assert!(outcome.stderr.contains("Syntax OK"), "{outcome}");
    }
    let checksums = release.checksums();
    let file = |name: &str| release.output().join(name);
    for system in OTHER_SYSTEMS {
        let listed = if system.ends_with("windows") {
            assert!(checksums.contains_key(&format!("imgsync-{system}.exe")));
            let archive = file(&format!("imgsync-{system}.zip"));
            let mut list = Command::new("python3");
            must(list.args(["-m", "zipfile", "-l"]).arg(archive))
        } else {
            assert!(checksums.contains_key(&format!("imgsync-{system}")));
            let archive = file(&format!("imgsync-{system}.tar.gz"));
            must(Command::new("tar").arg("-tzvf").arg(archive))
        };
        for name in ["imgsync", "LICENSE-MIT", "LICENSE-APACHE"] {
            assert!(listed.contains(name), "{system}: {listed}");
        }
    }

    let formula = release.read("imgsync.rb");
    let manifest = release.read("imgsync.json");
    assert!(!formula.contains('@') && !manifest.contains('@'));
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["version"], "0.1.0");
    for (arch, name) in [("64bit", "x86_64"), ("arm64", "aarch64")] {
        let name = format!("imgsync-{name}-windows.zip");
        let url = format!("{releases}/download/v0.1.0/{name}");
        let expected = serde_json::json!({"url": url, "hash": checksums[&name]});
        assert_eq!(manifest["architecture"][arch], expected);
    }
    for system in ["macos", "linux"] {
        for arch in ["x86_64", "aarch64"] {
            let name = format!("imgsync-{arch}-{system}.tar.gz");
            let url = format!("url \"{releases}/download/v0.1.0/{name}\"\n");
            let (_, rest) = formula.split_once(&url).expect(&formula);
            let sum = format!("sha256 \"{}\"", checksums[&name]);
            assert!(rest.trim_start().starts_with(&sum), "{formula}");
        }
    }
}

#[test]
fn the_commands_for_a_release_install_it_and_remove_it() {
    if !programs_available(&["curl", "dpkg-deb"]) {
        return;
    }
    let release = Release::new(&["x86_64", "aarch64"]);
    release.complete();
    let output = release.output();
    let server = FakeServer::start(move |request| {
        let path = request.target.strip_prefix("/latest/download/");
        let path = path.or_else(|| request.target.strip_prefix("/download/v0.1.0/"));
        match path.map(|name| std::fs::read(output.join(name))) {
            Some(Ok(bytes)) => fake::status(200).body(bytes),
            _ => fake::status(404),
        }
    });
    let releases = format!("http://{}", server.address());
    let outcome = release.write(&releases, &["--complete"]).succeeded();
    assert!(!outcome.stderr.contains("WARNING"), "{outcome}");

    let home = release.scratch.folder("home");
    let documents = DOCUMENTS.map(|path| blocks(&read(path)));
    let marked = |block: &&Block| block.has_mark("release");
    let scripts = documents.iter().flatten().filter(marked).map(|block| {
        let text = block.text.clone();
        let change = |text: String, (from, to): (&str, &str)| text.replace(from, to);
        INSTALL_FOLDERS.into_iter().fold(text, change)
    });
    let scripts: Vec<_> = scripts.collect();
    assert!(scripts.len() >= 3, "{scripts:?}");
    for (number, script) in scripts.iter().enumerate() {
        let mut shell = release.command("sh");
        shell.args(["-euxc", script]).env("RELEASES", &releases);
        run(shell.current_dir(release.scratch.folder("work"))).succeeded();
        if number == 0 {
            let program = home.join(".local/bin/imgsync-server");
            assert_eq!(must(&mut Command::new(program)), "");
            assert!(home.join("opt/imgsync").exists());
        }
    }
    assert!(home.join(".local/share/man/man1/page.1").exists());
    // The last block uninstalls the programs.
    assert!(!home.join(".local/bin/imgsync").exists());
}
