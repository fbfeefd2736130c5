//! Executes commands of the operator on an open registry.

use super::{CommandOutput, ControlCommand, garbage_collect, undelete};
use crate::config::GarbageCollectionConfig;
use crate::registry::Registry;

/// Executes a command. Blocks on the disk.
///
/// # Errors
/// Returns the reason for which the command failed, for the operator.
pub(super) fn execute(
    registry: &Registry,
    gc: &GarbageCollectionConfig,
    command: &ControlCommand,
    output: &mut dyn CommandOutput,
) -> Result<(), String> {
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
        ControlCommand::ListTrash => undelete::list(registry, gc, output),
        ControlCommand::Undelete { target } => undelete::undelete(registry, target, output),
    }
}
