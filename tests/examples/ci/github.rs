//! Runs the steps of the workflow and of the action for GitHub.

use std::os::unix::process::CommandExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;

use super::{Checkout, CiFixture, LARGE_LAYER, Variables, clean_command, parse};
use crate::support::prelude::*;
use crate::support::run::run_watched;

#[derive(Deserialize)]
struct Workflow {
    jobs: Variables<Job>,
}

#[derive(Deserialize)]
struct Job {
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Action {
    inputs: Variables<Input>,
    outputs: Variables<Output>,
    runs: Job,
}

#[derive(Deserialize)]
struct Input {
    default: Option<String>,
}

#[derive(Deserialize)]
struct Output {
    value: String,
}

#[derive(Deserialize)]
struct Step {
    id: Option<String>,
    uses: Option<String>,
    run: Option<String>,
    #[serde(default)]
    with: Variables,
    #[serde(default)]
    env: Variables,
}

/// A machine that runs one job, with an empty home.
struct Runner<'a> {
    folder: PathBuf,
    checkout: &'a Checkout,
    /// The values of expressions, such as `github.sha`.
    values: Variables,
    /// When it becomes true, all processes of the job are killed.
    is_cancelled: Arc<AtomicBool>,
}

impl<'a> Runner<'a> {
    fn new(fixture: &CiFixture, checkout: &'a Checkout) -> Self {
        let folder = fixture
            .scratch
            .folder(&format!("runner-{}", checkout.commit));
        for name in ["home", "temp"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let values = [
            ("github.sha", &*checkout.commit),
            ("vars.REGISTRY_USERNAME", "alice"),
            ("secrets.REGISTRY_PASSWORD", "secret"),
        ];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            folder,
            checkout,
            values: values.into(),
            is_cancelled: Arc::default(),
        }
    }

    /// Returns the text with the values of its expressions.
    fn expand(&self, text: &str) -> String {
        let mut pieces = text.split("${{ ");
        let mut expanded = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (name, rest) = piece.split_once(" }}").expect("the end of an expression");
            let value = self.values.get(name);
            expanded += value.unwrap_or_else(|| panic!("no value of {name}"));
            expanded += rest;
        }
        expanded
    }

    fn expand_all(&self, variables: &Variables) -> Variables {
        let expand = |(name, value): (&String, &String)| (name.clone(), self.expand(value));
        variables.iter().map(expand).collect()
    }

    /// Returns what the steps have written to the file of `GITHUB_PATH` or of another variable.
    fn written(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    /// Runs a script as the shell `bash` of a runner does.
    fn run_script(&self, script: &str, variables: &Variables) -> Outcome {
        let mut command = clean_command(Path::new("bash"));
        command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]);
        command.current_dir(&self.checkout.folder).process_group(0);
        let added = self.written("GITHUB_PATH");
        let path = std::env::var("PATH").unwrap();
        let path: Vec<_> = added.lines().rev().chain([&*path]).collect();
        command.env("PATH", path.join(":"));
        command.env("HOME", self.folder.join("home"));
        command.env("RUNNER_TEMP", self.folder.join("temp"));
        command.env("GITHUB_SHA", &self.checkout.commit);
        for name in ["GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"] {
            command.env(name, self.folder.join(name));
        }
        run_watched(command.envs(variables), |child| {
            if self.is_cancelled.load(Ordering::SeqCst) {
                let script = format!("kill -KILL -- -{}", child.id());
                must(Command::new("bash").args(["-c", &script]));
                // From now on, the relay forwards again.
                self.is_cancelled.store(false, Ordering::SeqCst);
            }
        })
    }

    /// Runs the steps until one fails, and returns the last outcome. `uses` runs the steps of other
    /// actions.
    fn run_steps(
        &mut self,
        steps: &[Step],
        uses: impl Fn(&mut Self, &str, Variables) -> Option<Outcome>,
    ) -> Option<Outcome> {
        let mut last = None;
        for step in steps {
            if let Some(script) = &step.run {
                last = Some(self.run_script(script, &self.expand_all(&step.env)));
            } else if let Some(action) = &step.uses {
                // The keys of a cache are not needed here.
                let inputs = if action.starts_with("./") {
                    self.expand_all(&step.with)
                } else {
                    Variables::new()
                };
                last = uses(self, action, inputs).or(last);
            }
            if let Some(id) = &step.id {
                for line in self.written("GITHUB_OUTPUT").lines() {
                    let (name, value) = line.split_once('=').expect("NAME=VALUE");
                    let name = format!("steps.{id}.outputs.{name}");
                    self.values.insert(name, value.to_owned());
                }
            }
            if last.as_ref().is_some_and(|outcome| outcome.code != Some(0)) {
                break;
            }
        }
        last
    }

    /// Runs the job of the workflow, and returns the outcome of its last command.
    fn run_workflow(&mut self, fixture: &CiFixture) -> Outcome {
        let workflow: Workflow = parse(&fixture.filled_in("examples/ci/github.yml"));
        let outcome = self.run_steps(&workflow.jobs["image"].steps, |runner, action, inputs| {
            (action == "./.github/actions/imgsync").then(|| runner.run_action(inputs))
        });
        outcome.expect("a step with commands")
    }

    /// Runs the steps of the composite action with these inputs.
    fn run_action(&mut self, mut inputs: Variables) -> Outcome {
        let action: Action = parse(&super::read(ACTION));
        for (name, input) in &action.inputs {
            let value = inputs.remove(name).or_else(|| input.default.clone());
            let value = value.unwrap_or_else(|| panic!("the workflow has no input {name}"));
            self.values.insert(format!("inputs.{name}"), value);
        }
        assert!(inputs.is_empty(), "unknown inputs: {inputs:?}");
        let outcome = self.run_steps(&action.runs.steps, |_, _, _| None);
        for output in action.outputs.values() {
            assert!(output.value.starts_with("${{ steps.push.outputs."));
        }
        outcome.expect("a step with commands")
    }
}

