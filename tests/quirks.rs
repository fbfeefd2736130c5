//! Registries as they really are, and proxies before them: a push gets every blob through, whatever
//! they make of chunks, or says what stands in the way.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test may panic, and says what it skips"
)]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::docker::{self, unique};
use support::fake::{Reply, Request, status};
use support::peers::present;
use support::quirky::{Broken, Manners, Mounts, Quirky, Session};
use support::run::{Outcome, must, run, until};
use support::{
    Cut, DockerImage, Image, Imgsync, Relay, Scratch, Server, StockRegistry, archive, bytes, check,
    image,
};

/// Exit code, as `imgsync push --help` lists it.
const TARGET: i32 = 4;
const AUTH: i32 = 5;
const KIB: usize = 1024;

/// A user with an image of three layers, some hundred kilobytes each.
struct Stage {
    scratch: Scratch,
    imgsync: Imgsync,
    image: Image,
}

impl Stage {
    fn new() -> Self {
        let scratch = Scratch::new();
        let imgsync = Imgsync::new(&scratch.folder("home"));
        Self {
            imgsync,
            image: image_of(1),
            scratch,
        }
    }

    fn written(&self, name: &str, image: &Image) -> PathBuf {
        let path = self.scratch.path(name);
        archive::write_tar(&image.docker_archive("app:v1"), &path);
        path
    }

    /// Pushes the image in small chunks.
    fn push(&self, address: SocketAddr) -> Outcome {
        self.push_image(&self.image, address, "app:v1")
    }

    fn push_image(&self, image: &Image, address: SocketAddr, name: &str) -> Outcome {
        let path = self.written("image.tar", image);
        let options = ["--chunk-size", "128KiB", "--verbose"];
        let remote = format!("{address}/{name}");
        self.imgsync.push_with(&options, text(&path), &remote)
    }

    /// The image gets there, and no request makes no sense.
    fn gets_through(&self, registry: &Quirky) -> Outcome {
        let outcome = self.push(registry.address()).succeeded();
        let found = check::at_registry(registry.address(), "app:v1");
        assert_eq!(found.config, self.image.id(), "{outcome}");
        registry.assert_content();
        outcome
    }
}

