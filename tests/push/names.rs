//! Tests how images and targets are named on the command line: as with `docker push`.

use crate::support::prelude::*;

struct NamesFixture {
    scratch: Scratch,
    server: Server,
    imgsync: Imgsync,
}

impl NamesFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        Self {
            server: Server::start(&scratch.folder("root")),
            imgsync: Imgsync::new(&scratch.folder("home")),
            scratch,
        }
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        run(self.imgsync.command().args(arguments))
    }

    fn archive(&self) -> String {
        let path = self.scratch.path("app.tar");
        let image = Image::new(vec![layer("hello", b"world".to_vec())]);
        archive::write_tar(&image.docker_archive("app:v1"), &path);
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn the_forms_of_docker_push() {
    if !programs_available(&["docker"]) {
        return;
    }
    let fixture = NamesFixture::new();
    let name = unique("names");
    let image = DockerImage::build(&name, "v1");
    let host = fixture.server.address();
    let local = format!("{host}/{name}");
    let first = image.tag(format!("{local}:v1"));
    let _second = image.tag(format!("{local}:v2"));
    fixture.run(&["push", first.reference()]).succeeded();
    let pushed = check::at_registry(host, &format!("{name}:v1"));
    assert_eq!(pushed.config, image.id());

    // A tag that does not exist, and all that do.
    let missing = format!("{local}:v3");
    let hint = "hint: the image has these tags: v2, v1";
    fixture.run(&["push", &missing]).failed(3, &[hint]);
    let plan = fixture.run(&["push", "--all-tags", "--dry-run", &local]);
    assert_eq!(plan.succeeded().stdout.matches("saved ").count(), 2);
    let all = fixture.run(&["push", "--all-tags", &local]).succeeded();
    let totals = all.stdout.lines().last().unwrap();
    assert!(totals.starts_with("2 tags: sent "), "{all}");
    let second = check::at_registry(host, &format!("{name}:v2"));
    assert_eq!(second.manifest, pushed.manifest);
    // The tags of another local name, to a registry and to a repository.
    let remote = host.to_string();
    fixture.run(&["push", "-a", &name, &remote]).succeeded();
    let other = format!("{host}/other");
    fixture.run(&["push", "-a", &name, &other]).succeeded();
    check::at_registry(host, "other:v1");
    fixture
        .run(&["push", "-a", first.reference(), &other])
        .failed(2, &["a tag or digest is given"]);
    fixture
        .run(&["push", "-a", &format!("{other}-missing")])
        .failed(3, &["the Docker daemon has no image", "docker image ls"]);
}

#[test]
fn one_argument_must_name_a_registry() {
    let fixture = NamesFixture::new();
    let archive = fixture.archive();
    for (image, message) in [
        ("app:v1", "app:v1 names no registry to push to"),
        ("-", "the target of - is missing"),
        (&*archive, "app.tar is missing"),
    ] {
        let hint = format!("imgsync push {image} HOST[:PORT]");
        fixture.run(&["push", image]).failed(2, &[message, &hint]);
    }
    let all = fixture.run(&["push", "--all-tags", &archive, "localhost:1"]);
    all.failed(2, &["--all-tags needs an image in the local Docker"]);
}

#[test]
fn a_name_without_a_registry_is_docker_hub_and_needs_a_login_there() {
    let fixture = NamesFixture::new();
    let archive = fixture.archive();
    for arguments in [
        &["push", &*archive, "nas/team/app:v1"][..],
        &["push", "nas/team/app"],
    ] {
        fixture.run(arguments).failed(
            2,
            &[
                "nas/team/app means Docker Hub",
                "write docker.io/nas/team/app",
                "for example nas:5000/team/app",
            ],
        );
    }
    // With a login the push goes there. The proxy makes sure that it does not arrive.
    let mut command = fixture.imgsync.command();
    command.args(["push", &archive, "user/app"]);
    command
        .env("IMGSYNC_USERNAME", "user")
        .env("IMGSYNC_PASSWORD", "secret");
    command.env(
        "HTTPS_PROXY",
        format!("http://{}", fixture.server.address()),
    );
    run(&mut command).failed(6, &["cannot reach docker.io"]);
    fixture
        .run(&["mirror", "localhost:1/app", "nas/app"])
        .failed(2, &["docker.io/nas/app", "nas:443/app"]);
}

#[test]
fn a_target_without_a_tag_keeps_the_local_tag() {
    let fixture = NamesFixture::new();
    let (archive, host) = (fixture.archive(), fixture.server.address());
    let push = |remote: &str| {
        let remote = format!("{host}/{remote}");
        fixture.run(&["push", &archive, &remote]).succeeded();
    };
    push("team/app");
    check::at_registry(host, "team/app:v1");
    push("team/app:v2");
    check::at_registry(host, "team/app:v2");
    let tags = fixture
        .run(&["ls", &format!("{host}/team/app")])
        .succeeded();
    assert_eq!(tags.stdout, "v1\nv2\n");
    let url = format!("http://{host}/team/app:v3");
    fixture.run(&["push", &archive, &url]).succeeded();
    check::at_registry(host, "team/app:v3");
    fixture.run(&["rm", &url]).succeeded();
    fixture.run(&["ls", &format!("http://{host}/")]).succeeded();
}

#[test]
fn sizes_are_written_as_in_other_programs() {
    let fixture = NamesFixture::new();
    let (archive, host) = (fixture.archive(), fixture.server.address());
    let remote = format!("{host}/app:v1");
    for rate in ["1M", "1MB", "1MiB", "500k"] {
        let arguments = [
            "push",
            "--limit-rate",
            rate,
            "--chunk-size",
            "1GiB",
            &archive,
            &remote,
        ];
        fixture.run(&arguments).succeeded();
    }
    let arguments = ["push", "--limit-rate", "1 parsec", &archive, &remote];
    fixture
        .run(&arguments)
        .failed(2, &["for example 1M, 8MiB or 500kB"]);
}
