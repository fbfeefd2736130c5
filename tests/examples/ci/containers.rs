//! Runs the commands of the pipelines for GitLab and Woodpecker, whose jobs run in the image
//! `docker:28`: its shell and its tools are those of busybox.

use serde::Deserialize;

use super::{Checkout, CiFixture, Variables, clean_command, parse};
use crate::support::docker::DockerDaemon;
use crate::support::prelude::*;

/// The folder in which the jobs install programs.
const PROGRAMS: &str = "/usr/local/bin/";

/// Top-level keys of `.gitlab-ci.yml` that are no jobs.
const GITLAB_KEYWORDS: [&str; 12] = [
    "after_script",
    "before_script",
    "cache",
    "default",
    "image",
    "include",
    "pages",
    "services",
    "spec",
    "stages",
    "variables",
    "workflow",
];

#[derive(Deserialize)]
struct GitlabJob {
    image: String,
    variables: Variables,
    before_script: Vec<String>,
    script: Vec<String>,
}

#[derive(Deserialize)]
struct Woodpecker {
    steps: Vec<WoodpeckerStep>,
}

#[derive(Deserialize)]
struct WoodpeckerStep {
    image: String,
    environment: Variables<WoodpeckerValue>,
    commands: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WoodpeckerValue {
    Secret { from_secret: String },
    Plain(String),
}

/// A container with the programs of the image `docker:28`, as a folder.
struct JobContainer {
    folder: PathBuf,
}

impl JobContainer {
    fn new(fixture: &CiFixture) -> Self {
        let folder = fixture.scratch.folder("container");
        for name in ["bin", "home", "tools"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let mut install = Command::new("busybox");
        must(install.args(["--install", "-s"]).arg(folder.join("tools")));
        let docker = must(Command::new("sh").args(["-c", "command -v docker"]));
        std::os::unix::fs::symlink(docker, folder.join("tools/docker")).unwrap();
        Self { folder }
    }

    /// Runs the commands of a job one after the other, until one fails.
    fn run(&self, lines: &[String], checkout: &Checkout, variables: &Variables) -> Outcome {
        let programs = format!("{}/bin/", self.folder.display());
        let script = lines.join("\n").replace(PROGRAMS, &programs);
        let mut command = clean_command(&self.folder.join("tools/sh"));
        command.args(["-e", "-c", &script]);
        command.current_dir(&checkout.folder);
        command.env("HOME", self.folder.join("home"));
        let path = format!("{programs}:{}/tools", self.folder.display());
        command
            .env("PATH", path)
            .env("CI_COMMIT_SHA", &checkout.commit);
        run(command.envs(variables))
    }
}

const REQUIRED_PROGRAMS: [&str; 3] = ["docker", "busybox", "openssl"];

#[test]
fn the_pipeline_for_gitlab_pushes_from_a_daemon_behind_tls() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let fixture = CiFixture::new();
    let started = DockerDaemon::start_with_tls(&fixture.scratch.folder("dind"));
    let Some((_daemon, endpoint)) = started else {
        return;
    };
    // A job has the service `docker` and its volume in this form.
    let certificates = endpoint.certificates.display().to_string();
    let text = fixture
        .filled_in("examples/ci/gitlab.yml")
        .replace("tcp://docker:2376", &endpoint.host)
        .replace("/certs/client", &certificates);
    let jobs: Variables<GitlabJob> = parse(&text);
    let (name, job) = jobs.first_key_value().expect("a job");
    assert!(!GITLAB_KEYWORDS.contains(&&**name), "{name} is no job");
    assert_eq!(job.image, "docker:28");

    let checkout = fixture.checkout("project", 3);
    let predefined = [
        ("CI_COMMIT_REF_SLUG", "main"),
        ("CI_PROJECT_DIR", checkout.folder.to_str().unwrap()),
        ("REGISTRY_USERNAME", "alice"),
        ("REGISTRY_PASSWORD", "secret"),
    ];
    let predefined = predefined.map(|(name, value)| (name.to_owned(), value.to_owned()));
    // GitLab expands variables in variables as a shell does.
    let exports = job.variables.iter();
    let exports = exports.map(|(name, value)| format!("export {name}=\"{value}\""));
    let lines = exports.chain(job.before_script.iter().chain(&job.script).cloned());
    let lines: Vec<_> = lines.collect();
    let container = JobContainer::new(&fixture);
    let outcome = container.run(&lines, &checkout, &predefined.into());
    outcome.succeeded();
    fixture.assert_tags(&[&*checkout.commit, "main"]);
    let cache = checkout.folder.join(".cache/imgsync");
    assert!(cache.is_dir(), "the cache is not in the project");
}

#[test]
fn the_pipeline_for_woodpecker_pushes() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let fixture = CiFixture::new();
    let pipeline: Woodpecker = parse(&fixture.filled_in("examples/ci/woodpecker.yml"));
    let [step] = &pipeline.steps[..] else {
        panic!("the pipeline has one step");
    };
    assert_eq!(step.image, "docker:28");
    let value = |value: &WoodpeckerValue| match value {
        WoodpeckerValue::Plain(value) => value.clone(),
        WoodpeckerValue::Secret { from_secret } => match &**from_secret {
            "registry_username" => "alice".to_owned(),
            "registry_password" => "secret".to_owned(),
            name => panic!("the head of the example does not name the secret {name}"),
        },
    };
    let variables = step.environment.iter();
    let variables = variables.map(|(name, text)| (name.clone(), value(text)));
    let checkout = fixture.checkout("project", 4);
    let image = DockerImage::existing(format!("app:{}", checkout.commit));
    let container = JobContainer::new(&fixture);
    let outcome = container.run(&step.commands, &checkout, &variables.collect());
    outcome.succeeded();
    fixture.assert_tags(&[&*checkout.commit, "latest"]);
    image.remove();
}
