//! A daemon that replays the responses of real ones.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::sync::Mutex;

use super::*;
use crate::image::{DaemonImageName, name};
use crate::report::ProgressTask;
use crate::transports::daemon::{
    DaemonAddress, DaemonImage, ImageStore, ReadImage, ReadMethod, find_at,
};
use crate::transports::testing::quiet;

/// Shows no progress.
fn no_task(_: ReadMethod) -> ProgressTask {
    ProgressTask::start(&quiet(), "", None)
}

/// The responses and the archive of a daemon.
#[derive(Clone, Default)]
struct DaemonScript {
    inspected: Option<Vec<u8>>,
    containerd: bool,
    /// The version of its API, if it reports one.
    api: Option<&'static str>,
    export: Vec<u8>,
    /// The number of bytes that an export announces and does not send.
    missing: usize,
}

struct FakeDaemon {
    folder: tempfile::TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeDaemon {
    fn start(script: DaemonScript) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, script) = (stream.unwrap(), script.clone());
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || {
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    let request = lines.next().unwrap().unwrap();
                    while !lines.next().unwrap().unwrap().is_empty() {}
                    let path = request.split(' ').nth(1).unwrap().to_owned();
                    heard.lock().unwrap().push(path.clone());
                    let (status, body) = answer(&script, &path);
                    let missing = if path.contains("/get") {
                        script.missing
                    } else {
                        0
                    };
                    let len = body.len() + missing;
                    let api = script.api.map(|api| format!("api-version: {api}\r\n"));
                    let api = api.unwrap_or_default();
                    let head = format!(
                        "HTTP/1.1 {status}\r\n{api}content-length: {len}\r\nconnection: close\r\n\r\n"
                    );
                    // The client may have closed the connection.
                    let _ = stream.write_all(&[head.as_bytes(), &body].concat());
                });
            }
        });
        Self { folder, requests }
    }

    async fn find(&self, name: &str) -> Result<DaemonImage, Error> {
        self.find_for(name, &[]).await
    }

    async fn find_for(&self, name: &str, platforms: &[&str]) -> Result<DaemonImage, Error> {
        let socket = self.folder.path().join("docker.sock");
        find_at(
            DaemonAddress::Socket(socket),
            &name.parse::<DaemonImageName>().unwrap(),
            &parse_platforms(platforms),
        )
        .await
    }

    fn requests(&self) -> Vec<String> {
        let mut requests = self.requests.lock().unwrap().clone();
        requests.sort();
        requests
    }
}

fn answer(script: &DaemonScript, path: &str) -> (&'static str, Vec<u8>) {
    let driver = if script.containerd {
        "io.containerd.snapshotter.v1"
    } else {
        "overlay2"
    };
    match (path, &script.inspected) {
        ("/info", _) => {
            let info = serde_json::json!({
                "DriverStatus": [["driver-type", driver]],
                "RegistryConfig": {
                    "InsecureRegistryCIDRs": ["10.0.0.0/8"],
                    "IndexConfigs": {"docker.io": {"Secure": true}, "lab:5000": {"Secure": false}},
                },
            });
            ("200 OK", info.to_string().into())
        }
        (path, Some(inspected)) if path.contains("/json") => ("200 OK", inspected.clone()),
        (path, Some(_)) if path.contains("/get") => ("200 OK", script.export.clone()),
        _ => (
            "404 Not Found",
            br#"{"message":"No such image: x"}"#.to_vec(),
        ),
    }
}

fn script(archive: &str, containerd: bool) -> DaemonScript {
    let read = |file: String| std::fs::read(recorded(&file)).unwrap();
    DaemonScript {
        inspected: Some(read(format!("{archive}.inspect.json"))),
        containerd,
        api: None,
        export: read(format!("{archive}.tar")),
        missing: 0,
    }
}

#[tokio::test]
async fn a_classic_store_tells_everything_but_the_bytes() {
    for archive in ["docker20-classic-store", "docker28-classic-store"] {
        let daemon = FakeDaemon::start(script(archive, false));
        let found = daemon.find("sample/app:v1").await.unwrap();
        assert_eq!(daemon.requests(), ["/images/sample%2Fapp:v1/json", "/info"]);
        assert_eq!(
            found.insecure_registries.as_ref().unwrap(),
            &["10.0.0.0/8", "lab:5000"]
        );
        let before = found.image().unwrap();
        assert_eq!(name::text(before.name.as_ref().unwrap()), "sample/app:v1");
        let ReadImage {
            image: after,
            blobs,
            ..
        } = found
            .read(&Spool::default(), packing(), skip_nothing(), no_task)
            .await
            .unwrap();
        check(&after, &blobs);
        let (ImageContent::Single(before), ImageContent::Single(after)) =
            (before.content, after.content)
        else {
            panic!("an index");
        };
        assert_eq!(before.config.digest, after.config.digest);
        let ids = |layers: &[Layer]| {
            layers
                .iter()
                .map(|it| it.source_digest().clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&before.layers), ids(&after.layers));
        // The export names the image ID, because the tag may have moved.
        let export = format!("/images/{}/get", after.config.digest);
        assert!(
            daemon.requests().contains(&export),
            "{:?}",
            daemon.requests()
        );
    }
}

