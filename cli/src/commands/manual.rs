//! Runs `imgsync completions` and `imgsync man`.

use std::path::Path;
use std::sync::Arc;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::{Failure, FailureKind};
use crate::report::Report;

/// Prints the completion script for a shell.
pub(super) fn print_completions(shell: Shell, report: &Arc<dyn Report>) {
    let (mut command, mut script) = (Cli::command(), Vec::new());
    clap_complete::generate(shell, &mut command, "imgsync", &mut script);
    report.output().write(&script);
}

/// Writes a manual page for the tool and one for each command, into a folder that is created if
/// necessary.
///
/// # Errors
/// Fails if the folder cannot be created or written.
pub(super) fn write_pages(folder: &Path) -> Result<(), Failure> {
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    written.map_err(|error| {
        let what = format!("cannot write manual pages to {}: {error}", folder.display());
        Failure::new(FailureKind::Source, what).with_hint("choose a folder that you may write to")
    })
}
