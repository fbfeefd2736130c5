//! Tests `imgsync doctor`: the verdicts, the lines of configuration that it names, and that nothing
//! is changed without `--write`.

mod connection;
mod registry;
mod uploads;

use crate::support::prelude::*;
use serde_json::Value;

/// The tool with a home folder, and the environment variables that a test sets.
struct DoctorFixture {
    imgsync: Imgsync,
    variables: Vec<(String, String)>,
    /// Dropped last: a server must have stopped before its folder is deleted.
    scratch: Scratch,
}

impl DoctorFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        Self {
            imgsync: Imgsync::new(&scratch.folder("home")),
            variables: Vec::new(),
            scratch,
        }
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.imgsync.command();
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        command.arg("doctor").args(arguments).envs(variables);
        command
    }

    /// Runs `imgsync doctor --json` with these arguments. Panics unless it ends with this exit code.
    fn examine(&self, code: i32, arguments: &[&str]) -> Diagnosis {
        let outcome = run(&mut self.command(&[arguments, &["--json"]].concat()));
        assert_eq!(outcome.code, Some(code), "{outcome}");
        Diagnosis::parse(outcome)
    }
}

/// The results of a run.
struct Diagnosis {
    checks: Vec<Value>,
    outcome: Outcome,
}

/// All checks, in the order of the output.
const CHECKS: [&str; 12] = [
    "name",
    "connection",
    "scheme",
    "certificate",
    "registry",
    "login",
    "pull",
    "push",
    "location",
    "request-size",
    "resume",
    "clock",
];

impl Diagnosis {
    /// Parses the output of `--json`. Panics unless there is a result for each check.
    fn parse(outcome: Outcome) -> Self {
        let events = outcome.stdout.lines().map(|line| {
            let event: Value = serde_json::from_str(line).expect("JSON");
            event
        });
        let checks: Vec<_> = events.filter(|event| event["event"] == "check").collect();
        let names: Vec<_> = checks.iter().map(|check| check["check"].as_str()).collect();
        assert_eq!(names, CHECKS.map(Some), "{outcome}");
        Self { checks, outcome }
    }

    /// Panics unless a check has this verdict, and its text or its remedy contains all these words.
    fn has(&self, check: &str, verdict: &str, words: &[&str]) -> &Self {
        let found = self.checks.iter().find(|found| found["check"] == check);
        let found = found.expect("a check");
        assert_eq!(found["verdict"], verdict, "{check}: {}", self.outcome);
        let remedy = found["remedy"].as_array().expect("a list");
        let lines = [&found["what"]].into_iter().chain(remedy);
        let lines: Vec<_> = lines.map(|line| line.as_str().expect("text")).collect();
        let text = lines.join("\n");
        for word in words {
            assert!(
                text.contains(word),
                "{check} lacks {word:?}: {}",
                self.outcome
            );
        }
        self
    }

    /// Panics unless these checks have this verdict.
    fn all(&self, checks: &[&str], verdict: &str) -> &Self {
        for check in checks {
            self.has(check, verdict, &[]);
        }
        self
    }
}

/// Returns the paths of all files and folders below a folder, which may be missing.
fn tree(folder: &Path) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            paths.extend(tree(&path));
        }
        paths.insert(path);
    }
    paths
}
