//! Tests that the configurations in `examples/` and in the documents are valid.

use super::examples::{SHORT, add_user, get};
use crate::support::launch::{Setup, stderr, stdout};
use crate::support::prelude::*;

/// Checks that a configuration is valid. The server may not be able to start on this machine, where
/// the files that the configuration names do not exist.
fn assert_valid(output: &std::process::Output) {
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)), "{}", stderr(output));
    assert!(
        stdout(output).starts_with("version: 0.1\n"),
        "{}",
        stderr(output)
    );
}

/// Reads a file of the repository.
fn read(path: &str) -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(top.join(path)).unwrap()
}

#[tokio::test]
async fn example_configurations_are_valid() {
    // The unchanged files are valid and cause no warning.
    for path in ["examples/container/config.yml", "examples/cache/config.yml"] {
        let output = Setup::new(&read(path)).run(&["config"]);
        assert_valid(&output);
        let warnings = stderr(&output);
        assert!(!warnings.contains("warning"), "{path}: {warnings}");
    }
    // The section of the README is valid in an otherwise short file.
    let readme = read("README.md");
    let (_, section) = readme.split_once("```yaml\n").unwrap();
    let (section, _) = section.split_once("```").unwrap();
    let output = Setup::new(&format!("{SHORT}{section}")).run(&["config"]);
    assert_valid(&output);
    assert!(stdout(&output).contains("remoteurl: https://ghcr.io  # "));

    // A server with the cache example requires a login for its own images. No request of this test
    // reaches an upstream.
    let config = read("examples/cache/config.yml")
        .replace("/var/lib/imgsync", "{folder}/registry")
        .replace("/etc/imgsync/htpasswd", "{folder}/htpasswd")
        .replace("127.0.0.1:5000", "127.0.0.1:0");
    let setup = Setup::new(&config);
    add_user(&setup, "alice", "swordfish");
    let server = setup.serve();
    let repository = format!("{}/v2/team/app/tags/list", server.url);
    assert_eq!(get(repository.clone()).await.status(), 401);
    let request = client()
        .get(repository)
        .basic_auth("alice", Some("swordfish"));
    assert_eq!(request.send().await.unwrap().status(), 404);
}

/// Returns the YAML blocks of a document.
fn yaml_blocks(path: &str) -> Vec<String> {
    let text = read(path);
    let blocks = text.split("```yaml\n").skip(1);
    let block = |rest: &str| rest.split_once("```").unwrap().0.to_owned();
    blocks.map(block).collect()
}

#[test]
fn configurations_in_the_documents_are_valid() {
    for (path, minimum) in [
        ("docs/server.md", 4),
        ("docs/stock-registry.md", 4),
        ("docs/zh-CN/tutorial.md", 5),
    ] {
        let blocks = yaml_blocks(path);
        assert!(blocks.len() >= minimum, "{path}");
        for block in blocks {
            let has = |key: &str| block.lines().any(|line| line.starts_with(key));
            let mut config = String::new();
            if !has("version:") {
                config += "version: 0.1\n";
            }
            if !has("storage:") {
                config += "storage: {filesystem: {rootdirectory: /var/lib/registry}}\n";
            }
            let output = Setup::new(&(config + &block)).run(&["config"]);
            let warnings = stderr(&output);
            assert_valid(&output);
            assert!(!warnings.contains("warning"), "{path}: {block}{warnings}");
        }
    }
}