/// Docker runs other programs to describe itself, so it is asked only if its store is not known.
#[tokio::test]
async fn a_daemon_with_one_store_is_not_asked_for_it() {
    for (api, is_asked) in [
        (Some("1.41"), false),
        (Some("1.42"), true),
        (Some("1.47"), true),
        (Some("1.48"), false),
    ] {
        let daemon = FakeDaemon::start(DaemonScript {
            api,
            ..script("docker20-classic-store", false)
        });
        let found = daemon.find("sample/app:v1").await.unwrap();
        assert!(matches!(found.store, ImageStore::Classic { .. }), "{api:?}");
        let requests = daemon.requests();
        let was_asked = requests.iter().any(|path| path == "/info");
        assert_eq!(was_asked, is_asked, "{api:?}");
        // Whoever connects to a registry asks later.
        assert_eq!(found.insecure_registries.is_some(), is_asked, "{api:?}");
    }
}

#[tokio::test]
async fn of_a_classic_store_only_what_is_needed_is_kept() {
    let daemon = FakeDaemon::start(script("docker20-classic-store", false));
    let found = daemon.find("sample/app:v1").await.unwrap();
    let last = found.diff_ids.last().unwrap().clone();
    let needed = last.clone();
    let unneeded: SkipLayer = Box::new(move |digest, _| *digest != needed);
    let ReadImage { image, blobs, .. } = found
        .read(&Spool::default(), packing(), unneeded, no_task)
        .await
        .unwrap();
    let ImageContent::Single(single) = image.content else {
        panic!("an index");
    };
    assert!(single.config.bytes.is_some());
    for layer in &single.layers {
        assert_eq!(
            blobs.get(layer.source_digest()).is_some(),
            *layer.source_digest() == last
        );
    }
}

#[tokio::test]
async fn a_containerd_store_tells_its_root_and_the_rest_by_export() {
    for (archive, id) in [
        ("docker28-containerd-store", "c66113554c42"),
        ("docker28-containerd-store-multi", "8bbc86d4701e"),
    ] {
        // Daemons before version 28 report no descriptor; the driver status names the store.
        let mut old = script(archive, true);
        let mut inspected: serde_json::Value =
            serde_json::from_slice(old.inspected.as_ref().unwrap()).unwrap();
        inspected.as_object_mut().unwrap().remove("Descriptor");
        old.inspected = Some(inspected.to_string().into());
        for script in [script(archive, true), old] {
            let daemon = FakeDaemon::start(script);
            let found = daemon.find(id).await.unwrap();
            let ImageStore::Containerd { root, .. } = &found.store else {
                panic!("a classic store");
            };
            assert_eq!(root.short(), id);
            assert!(found.image().is_none());
            assert_eq!(found.diff_ids.len(), 4);
            let ReadImage { image, blobs, .. } = found
                .read(&Spool::default(), packing(), skip_nothing(), no_task)
                .await
                .unwrap();
            check(&image, &blobs);
            assert_eq!(image.name, found.name);
        }
    }
}

