//! Tests of backups, through the programs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;

use crate::support::prelude::*;

fn backup_command(root: &Path, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
    command
        .arg("backup")
        .arg(folder)
        .arg("--root")
        .arg(root)
        .stdin(Stdio::null());
    command
}

/// Runs a backup, and returns its output and its exit code.
fn back_up(root: &Path, folder: &Path) -> (String, String, i32) {
    let output = backup_command(root, folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (text(output.stdout), text(output.stderr), code)
}

fn backed_up(root: &Path, folder: &Path) -> String {
    let (output, details, code) = back_up(root, folder);
    assert_eq!(code, 0, "{output}{details}");
    output
}

fn state(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("imgsync/backup-1")).unwrap_or_default()
}

/// Pulls every tag of every repository, with all blobs. Returns the number of tags.
async fn pull_all(server: &Server) -> usize {
    let json = |path: String| async move {
        let response = server.get(&path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json::<serde_json::Value>().await.unwrap()
    };
    let mut count = 0;
    let catalog = json("/v2/_catalog".to_owned()).await;
    for repository in catalog["repositories"].as_array().unwrap() {
        let repository = repository.as_str().unwrap();
        let tags = json(format!("/v2/{repository}/tags/list")).await;
        for tag in tags["tags"].as_array().unwrap() {
            let tag = tag.as_str().unwrap();
            let manifest = json(format!("/v2/{repository}/manifests/{tag}")).await;
            let layers = manifest["layers"].as_array().unwrap();
            for blob in layers.iter().chain([&manifest["config"]]) {
                let digest = blob["digest"].as_str().unwrap();
                let path = format!("/v2/{repository}/blobs/{digest}");
                let bytes = server.get(&path).await.bytes().await.unwrap();
                assert_eq!(Digest::of(&bytes).to_string(), digest);
            }
            count += 1;
        }
    }
    count
}

#[tokio::test]
async fn a_running_server_is_backed_up_and_the_backup_can_be_served() {
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = other.path().join("daily");
    let server = Server::start(root.path());
    server.push_image("team/app", "v1", "one").await;
    server.push_image("team/app", "v2", "two").await;
    let output = backed_up(root.path(), &folder);
    assert!(output.contains("1 repository, 2 tags"), "{output}");
    assert!(state(&folder).starts_with("complete "));
    // Hard links take no space.
    let blob = "docker/registry/v2/blobs/sha256";
    let is_linked = |entry: std::fs::DirEntry| {
        let data = std::fs::read_dir(entry.path()).unwrap().next().unwrap();
        let data = data.unwrap().path().join("data");
        data.metadata().unwrap().nlink() == 2
    };
    let mut blobs = std::fs::read_dir(folder.join(blob)).unwrap();
    assert!(blobs.all(|entry| is_linked(entry.unwrap())));

    server.push_image("other", "v1", "three").await;
    let output = backed_up(root.path(), &folder);
    assert!(output.contains("(3 hard links, 0 copies)"), "{output}");
    let restored = Server::start(&folder);
    assert_eq!(pull_all(&restored).await, 3);
    // The backup is a registry of its own now: the next one must not remove what is pushed to it.
    restored.push_image("mine", "v1", "four").await;
    let (_, details, code) = back_up(root.path(), &folder);
    assert_eq!(code, 1);
    assert!(details.contains("neither empty nor a backup"), "{details}");
    drop(restored);
    assert_eq!(pull_all(&Server::start(&folder)).await, 4);
    // The other registry does not notice.
    assert_eq!(pull_all(&server).await, 3);
}

#[tokio::test]
async fn a_backup_that_is_only_read_stays_a_backup() {
    let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = Server::start(root.path());
    server.push_image("a", "v1", "one").await;
    server.terminate();
    server.wait();
    backed_up(root.path(), folder.path());
    let read_only = [("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{enabled: true}")];
    let served = Server::start_with(folder.path(), &read_only);
    assert_eq!(pull_all(&served).await, 1);
    let (_, details, code) = back_up(root.path(), folder.path());
    assert_eq!(code, 1);
    assert!(details.contains("another imgsync-server uses"), "{details}");
    drop(served);
    backed_up(root.path(), folder.path());
}

#[tokio::test]
async fn a_backup_on_another_disk_is_a_copy() {
    let (Ok(root), folder) = (
        tempfile::tempdir_in("/dev/shm"),
        tempfile::tempdir().unwrap(),
    ) else {
        return;
    };
    let device = |path: &Path| path.metadata().unwrap().dev();
    if device(root.path()) == device(folder.path()) {
        return;
    }
    let server = Server::start(root.path());
    server.push_image("a", "v1", "one").await;
    let output = backed_up(root.path(), folder.path());
    assert!(output.contains("(0 hard links, 3 copies)"), "{output}");
    let output = backed_up(root.path(), folder.path());
    assert!(output.contains("(0 hard links, 0 copies)"), "{output}");
    assert_eq!(pull_all(&Server::start(folder.path())).await, 1);
}

#[tokio::test]
async fn a_killed_backup_is_incomplete_and_the_next_one_finishes_it() {
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(root.path());
    const IMAGES: usize = 40;
    for number in 0..IMAGES {
        let repository = format!("r{number}");
        server.push_image(&repository, "v1", &repository).await;
    }
    let mut interrupted = 0;
    for number in 0..3 {
        let folder = other.path().join(number.to_string());
        let mut process = backup_command(root.path(), &folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Another place at each time: after the tags of so many repositories.
        let repositories = folder.join("docker/registry/v2/repositories");
        let count = || std::fs::read_dir(&repositories).map_or(0, Iterator::count);
        while count() < number * 10 + 1 && process.try_wait().unwrap().is_none() {}
        process.kill().unwrap();
        process.wait().unwrap();
        interrupted += usize::from(!state(&folder).starts_with("complete"));
        let copy = other.path().join(format!("copy-{number}"));
        let copied = Command::new("cp").arg("-a").args([&folder, &copy]).status();
        assert!(copied.unwrap().success());
        let incomplete = Server::start(&copy);
        assert!(pull_all(&incomplete).await <= IMAGES);
        backed_up(root.path(), &folder);
        assert_eq!(pull_all(&Server::start(&folder)).await, IMAGES);
    }
    assert!(interrupted > 0);
}

#[tokio::test]
async fn no_garbage_is_collected_during_a_backup() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start_with(root.path(), &[("REGISTRY_IMGSYNC_GC_GRACE", "0s")]);
    let garbage = server.push_blob("a", b"garbage").await;
    let has_garbage = async || {
        let path = format!("/v2/a/blobs/{garbage}");
        server.get(&path).await.status() == StatusCode::OK
    };
    let collect = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
        command
            .arg("garbage-collect")
            .arg("--root")
            .arg(root.path());
        command.output().unwrap()
    };
    let mut lease = UnixStream::connect(root.path().join("imgsync/control-1")).unwrap();
    lease
        .write_all(b"{\"command\":\"pause-collection\"}\n")
        .unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(lease.try_clone().unwrap());
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"output\":\"paused\"}\n");
    let refused = collect();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("a backup"), "{text}");
    assert!(has_garbage().await);
    drop((lease, reader));
    while !collect().status.success() {}
    assert!(!has_garbage().await);
}