fn image_of(seed: u64) -> Image {
    let sizes = [700, 500, 300].map(|size| size * KIB);
    let layers = sizes.iter().zip(seed * 10..);
    let layers = layers.map(|(size, seed)| image::layer("data", bytes::noise(seed, *size)));
    Image::new(layers.collect())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Registries whose manners these are take an image.
fn assert_takes(manners: Manners) -> Quirky {
    let registry = Quirky::start(manners);
    Stage::new().gets_through(&registry);
    registry
}

fn is_chunk(request: &Request) -> bool {
    request.header("content-range").is_some()
}

/// What a registry holds, as most of them say it.
fn held(bytes: usize) -> Option<String> {
    Some(format!("0-{}", bytes.saturating_sub(1)))
}

#[test]
fn a_patch_may_be_answered_with_any_success_and_locations_may_be_absolute() {
    for took in [200, 201, 202, 204] {
        let registry = assert_takes(Manners {
            took,
            is_absolute: took == 204,
            ..Manners::default()
        });
        assert!(registry.count("PATCH", "") > 4, "{took}");
        assert_eq!(registry.open_sessions(), 0);
    }
}

/// Amazon ECR: 201, and a Range that stays at the first chunk; what begins anew in a session is
/// refused.
#[test]
fn a_range_that_stays_at_the_first_chunk() {
    fn first_only(session: &Session) -> Option<String> {
        held(session.chunks.first().copied().unwrap_or_default())
    }
    for broken in [Broken::Nothing, Broken::Lost] {
        assert_takes(Manners {
            took: 201,
            says: first_only,
            breaks: vec![3, 6],
            broken,
            ..Manners::default()
        });
    }
}

/// The same: parts but the last have a least size, which nothing announces.
#[test]
fn parts_that_are_too_small() {
    fn too_small(request: &Request, session: &Session) -> Option<Reply> {
        let small = |len: &usize| *len < 400 * KIB;
        let refused = is_chunk(request) && session.chunks.iter().any(small);
        refused.then(|| status(400).body(r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}"#))
    }
    let registry = assert_takes(Manners {
        took: 201,
        refuses: too_small,
        ..Manners::default()
    });
    assert!(
        registry
            .seen()
            .iter()
            .any(|it| it.method == "PATCH" && !is_chunk(it))
    );
}

/// GitHub's: a large chunk is out of range.
#[test]
fn a_chunk_that_is_out_of_range_for_its_size() {
    fn too_large(request: &Request, _: &Session) -> Option<Reply> {
        let refused = is_chunk(request) && request.body.len() > 200 * KIB;
        refused.then(|| status(416))
    }
    assert_takes(Manners {
        refuses: too_large,
        ..Manners::default()
    });
}

/// Google's: one PATCH and no more, however that is said.
#[test]
fn a_second_chunk_is_refused() {
    macro_rules! refuses_with {
        ($status:literal) => {
            |_: &Request, session: &Session| (!session.chunks.is_empty()).then(|| status($status))
        };
    }
    let answers: [fn(&Request, &Session) -> Option<Reply>; 5] = [
        refuses_with!(400),
        refuses_with!(404),
        refuses_with!(405),
        refuses_with!(416),
        refuses_with!(501),
    ];
    const GONE: usize = 1;
    for (number, refuses) in answers.into_iter().enumerate() {
        for says in [
            (|session: &Session| held(session.bytes.len())) as fn(&Session) -> Option<String>,
            |_| Some("0-0".to_owned()),
            |_| None,
        ] {
            let stage = Stage::new();
            let registry = Quirky::start(Manners {
                refuses,
                says,
                ..Manners::default()
            });
            stage.gets_through(&registry);
            // It is remembered: the next push does not try chunks.
            let before = registry.seen().len();
            let other = image_of(2);
            let address = registry.address();
            stage.push_image(&other, address, "app:v2").succeeded();
            let found = check::at_registry(address, "app:v2");
            assert_eq!(found.config, other.id(), "{number}");
            registry.assert_content();
            let later = &registry.seen()[before..];
            let told = says(&Session::default()).is_some();
            // A session that is simply gone may be so for other reasons.
            if told || number != GONE {
                assert!(!later.iter().any(is_chunk), "{number}");
                assert_eq!(later.iter().filter(|it| it.method == "PATCH").count(), 4);
            }
        }
    }
}

#[test]
fn chunks_that_are_taken_and_not_put_together() {
    let registry = assert_takes(Manners {
        forgets: true,
        says: |session| held(session.chunks.iter().sum()),
        refuses: |_, _| None,
        ..Manners::default()
    });
    // Bytes that are gone before the PUT only arrive with the PUT.
    let puts = registry.seen();
    let with_bytes = |it: &&Request| it.method == "PUT" && it.target.contains("/uploads/");
    assert!(
        puts.iter()
            .filter(with_bytes)
            .any(|it| it.body.len() > 300 * KIB)
    );
}

/// No PATCH at all: one PUT brings a blob, and the next push knows.
#[test]
fn a_registry_without_patch() {
    macro_rules! refuses_with {
        ($status:literal) => {
            |_: &Request, _: &Session| Some(status($status))
        };
    }
    let answers: [fn(&Request, &Session) -> Option<Reply>; 3] =
        [refuses_with!(405), refuses_with!(404), refuses_with!(501)];
    for refuses in answers {
        let stage = Stage::new();
        let registry = Quirky::start(Manners {
            refuses,
            told: 405,
            ..Manners::default()
        });
        stage.gets_through(&registry);
        let before = registry.count("PATCH", "");
        let other = image_of(2);
        let address = registry.address();
        stage.push_image(&other, address, "app:v2").succeeded();
        assert_eq!(registry.count("PATCH", ""), before);
        registry.assert_content();
    }
}

/// JFrog's, in some places: what is not PATCHed is not taken.
#[test]
fn a_registry_that_takes_no_put_with_bytes() {
    let registry = assert_takes(Manners {
        takes_whole: false,
        ..Manners::default()
    });
    assert!(
        registry
            .seen()
            .iter()
            .filter(|it| it.method == "PATCH")
            .all(is_chunk)
    );
    let chunks_refused = |request: &Request, _: &Session| is_chunk(request).then(|| status(405));
    assert_takes(Manners {
        takes_whole: false,
        refuses: chunks_refused,
        ..Manners::default()
    });
}

/// Harbor's and zot's: what breaks is gone.
#[test]
fn a_session_that_goes_with_a_break() {
    let registry = assert_takes(Manners {
        breaks: vec![2, 5, 6, 9],
        broken: Broken::Lost,
        ..Manners::default()
    });
    assert!(
        registry
            .seen()
            .iter()
            .filter(|it| it.method == "PATCH")
            .all(is_chunk)
    );
}

/// Aliyun's Range counts from the last chunk; Gitea's counts one too many; some have none, or none
/// that is a range, or do not tell at all.
#[test]
fn a_state_that_is_wrong_or_not_told() {
    let answers: [fn(&Session) -> Option<String>; 5] = [
        |session| held(session.chunks.last().copied().unwrap_or_default()),
        |session| Some(format!("0-{}", session.bytes.len())),
        |session| Some(format!("bytes=0-{}", session.bytes.len() as i64 - 1)),
        |_| None,
        |_| Some("nonsense".to_owned()),
    ];
    let gets_through = |says, told, broken| {
        let registry = Quirky::start(Manners {
            says,
            told,
            breaks: vec![1, 4, 6],
            broken,
            ..Manners::default()
        });
        Stage::new().gets_through(&registry);
    };
    // At the same time: they wait most of it.
    std::thread::scope(|scope| {
        for says in answers {
            for broken in [Broken::Part, Broken::Nothing] {
                for told in [204, 405] {
                    scope.spawn(move || gets_through(says, told, broken));
                }
            }
        }
    });
}

fn nginx() -> Reply {
    let page = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n\
                <center><h1>413 Request Entity Too Large</h1></center>\r\n\
                <hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n";
    status(413).header("Server", "nginx/1.22.1").body(page)
}

fn openresty() -> Reply {
    status(413).body("<html><body><hr><center>openresty</center></body></html>")
}

/// The limit of a proxy is found, kept to, and known the next time: also where all that comes of a
/// large request is a reset.
#[test]
fn the_limit_of_a_proxy_is_found_once() {
    for (too_large, hangs_up) in [
        (nginx as fn() -> Reply, false),
        (nginx, true),
        (openresty, true),
        (|| status(413), true),
    ] {
        let stage = Stage::new();
        let registry = Quirky::start(Manners {
            most: Some(100_000),
            too_large,
            hangs_up,
            ..Manners::default()
        });
        stage.gets_through(&registry);
        let too_large = |requests: &[Request]| {
            let announced = requests.iter().map(|it| it.header("content-length"));
            let sizes = announced.flatten().map(|text| text.parse::<u64>());
            sizes.flatten().filter(|size| *size > 100_000).count()
        };
        let before = registry.seen();
        assert!(too_large(&before) > 0);
        let other = image_of(2);
        let address = registry.address();
        stage.push_image(&other, address, "app:v2").succeeded();
        registry.assert_content();
        assert_eq!(too_large(&registry.seen()[before.len()..]), 0);
    }
}

/// A limit below which no push is worth it: the error names who, how much, and the line to write.
#[test]
fn a_limit_that_is_too_low_is_explained() {
    type Case = (fn() -> Reply, &'static [&'static str]);
    let cases: [Case; 4] = [
        (nginx, &["nginx/1.22.1 before", "client_max_body_size 0;"]),
        (openresty, &["openresty before", "client_max_body_size 0;"]),
        (
            || status(413).header("Server", "cloudflare"),
            &["cloudflare before", "by plan"],
        ),
        (|| status(413), &["a proxy before", "client_max_body_size"]),
    ];
    for (too_large, words) in cases {
        let registry = Quirky::start(Manners {
            most: Some(10_000),
            too_large,
            ..Manners::default()
        });
        let stage = Stage::new();
        let outcome = stage.push(registry.address());
        let outcome = outcome.failed(TARGET, &["refuses a request of 65.5 kB", "hint:"]);
        outcome.failed(TARGET, words);
        // A handful of tries, each half as large as the one before.
        assert!(registry.count("PATCH", "") <= 6);
    }
}

#[test]
fn a_least_chunk_above_the_proxy_s_limit_is_explained() {
    let registry = Quirky::start(Manners {
        most: Some(150_000),
        too_large: nginx,
        chunk_min: Some(200 * 1024),
        ..Manners::default()
    });
    let outcome = Stage::new().push(registry.address());
    outcome.failed(
        TARGET,
        &["no chunks below 204.8 kB", "client_max_body_size 0;"],
    );
    assert!(registry.count("PATCH", "") <= 8);
}

#[test]
fn a_blob_that_may_neither_come_in_chunks_nor_as_a_whole_is_explained() {
    let registry = Quirky::start(Manners {
        most: Some(200_000),
        too_large: nginx,
        refuses: |request, _| is_chunk(request).then(|| status(405)),
        ..Manners::default()
    });
    let outcome = Stage::new().push(registry.address());
    outcome.failed(TARGET, &["only in one request", "client_max_body_size 0;"]);
}

/// A manifest cannot be cut in pieces.
#[test]
fn a_manifest_that_a_proxy_refuses_is_explained() {
    let registry = Quirky::start(Manners {
        most: Some(300),
        too_large: nginx,
        ..Manners::default()
    });
    let stage = Stage::new();
    let small = Image::new(vec![image::layer("data", b"hello".to_vec())]);
    let outcome = stage.push_image(&small, registry.address(), "app:v1");
    outcome.failed(TARGET, &["413", "client_max_body_size 0;"]);
}

/// A registry that never keeps what it takes: the push ends, with an error that says so.
#[test]
fn a_registry_that_forgets_for_ever() {
    let registry = Quirky::start(Manners {
        forgets: true,
        takes_whole: false,
        ..Manners::default()
    });
    Stage::new()
        .push(registry.address())
        .failed(TARGET, &["error: target"]);
    assert!(registry.seen().len() < 100);
    let registry = Quirky::start(Manners {
        refuses: |_, _| Some(status(404)),
        takes_whole: false,
        told: 404,
        ..Manners::default()
    });
    Stage::new()
        .push(registry.address())
        .failed(TARGET, &["error: target"]);
    assert!(registry.seen().len() < 100);
}

/// A registry that refuses every chunk after it has given a login is taken at its word: the second
/// time it is not the line that counts as broken.
#[test]
fn a_login_that_is_good_for_no_chunk() {
    let registry = Quirky::start(Manners {
        has_tokens: true,
        refuses: |request, _| {
            let host = request.header("host").unwrap_or_default();
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"x\"");
            Some(status(401).header("www-authenticate", challenge))
        },
        ..Manners::default()
    });
    let outcome = Stage::new().push(registry.address());
    let outcome = outcome.failed(AUTH, &["answered PATCH of an upload with 401"]);
    let chunks = registry.count("PATCH", "");
    assert!(chunks <= 2 * 4, "{chunks}: {outcome}");
}

