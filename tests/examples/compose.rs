//! Tests that the variables in the compose files are valid.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::document::{read, text_of_blocks};
use crate::support::prelude::*;
use crate::support::server;

#[derive(Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
}

#[derive(Deserialize)]
struct Service {
    environment: BTreeMap<String, String>,
}

#[test]
fn variables_in_the_compose_files_are_valid() {
    let scratch = Scratch::new();
    let page = text_of_blocks(&read("docs/from-registry-2.md"), "yaml");
    for text in [read("examples/compose/compose.yml"), page] {
        let compose: Compose = serde_saphyr::from_str(&text).unwrap();
        let environment = &compose.services["registry"].environment;
        let mut command = Command::new(server::binary());
        command.env_clear().envs(environment).stdin(Stdio::null());
        let outcome = run(command.arg("config").current_dir(scratch.root()));
        // The login file does not exist on this machine. An invalid value has another exit code.
        assert_eq!(outcome.code, Some(1), "{outcome}");
        assert!(!outcome.stderr.contains("warning"), "{outcome}");
    }
}