const ACTION: &str = "examples/ci/action.yml";

/// Returns the folders below the home that the action keeps for the next run.
fn cached_folders() -> Vec<String> {
    let action: Action = parse(&super::read(ACTION));
    let steps = action.runs.steps.iter();
    let caches = steps.filter(|step| step.uses.is_some());
    let paths: Vec<_> = caches.map(|step| step.with["path"].clone()).collect();
    assert_eq!(paths.len(), 2, "a step that restores, and one that saves");
    assert_eq!(paths[0], paths[1]);
    let folders = paths[0].lines().map(|line| line.replace("~/", ""));
    folders.collect()
}

/// Returns the bytes that clients have sent to the registry since an earlier count.
fn sent_since(fixture: &CiFixture, before: u64) -> u64 {
    fixture.relay.traffic().up - before
}

#[test]
fn the_workflow_for_github_pushes_what_is_missing() {
    if !programs_available(&["docker", "curl"]) {
        return;
    }
    let fixture = CiFixture::new();
    let first = fixture.checkout("first", 1);
    let mut runner = Runner::new(&fixture, &first);
    let image = DockerImage::existing(format!("app:{}", first.commit));
    let outcome = runner.run_workflow(&fixture).succeeded();
    fixture.assert_tags(&[&*first.commit, "latest"]);
    let summary = runner.written("GITHUB_STEP_SUMMARY");
    let name = format!("{}/team/app:{}@sha256:", fixture.registry(), first.commit);
    assert!(summary.starts_with(&name), "{summary}: {outcome}");
    image.remove();

    // Another runner, whose home is empty, sends only the layer that has changed.
    let second = fixture.checkout("second", 1);
    let before = fixture.relay.traffic().up;
    let image = DockerImage::existing(format!("app:{}", second.commit));
    Runner::new(&fixture, &second)
        .run_workflow(&fixture)
        .succeeded();
    fixture.assert_tags(&[&*first.commit, &*second.commit, "latest"]);
    assert!(sent_since(&fixture, before) < LARGE_LAYER as u64 / 10);
    image.remove();
}

#[test]
fn the_cache_for_github_continues_a_cancelled_push() {
    if !programs_available(&["docker", "curl"]) {
        return;
    }
    let fixture = CiFixture::new();
    let checkout = fixture.checkout("cancelled", 2);
    let image = DockerImage::existing(format!("app:{}", checkout.commit));
    let mut cancelled = Runner::new(&fixture, &checkout);
    let is_cancelled = Arc::clone(&cancelled.is_cancelled);
    let limit = LARGE_LAYER as u64 * 2 / 3;
    fixture.relay.run_after_bytes_sent(limit, move || {
        is_cancelled.store(true, Ordering::SeqCst);
        // The relay forwards nothing more until the job is killed.
        wait_until("the end of the job", || {
            (!is_cancelled.load(Ordering::SeqCst)).then_some(())
        });
    });
    let outcome = cancelled.run_workflow(&fixture);
    assert_ne!(outcome.code, Some(0), "{outcome}");

    let home = cancelled.folder.join("home");
    let kept = fixture.scratch.folder("kept");
    for folder in cached_folders() {
        let target = kept.join(&folder);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        must(
            Command::new("cp")
                .arg("-a")
                .arg(home.join(folder))
                .arg(target),
        );
    }
    std::fs::remove_dir_all(&home).unwrap();
    std::fs::rename(kept, home).unwrap();
    for name in ["GITHUB_PATH", "GITHUB_OUTPUT"] {
        let _ = std::fs::remove_file(cancelled.folder.join(name));
    }
    let before = fixture.relay.traffic().up;
    cancelled.run_workflow(&fixture).succeeded();
    fixture.assert_tags(&[&*checkout.commit, "latest"]);
    let sent = sent_since(&fixture, before);
    assert!(
        sent < LARGE_LAYER as u64 / 2,
        "{sent} bytes were sent again"
    );
    image.remove();
}