/// A registry that was pushed to once, and another repository there.
fn pushed_twice(manners: Manners) -> (Stage, Quirky, Outcome) {
    let stage = Stage::new();
    let registry = Quirky::start(manners);
    let address = registry.address();
    stage
        .push_image(&stage.image, address, "team/base:v1")
        .succeeded();
    let before = registry.count("PATCH", "");
    let outcome = stage.push(address).succeeded();
    let found = check::at_registry(address, "app:v1");
    assert_eq!(found.config, stage.image.id());
    registry.assert_content();
    let sent = registry.count("PATCH", "") - before;
    assert_eq!(registry.mounted().len(), if sent > 3 { 0 } else { 3 });
    (stage, registry, outcome)
}

/// What an earlier push saw in another repository is linked, with a token that allows to read there.
#[test]
fn what_another_repository_holds_is_mounted() {
    for has_tokens in [false, true] {
        let (_, registry, outcome) = pushed_twice(Manners {
            mounts: Mounts::Yes,
            has_tokens,
            ..Manners::default()
        });
        assert_eq!(registry.mounted().len(), 3, "{outcome}");
        let text = "already there (";
        assert_eq!(outcome.stderr.matches(text).count(), 3, "{outcome}");
        assert!(
            outcome.stderr.contains("linked from team/base"),
            "{outcome}"
        );
        assert_eq!(registry.open_sessions(), 0);
    }
}

