//! What happens, in order.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Failed, pull, sample};

/// The two versions of an image, as `imgsync push` takes them.
struct Versions {
    first: String,
    second: String,
    /// A Docker image to remove in the end.
    made: Option<String>,
}

pub(crate) fn run(image: Option<String>) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(&folder.path().join("registry"))?;
    println!("imgsync-server listens on {}\n", server.address);

    let versions = match &image {
        Some(image) => changed_by_docker(image)?,
        None => sample_versions(folder.path())?,
    };
    let repository = "quickstart/app";
    let target = |tag: &str| format!("{}/{repository}:{tag}", server.address);
    let done = push(
        folder.path(),
        "Everything is new",
        &versions.first,
        &target("v1"),
    )
    .and_then(|()| {
        push(
            folder.path(),
            "The same again",
            &versions.first,
            &target("v1"),
        )
    })
    .and_then(|()| {
        push(
            folder.path(),
            "One layer changed",
            &versions.second,
            &target("v2"),
        )
    });
    if let Some(made) = &versions.made {
        docker(&["rmi", made])?;
    }
    done?;

    for tag in ["v1", "v2"] {
        let pulled = pull::verified(&server.address, repository, tag)?;
        println!("pulled {} back: {pulled}", target(tag));
    }
    Ok(())
}

fn push(folder: &Path, title: &str, image: &str, target: &str) -> Result<(), Failed> {
    println!("{title}:\n$ imgsync push {image} {target}");
    let status = Command::new(program("imgsync")?)
        .args(["push", image, target])
        // What an earlier run learned shall not make this one look better.
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .status()?;
    if !status.success() {
        return Err(format!("imgsync ended with {status}").into());
    }
    println!();
    Ok(())
}

fn sample_versions(folder: &Path) -> Result<Versions, Failed> {
    let write = |version: u64| -> Result<String, Failed> {
        let path = folder.join(format!("sample-v{version}.tar"));
        sample::write(&path, version)?;
        Ok(path.display().to_string())
    };
    Ok(Versions {
        first: write(1)?,
        second: write(2)?,
        made: None,
    })
}

/// The image, and one with a file more on top.
fn changed_by_docker(image: &str) -> Result<Versions, Failed> {
    let changed = format!("imgsync-quickstart:changed-{}", std::process::id());
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "a change\n")?;
    let container = docker(&["create", image, "quickstart"])?;
    let source = file.path().display().to_string();
    let made = docker(&["cp", &source, &format!("{container}:/imgsync-quickstart")])
        .and_then(|_| docker(&["commit", &container, &changed]));
    docker(&["rm", &container])?;
    made?;
    Ok(Versions {
        first: format!("docker-daemon:{image}"),
        second: format!("docker-daemon:{changed}"),
        made: Some(changed),
    })
}

fn docker(arguments: &[&str]) -> Result<String, Failed> {
    let output = Command::new("docker")
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("docker does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("docker {} ended with {}", arguments[0], output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A program that was built together with this one, which lies in a folder below.
fn program(name: &str) -> Result<PathBuf, Failed> {
    let own = std::env::current_exe()?;
    let folder = own.ancestors().nth(2).ok_or("no folder of programs")?;
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    match path.exists() {
        true => Ok(path),
        false => Err(format!(
            "{} is missing: start examples/quickstart.sh",
            path.display()
        )
        .into()),
    }
}

/// A running server; it ends with this value.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(root: &Path) -> Result<Self, Failed> {
        let mut process = Command::new(program("imgsync-server")?)
            .args(["serve", "--addr", "127.0.0.1:0", "--root"])
            .arg(root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line
            .trim()
            .rsplit_once("http://")
            .map(|(_, address)| address.to_owned())
            .ok_or("imgsync-server did not say where it listens")?;
        Ok(Self { process, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is ending anyway, and its folder with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
