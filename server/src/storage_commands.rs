//! The commands that act on a storage folder, through its running server or alone.
//!
//! Start reading at [`run_in_storage`].

use std::process::ExitCode;

use imgsync_server::config::Config;
use imgsync_server::{ControlCommand, Error};

use crate::args::{
    BackupArgs, CheckArgs, GarbageCollectArgs, RetentionArgs, ServeArgs, SourceArgs, StatusArgs,
    UndeleteArgs,
};
use crate::config_loader::Setup;
use crate::console::{ConsoleOutput, EXIT_FAILURE, EXIT_USAGE, fail, write_stderr};

pub(crate) fn garbage_collect(args: GarbageCollectArgs) -> ExitCode {
    let GarbageCollectArgs {
        dry_run,
        delete_untagged,
        quiet,
        purge,
        force,
        source,
    } = args;
    let command = match purge {
        Some(target) => ControlCommand::Purge {
            target,
            is_forced: force,
            is_dry_run: dry_run,
        },
        None => ControlCommand::GarbageCollect {
            is_dry_run: dry_run,
            deletes_untagged: delete_untagged,
            is_quiet: quiet,
        },
    };
    run_command(&command, source)
}

pub(crate) fn retention(args: RetentionArgs) -> ExitCode {
    let RetentionArgs { dry_run, source } = args;
    let command = ControlCommand::Retention {
        is_dry_run: dry_run,
    };
    run_command(&command, source)
}

pub(crate) fn undelete(args: UndeleteArgs) -> ExitCode {
    let (target, source) = match args.into_target() {
        Ok(parsed) => parsed,
        Err(text) => return fail(text, None, EXIT_USAGE),
    };
    let command = match target {
        Some(target) => ControlCommand::Undelete { target },
        None => ControlCommand::ListTrash,
    };
    run_command(&command, source)
}

pub(crate) fn status(args: StatusArgs) -> ExitCode {
    let StatusArgs { json, all, source } = args;
    let command = ControlCommand::Status {
        is_json: json,
        lists_all: all,
    };
    run_command(&command, source)
}

pub(crate) fn backup(args: BackupArgs) -> ExitCode {
    let BackupArgs { folder, source } = args;
    run_in_storage(source, |config| {
        imgsync_server::run_backup(config, &folder, &mut ConsoleOutput)
    })
}

pub(crate) fn check(args: CheckArgs) -> ExitCode {
    let CheckArgs {
        repair,
        json,
        source,
    } = args;
    let command = ControlCommand::Check {
        repairs: repair,
        is_json: json,
    };
    run_command(&command, source)
}

/// Runs a command of the operator in the configured storage folder.
fn run_command(command: &ControlCommand, source: SourceArgs) -> ExitCode {
    run_in_storage(source, |config| {
        // Reports have the folder in their output.
        let is_report = matches!(
            command,
            ControlCommand::Status { .. } | ControlCommand::Check { .. }
        );
        if !is_report {
            let folder = config.storage.root.display();
            write_stderr(&format!("storage folder: {folder}\n"));
        }
        imgsync_server::run_command(config, command, &mut ConsoleOutput)
    })
}

/// Loads the configuration, and runs a command of the operator with it.
fn run_in_storage(
    source: SourceArgs,
    command: impl FnOnce(&Config) -> Result<(), Error>,
) -> ExitCode {
    let setup = Setup::new(ServeArgs { source, addr: None });
    let loaded = match setup.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error.to_string(), Some(&error.hint()), EXIT_USAGE),
    };
    match command(&loaded.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), error.hint().as_deref(), EXIT_FAILURE),
    }
}