#[tokio::test]
async fn folders_that_are_no_backup_are_not_changed() {
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(root.path());
    server.push_image("a", "v1", "one").await;
    let file = other.path().join("file");
    std::fs::write(&file, "content").unwrap();
    let inside = root.path().join("backup");
    for (folder, text) in [
        (other.path(), "neither empty nor a backup"),
        (root.path(), "in the storage folder itself"),
        (&inside, "in the storage folder itself"),
        (&file.join("below"), "cannot"),
    ] {
        let (output, details, code) = back_up(root.path(), folder);
        assert_eq!((output.as_str(), code), ("", 1), "{details}");
        assert!(details.contains(text), "{details}");
    }
    assert!(!inside.exists() && !other.path().join("imgsync").exists());
    let missing = other.path().join("missing");
    let (_, details, code) = back_up(&missing, &other.path().join("backup"));
    assert_eq!(code, 1);
    assert!(details.contains("there is no registry in"), "{details}");
}

/// A part of the storage folder that is copied at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FolderPart {
    Tags,
    OtherLinks,
    Blobs,
}

impl FolderPart {
    fn of(path: &Path) -> Option<Self> {
        let path = path.to_str().unwrap();
        if path.contains("/_manifests/tags/") {
            return Some(Self::Tags);
        }
        let is_link = path.contains("/_manifests/") || path.contains("/_layers/");
        let is_blob = path.starts_with("docker/registry/v2/blobs/");
        is_link
            .then_some(Self::OtherLinks)
            .or(is_blob.then_some(Self::Blobs))
    }
}

/// Copies the files of one part, as rsync does with the options in docs/server.md.
fn copy_part(root: &Path, target: &Path, part: FolderPart) {
    let mut folders = vec![PathBuf::from("docker")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if root.join(&path).is_dir() {
                folders.push(path);
            } else if FolderPart::of(&path) == Some(part) {
                let copy = target.join(&path);
                std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
                std::fs::copy(root.join(&path), copy).unwrap();
            }
        }
    }
}

/// Copies the folder of a running server part by part, while images are pushed, and returns whether
/// all tags of the copy can be pulled.
async fn is_live_copy_complete(order: [FolderPart; 3]) -> bool {
    let (root, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(root.path());
    server.push_image("a", "v0", "zero").await;
    for (number, part) in order.into_iter().enumerate() {
        copy_part(root.path(), copy.path(), part);
        let word = format!("word {number}");
        server.push_image("a", "moving", &word).await;
        server
            .push_image("a", &format!("v{}", number + 1), &word)
            .await;
    }
    let copied = Server::start(copy.path());
    let listed: serde_json::Value = copied.get("/v2/a/tags/list").await.json().await.unwrap();
    assert!(listed["tags"].as_array().unwrap().contains(&"v0".into()));
    tokio::spawn(async move { pull_all(&copied).await })
        .await
        .is_ok()
}

#[tokio::test]
async fn a_live_folder_is_copied_with_the_tags_first_and_the_blobs_last() {
    use FolderPart::{Blobs, OtherLinks, Tags};
    assert!(is_live_copy_complete([Tags, OtherLinks, Blobs]).await);
    for wrong in [[Blobs, OtherLinks, Tags], [OtherLinks, Tags, Blobs]] {
        assert!(!is_live_copy_complete(wrong).await);
    }
}
