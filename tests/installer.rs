//! Tests `install.sh`, which downloads a program from a release and verifies its checksum.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::archive::{Entry, gzip, tar_of};
use crate::support::fake::{self, FakeServer};
use crate::support::prelude::*;

const PROGRAM: &str = "#!/bin/sh\necho imgsync 1.2.3\n";

/// Returns the name of the archive with a program for this machine.
fn archive_name(program: &str) -> String {
    format!("{program}-{}-linux.tar.gz", std::env::consts::ARCH)
}

/// Returns an archive that contains a program, as `packaging/release.sh` writes it.
fn archive(program: &str) -> Vec<u8> {
    let entries = [
        Entry::new(program, PROGRAM),
        Entry::new("LICENSE-MIT", "MIT"),
    ];
    gzip(&tar_of(&entries))
}

/// Serves a release with an archive of `imgsync` and this list of checksums.
fn serve(checksums: String) -> FakeServer {
    serve_archive(archive_name("imgsync"), checksums)
}

fn serve_archive(name: String, checksums: String) -> FakeServer {
    FakeServer::start(move |request| match request.target.rsplit_once('/') {
        Some(("/latest/download" | "/download/v1.2.3", "SHA256SUMS")) => {
            fake::status(200).body(checksums.clone())
        }
        Some(("/latest/download" | "/download/v1.2.3", file)) if file == name => {
            fake::status(200).body(archive("imgsync"))
        }
        _ => fake::status(404),
    })
}

/// Returns the line of the archive in a list of checksums.
fn checksum_line() -> String {
    checksum_line_of(&archive_name("imgsync"))
}

fn checksum_line_of(name: &str) -> String {
    let digest = digest(&archive("imgsync"));
    let digest = digest.strip_prefix("sha256:").unwrap();
    format!("{digest}  {name}\n")
}

/// Returns a command that runs the installer, with these releases.
fn installer(releases: Option<&FakeServer>, home: &Path) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../install.sh");
    let mut command = Command::new("sh");
    command.arg(script).env("HOME", home).stdin(Stdio::null());
    command.env_remove("IMGSYNC_RELEASES");
    if let Some(server) = releases {
        command.env("IMGSYNC_RELEASES", format!("http://{}", server.address()));
    }
    command
}

#[test]
fn the_latest_and_a_named_release_are_installed() {
    let other = format!("{}  other.tar.gz\n", "0".repeat(64));
    let server = serve(other + &checksum_line());
    for version in [&[][..], &["--version", "1.2.3"], &["--version", "v1.2.3"]] {
        let scratch = Scratch::new();
        let folder = scratch.path("new/bin");
        let mut command = installer(Some(&server), scratch.root());
        command.arg("--dir").arg(&folder).args(version);
        let outcome = run(&mut command).succeeded();
        assert!(outcome.stderr.contains("installed imgsync 1.2.3 as "));
        assert!(outcome.stderr.contains("is not in PATH"), "{outcome}");
        let line = format!("downloading http://{}", server.address());
        assert!(outcome.stderr.contains(&line), "{outcome}");
        let program = folder.join("imgsync");
        let mode = program.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(must(&mut Command::new(&program)), "imgsync 1.2.3");
        // Nothing else is left in the folder.
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }
}

#[test]
fn an_archive_without_the_right_checksum_is_not_installed() {
    let wrong = checksum_line().replacen(|c: char| c.is_ascii_hexdigit(), "x", 1);
    // A name that contains the name of the archive is another file.
    let similar = checksum_line().replace("  ", "  other-");
    for (checksums, words) in [
        (wrong, "checksum of imgsync-"),
        (similar, "does not list imgsync-"),
    ] {
        let server = serve(checksums);
        let scratch = Scratch::new();
        let folder = scratch.folder("bin");
        let mut command = installer(Some(&server), scratch.root());
        run(command.arg("--dir").arg(&folder)).failed(1, &[words]);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}

#[test]
fn a_missing_release_or_address_is_named() {
    let server = serve(checksum_line());
    let scratch = Scratch::new();
    let mut command = installer(Some(&server), scratch.root());
    command.args(["--version", "9.9.9", "--dir"]);
    let address = format!("{}/download/v9.9.9/SHA256SUMS", server.address());
    let words = ["cannot download", &*address, "is there a release 9.9.9?"];
    run(command.arg(scratch.path("bin"))).failed(1, &words);

    let mut command = installer(None, scratch.root());
    command.arg("--dir").arg(scratch.path("bin"));
    run(&mut command).failed(1, &["not from a release", "IMGSYNC_RELEASES"]);
}

#[test]
fn macos_gets_its_own_archive_and_no_server() {
    let name = "imgsync-aarch64-macos.tar.gz";
    let server = serve_archive(name.to_owned(), checksum_line_of(name));
    let scratch = Scratch::new();
    let bin = scratch.folder("bin");
    let uname = bin.join("uname");
    std::fs::write(
        &uname,
        "#!/bin/sh\ncase $1 in -m) echo arm64 ;; *) echo Darwin ;; esac\n",
    )
    .unwrap();
    std::fs::set_permissions(&uname, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let installer = |program: &str| {
        let mut command = installer(Some(&server), scratch.root());
        command.env("PATH", &path).arg("--dir");
        run(command.arg(scratch.path("to")).arg(program))
    };
    installer("imgsync-server").failed(1, &["only for Linux"]);
    let outcome = installer("imgsync").succeeded();
    assert!(outcome.stderr.contains(name), "{outcome}");
    assert!(scratch.path("to/imgsync").exists());
}

#[test]
fn help_and_wrong_arguments_need_no_release() {
    let scratch = Scratch::new();
    let help = run(installer(None, scratch.root()).arg("--help")).succeeded();
    for word in [
        "--version VERSION",
        "--dir FOLDER",
        "imgsync-server",
        "checksum",
    ] {
        assert!(help.stdout.contains(word), "{word}: {help}");
    }
    for (argument, words) in [
        ("--to", "unknown argument --to; --help"),
        ("--dir", "--dir needs a value"),
    ] {
        run(installer(None, scratch.root()).arg(argument)).failed(1, &[words]);
    }
}

#[test]
fn another_program_with_the_name_is_reported() {
    let server = serve(checksum_line());
    let scratch = Scratch::new();
    let (first, second) = (scratch.folder("first"), scratch.folder("second"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{}:{path}", first.display(), second.display());
    let mut command = installer(Some(&server), scratch.root());
    command.arg("--dir").arg(&first).env("PATH", &path);
    let outcome = run(&mut command).succeeded();
    assert!(!outcome.stderr.contains("PATH"), "{outcome}");

    let mut command = installer(Some(&server), scratch.root());
    command.arg("--dir").arg(&second).env("PATH", &path);
    let outcome = run(&mut command).succeeded();
    let line = format!(
        "runs {}, which comes first in PATH",
        first.join("imgsync").display()
    );
    assert!(outcome.stderr.contains(&line), "{outcome}");
}