/// A registry that does not link opens sessions instead: they are used, and none is left.
#[test]
fn a_session_instead_of_a_mount_is_used() {
    let (_, registry, outcome) = pushed_twice(Manners {
        mounts: Mounts::No,
        ..Manners::default()
    });
    assert_eq!(registry.mounted().len(), 0, "{outcome}");
    // Four blobs, of which three were asked for.
    let posts = registry.seen();
    let opens = |it: &&Request| it.method == "POST" && it.target.contains("/uploads/");
    let posts: Vec<_> = posts.iter().filter(opens).collect();
    assert_eq!(posts.len(), 4 + 4, "{outcome}");
    assert_eq!(
        posts
            .iter()
            .filter(|it| it.target.contains("mount="))
            .count(),
        3
    );
    assert_eq!(registry.open_sessions(), 0);
}

#[test]
fn a_mount_that_is_refused_or_did_not_come_about_is_no_obstacle() {
    for mounts in [Mounts::Refused, Mounts::Lies] {
        let (_, registry, outcome) = pushed_twice(Manners {
            mounts,
            ..Manners::default()
        });
        assert_eq!(registry.mounted().len(), 0, "{outcome}");
    }
}

#[test]
fn a_dry_run_says_from_where_it_would_mount_and_does_not() {
    let stage = Stage::new();
    let registry = Quirky::start(Manners {
        mounts: Mounts::Yes,
        ..Manners::default()
    });
    let address = registry.address();
    stage
        .push_image(&stage.image, address, "team/base:v1")
        .succeeded();
    let before = registry.seen().len();
    let path = stage.written("image.tar", &stage.image);
    let remote = format!("{address}/app:v1");
    let plan = |options: &[&str]| {
        let outcome = stage.imgsync.push_with(options, text(&path), &remote);
        outcome.succeeded().stdout
    };
    let said = plan(&["--dry-run"]);
    let text = "would try to mount from team/base, else read";
    assert_eq!(said.matches(text).count(), 3, "{said}");
    let said: serde_json::Value = serde_json::from_str(&plan(&["--dry-run", "--json"])).unwrap();
    for layer in said["layers"].as_array().unwrap() {
        assert_eq!(layer["mount"], "team/base", "{said}");
        assert_eq!(layer["step"], "send", "{said}");
    }
    let later = &registry.seen()[before..];
    assert!(
        later
            .iter()
            .all(|it| it.method == "GET" || it.method == "HEAD" || it.target.contains("resolve"))
    );
}

