//! Runs `imgsync-server completions` and `imgsync-server man`. Start reading at [`write_pages`].

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::ServerArguments;
use crate::console::{EXIT_FAILURE, fail, print_result};

/// Prints the completion script for a shell.
pub(crate) fn print_completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    let mut command = ServerArguments::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    print_result(&String::from_utf8_lossy(&script))
}

/// Writes a manual page for the program and one for each command, into a folder that is created if
/// necessary.
pub(crate) fn write_pages(folder: &Path) -> ExitCode {
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(ServerArguments::command(), folder));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("cannot write manual pages to {}: {error}", folder.display());
            fail(
                &text,
                Some("choose a folder that you may write to"),
                EXIT_FAILURE,
            )
        }
    }
}
