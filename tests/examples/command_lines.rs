//! Tests that the options in the documents exist, and that the `mirrors.yaml` files are valid.

use clap::Parser as _;
use imgsync::args::Cli;
use imgsync::mirror::config::parse;

use super::document::{read, text_of_blocks, words};
use crate::support::prelude::*;

/// Returns the commands of `imgsync` in a text, at the start of a line or after a pipe.
fn commands(text: &str) -> Vec<Vec<String>> {
    let pipe = "printf %s \"$PASSWORD\" | ";
    let prefixes = ["", "docker save app:v1 | ", pipe, "script: "];
    let lines = text
        .lines()
        .map(|line| line.trim_start_matches([' ', '#', '$']));
    let commands = lines.filter_map(|line| {
        let mut rests = prefixes
            .iter()
            .filter_map(|prefix| line.strip_prefix(prefix));
        rests.find(|rest| rest.starts_with("imgsync "))
    });
    commands.map(words).collect()
}

#[test]
fn every_command_line_can_be_parsed() {
    for (path, min_count) in [
        ("README.md", 10),
        ("docs/commands.md", 15),
        ("docs/push.md", 6),
        ("docs/doctor.md", 4),
        ("docs/mirror.md", 8),
        ("docs/stock-registry.md", 3),
        ("docs/from-registry-2.md", 2),
        ("docs/zh-CN/tutorial.md", 6),
        ("examples/mirror/mirrors.yaml", 2),
    ] {
        let mut text = read(path);
        if path.ends_with(".md") {
            text = text_of_blocks(&text, "sh") + &text_of_blocks(&text, "console");
        }
        let commands = commands(&text);
        assert!(commands.len() >= min_count, "{path}: {commands:?}");
        for command in commands {
            if let Err(error) = Cli::try_parse_from(&command) {
                panic!("{path}: {command:?}: {error}");
            }
        }
    }
}

#[test]
fn mirrors_yaml_files_can_be_parsed() {
    let folder = Path::new("/etc/imgsync");
    let file = text_of_blocks(&read("docs/mirror.md"), "yaml");
    assert_eq!(parse(&file, folder).unwrap().jobs.len(), 3);

    let config = parse(&read("examples/mirror/mirrors.yaml"), folder).unwrap();
    let sources: Vec<_> = config.jobs.iter().map(|job| job.source()).collect();
    assert_eq!(
        sources,
        [
            "docker.io/library/nginx",
            "docker.io/library/postgres",
            "ghcr.io/owner/app"
        ]
    );
    // Two entries with the same source and target are one job with the rules of both.
    assert_eq!(config.jobs[0].rules.len(), 2);
    let (_, registry) = config.registries.iter().next().unwrap();
    assert_eq!(registry.settings.username.as_deref(), Some("mirror"));
    assert_eq!(
        registry.settings.password_env.as_deref(),
        Some("MIRROR_PASSWORD")
    );
    assert_eq!(registry.settings.password_file, None);
}