/// Docker says where the image lies that it pulled or pushed: from there its layers are mounted, with
/// an empty cache, and nothing is exported.
#[test]
fn where_docker_knows_the_image_to_lie_it_is_mounted_from() {
    if !present(&["docker", "docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("root"));
    let address = stock.address();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let built = DockerImage::build(&unique("mounts"), "v1");
    let named = built.tag(format!("{address}/team/base:v1"));
    docker::docker(&["push", named.reference()]);

    let remote = format!("{address}/team/app:v1");
    let outcome = imgsync.push(built.reference(), &remote).succeeded();
    assert!(
        outcome.stderr.contains("linked from team/base"),
        "{outcome}"
    );
    assert!(outcome.stdout.contains(": sent 0 B"), "{outcome}");
    assert!(!outcome.stderr.contains("exporting"), "{outcome}");
    let found = check::at_registry(address, "team/app:v1");
    let base = check::at_registry(address, "team/base:v1");
    assert_eq!(found.config, base.config);
    assert_eq!(found.blobs, base.blobs, "{outcome}");
    stock.stop();
}

/// A process that does not outlive its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A push that was stopped, and not ended, holds up no other for ever; and goes on when it may.
#[test]
fn a_push_that_was_stopped_holds_up_no_other() {
    let stage = Stage::new();
    let server = Server::start(&stage.scratch.folder("root"));
    let relay = Relay::start(server.address(), Cut::Never);
    let path = stage.written("image.tar", &stage.image);
    let push = |options: &[&str], address: SocketAddr| {
        let mut command = stage.imgsync.command();
        command
            .args(["push", "--chunk-size", "64KiB"])
            .args(options);
        command.arg(&path).arg(format!("{address}/app:v1"));
        command.env("IMGSYNC_STALL_TIMEOUT", "1");
        command
    };
    let mut slow = push(&["--quiet", "--limit-rate", "200KiB"], relay.address());
    slow.stdout(Stdio::null());
    let mut slow = Ended(slow.spawn().expect("a push"));
    until("a chunk", || {
        let requests = relay.requests();
        let chunk = requests
            .iter()
            .any(|it| it.method == "PATCH" && it.complete);
        chunk.then_some(())
    });
    let id = slow.0.id().to_string();
    let signal = |name: &str| {
        must(Command::new("kill").args([name, &id]));
    };
    signal("-STOP");
    // The journal knows a registry by its address: the other push must go the same way.
    let other = run(&mut push(&[], relay.address())).succeeded();
    assert!(
        other.stderr.contains("another push is sending it"),
        "{other}"
    );
    let found = check::at_registry(server.address(), "app:v1");
    assert_eq!(found.config, stage.image.id());
    signal("-CONT");
    assert!(slow.0.wait().expect("its end").success());
    let found = check::at_registry(server.address(), "app:v1");
    assert_eq!(found.config, stage.image.id());
}