#[tokio::test]
async fn an_export_that_breaks_off_is_an_error() {
    // The offset of the header of an entry in each archive.
    for (archive, header) in [
        ("docker20-classic-store", 5 * 512),
        ("docker28-containerd-store", 4 * 512),
    ] {
        let whole = script(archive, archive.contains("containerd"));
        let cut = |len: usize, tail: &[u8]| DaemonScript {
            export: [&whole.export[..len], tail].concat(),
            ..whole.clone()
        };
        for cut_off in [cut(header, b""), cut(header + 700, b"")] {
            let error = export_error(cut_off).await;
            assert!(
                matches!(error, Error::Truncated { .. }),
                "{archive}: {error}"
            );
        }
        let error = export_error(cut(header, br#"{"message":"no space left"}"#)).await;
        assert!(
            matches!(error, Error::EmbeddedError { .. }),
            "{archive}: {error}"
        );
        assert!(error.to_string().contains("no space left"), "{error}");
        let error = export_error(DaemonScript {
            missing: 3,
            ..cut(header, b"")
        })
        .await;
        assert!(matches!(error, Error::Read { .. }), "{archive}: {error}");
        assert!(error.to_string().contains("docker.sock"), "{error}");
    }
}

async fn export_error(script: DaemonScript) -> Error {
    let daemon = FakeDaemon::start(script);
    let found = daemon.find("sample/app:v1").await.unwrap();
    found
        .read(&Spool::default(), packing(), skip_nothing(), no_task)
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_missing_image_and_an_unreachable_daemon_are_reported() {
    let daemon = FakeDaemon::start(DaemonScript::default());
    let error = daemon.find("nope:v1").await.unwrap_err();
    assert_eq!(error.to_string(), "the Docker daemon has no image nope:v1");
    let gone = DaemonAddress::Socket("/nowhere/docker.sock".into());
    let error = find_at(gone, &"app".parse().unwrap(), &all_platforms())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::DaemonUnreachable {
                is_forbidden: false,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("unix:///nowhere/docker.sock"),
        "{error}"
    );
}

const ARM64_MANIFEST_HEX: &str = "cc0bde6b3f3dbe29706fc58c099423cf2bbca1439b1b682bc89933a31253fb93";

fn manifest_of(image: Image) -> String {
    match image.content {
        ImageContent::Single(single) => match single.origin {
            ManifestOrigin::Original(own) => own.digest.hex().to_owned(),
            other => panic!("{other:?}"),
        },
        ImageContent::Graph(graph) => graph.root.hex().to_owned(),
    }
}

/// One platform of several: the daemon exports only this one if it can, and the image is the same.
#[tokio::test]
async fn of_a_containerd_store_one_platform_goes() {
    let archive = "docker28-containerd-store-multi";
    for (api, asked) in [
        (None, false),
        (Some("1.47"), false),
        (Some("1.48"), true),
        (Some("1.52"), true),
    ] {
        let daemon = FakeDaemon::start(DaemonScript {
            api,
            ..script(archive, true)
        });
        let found = daemon
            .find_for("sample/multi:v1", &["linux/arm64"])
            .await
            .unwrap();
        assert_eq!(found.selected_root().unwrap().hex(), ARM64_MANIFEST_HEX);
        let ReadImage { image, blobs, .. } = found
            .read(&Spool::default(), packing(), skip_nothing(), no_task)
            .await
            .unwrap();
        check(&image, &blobs);
        assert_eq!(manifest_of(image), ARM64_MANIFEST_HEX);
        let requests = daemon.requests().join(" ");
        assert!(requests.contains("/json?manifests=true"), "{requests}");
        let query = "?platform=%7B%22architecture%22:%22arm64%22%2C%22os%22:%22linux%22%7D";
        assert_eq!(requests.contains(query), asked, "{api:?}: {requests}");
    }
}

#[tokio::test]
async fn of_several_platforms_the_index_goes_once_the_daemon_has_them() {
    let archive = "docker28-containerd-store-multi";
    for (api, asked) in [("1.51", 0), ("1.52", 2)] {
        let api = Some(api);
        let daemon = FakeDaemon::start(DaemonScript {
            api,
            ..script(archive, true)
        });
        let platforms = ["linux/arm64", "linux/amd64"];
        let found = daemon
            .find_for("sample/multi:v1", &platforms)
            .await
            .unwrap();
        assert!(found.selected_root().is_none());
        let ReadImage { image, blobs, .. } = found
            .read(&Spool::default(), packing(), skip_nothing(), no_task)
            .await
            .unwrap();
        check(&image, &blobs);
        assert!(manifest_of(image).starts_with("8bbc86d4701e"));
        let requests = daemon.requests().join(" ");
        assert_eq!(requests.matches("platform=").count(), asked, "{requests}");
    }
}

#[tokio::test]
async fn a_platform_that_the_daemon_lacks_is_said_before_any_export() {
    for (archive, containerd, there) in [
        (
            "docker28-containerd-store-multi",
            true,
            "linux/amd64, linux/arm64",
        ),
        ("docker20-classic-store", false, "linux/amd64"),
    ] {
        let daemon = FakeDaemon::start(script(archive, containerd));
        let error = daemon
            .find_for("sample/app:v1", &["linux/s390x"])
            .await
            .unwrap_err();
        assert!(matches!(error, Error::PlatformNotFound { .. }), "{error}");
        assert!(error.to_string().contains("linux/s390x"), "{error}");
        assert!(error.to_string().ends_with(there), "{error}");
        let requests = daemon.requests();
        assert!(!requests.iter().any(|path| path.ends_with("/get")));
    }
    let daemon = FakeDaemon::start(script("docker20-classic-store", false));
    daemon
        .find_for("sample/app:v1", &["linux/amd64"])
        .await
        .unwrap();
}
