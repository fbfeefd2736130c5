//! Executes commands of the operator on an open registry.

use std::time::Duration;

use super::{
    CommandContext, CommandOutput, ControlCommand, check, garbage_collect, purge, retention,
    status, undelete,
};
use crate::registry::PurgeOptions;

/// How often a command that only waits for its client looks whether the client is there.
const CLIENT_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Executes a command. Blocks on the disk.
///
/// # Errors
/// Returns the reason for which the command failed, for the operator.
pub(super) fn execute(
    context: &CommandContext<'_>,
    command: &ControlCommand,
    output: &mut dyn CommandOutput,
) -> Result<(), String> {
    let (registry, gc) = (context.registry, &context.config.imgsync.gc);
    match command {
        ControlCommand::GarbageCollect {
            is_dry_run,
            deletes_untagged,
            is_quiet,
        } => {
            let request = garbage_collect::CollectRequest {
                is_dry_run: *is_dry_run,
                deletes_untagged: *deletes_untagged,
                is_quiet: *is_quiet,
            };
            garbage_collect::collect(registry, gc, &request, output)
        }
        ControlCommand::Retention { is_dry_run } => {
            retention::apply(registry, context.config, *is_dry_run, output)
        }
        ControlCommand::ListTrash => undelete::list(registry, gc, output),
        ControlCommand::Purge {
            target,
            is_forced,
            is_dry_run,
        } => {
            let options = PurgeOptions {
                is_forced: *is_forced,
                is_dry_run: *is_dry_run,
            };
            purge::purge(context, target, options, output)
        }
        ControlCommand::Status { is_json, lists_all } => {
            status::print_status(context, *is_json, *lists_all, output)
        }
        ControlCommand::Undelete { target } => undelete::undelete(registry, target, output),
        ControlCommand::Check { repairs, is_json } => {
            let request = check::CheckRequest {
                repairs: *repairs,
                is_json: *is_json,
            };
            check::check(context, &request, output)
        }
        ControlCommand::PauseCollection => {
            let _pause = registry.pause_collection();
            output.output("paused");
            while !(context.is_gone)() {
                std::thread::sleep(CLIENT_CHECK_INTERVAL);
            }
            Ok(())
        }
    }
}
