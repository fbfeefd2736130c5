//! The steps of the quick start.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::programs::{Server, program};
use crate::{Error, pull, sample};

/// Two versions of an image, as sources for `imgsync push`.
struct Versions {
    first: String,
    second: String,
    /// A Docker image that is removed at the end.
    temporary: Option<String>,
}

pub(crate) fn run(image: Option<String>) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(&folder.path().join("registry"))?;
    println!("imgsync-server listens on {}\n", server.address);

    let versions = match &image {
        Some(image) => docker_versions(image)?,
        None => sample_versions(folder.path())?,
    };
    let repository = "quickstart/app";
    let target = |tag: &str| format!("{}/{repository}:{tag}", server.address);
    let result = push(
        folder.path(),
        "Everything is new",
        &versions.first,
        &target("v1"),
    )
    .and_then(|()| {
        push(
            folder.path(),
            "The same image again",
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
    if let Some(image) = &versions.temporary {
        docker(&["rmi", image])?;
    }
    result?;

    for tag in ["v1", "v2"] {
        let description = pull::pull_and_verify(&server.address, repository, tag)?;
        println!("pulled {}: {description}", target(tag));
    }
    Ok(())
}

fn push(folder: &Path, title: &str, image: &str, target: &str) -> Result<(), Error> {
    println!("{title}:\n$ imgsync push {image} {target}");
    let status = Command::new(program("imgsync")?)
        .args(["push", image, target])
        // The cache of earlier runs must not make this run faster.
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .status()?;
    if !status.success() {
        return Err(format!("imgsync ended with {status}").into());
    }
    println!();
    Ok(())
}

fn sample_versions(folder: &Path) -> Result<Versions, Error> {
    let write = |version: u64| -> Result<String, Error> {
        let path = folder.join(format!("sample-v{version}.tar"));
        sample::write(&path, version)?;
        Ok(path.display().to_string())
    };
    Ok(Versions {
        first: write(1)?,
        second: write(2)?,
        temporary: None,
    })
}

/// Returns the image, and a new image with one more file.
fn docker_versions(image: &str) -> Result<Versions, Error> {
    let changed = format!("imgsync-quickstart:changed-{}", std::process::id());
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "a change\n")?;
    let container = docker(&["create", image, "quickstart"])?;
    let source = file.path().display().to_string();
    let result = docker(&["cp", &source, &format!("{container}:/imgsync-quickstart")])
        .and_then(|_| docker(&["commit", &container, &changed]));
    docker(&["rm", &container])?;
    result?;
    Ok(Versions {
        first: format!("docker-daemon:{image}"),
        second: format!("docker-daemon:{changed}"),
        temporary: Some(changed),
    })
}

fn docker(arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new("docker")
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run docker: {error}"))?;
    if !output.status.success() {
        return Err(format!("docker {} ended with {}", arguments[0], output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
