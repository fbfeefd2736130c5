//! Runs the commands, with one file for each. Start reading at [`run`].

mod contents;
mod diff;
mod doctor;
mod echo_guard;
mod inspect;
mod layer_origins;
mod login;
mod ls;
mod manual;
mod mirror;
mod password_prompt;
mod push;
mod rm;
mod rm_repository;
mod stop_signal;
mod tag;
mod undelete;

use std::process::ExitCode;
use std::sync::Arc;

use imgsync_oci::Reference;
use imgsync_oci::client::{Client, FetchedManifest};

use crate::args::{Cli, CliCommand, ManifestName};
use crate::exit::{Failure, FailureKind};
use crate::report::{self, Report};
use crate::settings::MirrorSettings;
use stop_signal::wait_for_stop_signal;

/// The exit code of mirrors that had nothing to do, if the user asks for it.
const NOTHING_TO_DO_EXIT_CODE: u8 = 8;

/// Runs a command and returns its exit code.
pub fn run(cli: Cli) -> ExitCode {
    let report = report::new(cli.verbosity(), cli.is_json(), cli.transfer_verb());
    let result = dispatch(cli.command, &report);
    match result.and_then(|code| report.output().finish().map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            report.show_failure(&failure);
            ExitCode::from(&failure)
        }
    }
}

fn dispatch(command: CliCommand, report: &Arc<dyn Report>) -> Result<u8, Failure> {
    match command {
        CliCommand::Push(args) => push::push(args, report)?,
        CliCommand::Mirror(args) => return run_mirror(&MirrorSettings::parse(&args)?, report),
        CliCommand::Pull(args) => return run_mirror(&MirrorSettings::parse_pull(args)?, report),
        CliCommand::Ls(args) => run_until_stopped(ls::ls(args, report))?,
        CliCommand::Inspect(args) => run_until_stopped(inspect::inspect(args, report))?,
        CliCommand::Tag(args) => run_until_stopped(tag::tag(args, report))?,
        CliCommand::Diff(args) => run_until_stopped(diff::diff(args, report))?,
        CliCommand::Rm(args) => run_until_stopped(rm::rm(args, report))?,
        CliCommand::Undelete(args) => run_until_stopped(undelete::undelete(args, report))?,
        CliCommand::Login(args) => run_until_stopped(login::login(args, report))?,
        CliCommand::Doctor(args) => return run_until_stopped(doctor::doctor(args, report)),
        CliCommand::Completions { shell } => manual::print_completions(shell, report),
        CliCommand::Man { folder } => manual::write_pages(&folder)?,
        CliCommand::Logout(args) => run_until_stopped(login::logout(&args.registry.name, report))?,
    }
    Ok(0)
}

fn run_mirror(settings: &MirrorSettings, report: &Arc<dyn Report>) -> Result<u8, Failure> {
    let is_changed = run_resumable(mirror::mirror(settings, report))?;
    Ok(if settings.is_exit_code_requested && !is_changed {
        NOTHING_TO_DO_EXIT_CODE
    } else {
        0
    })
}

/// Runs a command that continues where an interrupted run stopped.
fn run_resumable<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    run_until_stopped(command).map_err(|failure| match failure.kind {
        FailureKind::Interrupted | FailureKind::Terminated => {
            failure.with_hint("run the same command again: it continues where this run stopped")
        }
        _ => failure,
    })
}

/// Runs a command until it ends or is interrupted.
fn run_until_stopped<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    // One thread for all connections. With several, a request that is sent at the moment when its
    // connection breaks can be lost without an error (hyperium/hyper#4122), and waits for its
    // timeout. Compression and hashing have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            let what = format!("cannot start the runtime: {error}");
            Failure::new(FailureKind::Source, what)
        })?;
    let result = runtime.block_on(async {
        tokio::select! {
            // The signal handler is installed before the command starts.
            biased;
            kind = wait_for_stop_signal() => Err(Failure::new(kind, "interrupted")),
            result = command => result,
        }
    });
    // Threads that still compress are not waited for.
    runtime.shutdown_background();
    result
}

/// Fetches a manifest.
///
/// # Errors
/// Fails if there is no such manifest, or if the request fails.
async fn fetch_manifest(client: &Client, name: &ManifestName) -> Result<FetchedManifest, Failure> {
    let fetched = client.fetch_manifest(&name.repository, &name.reference);
    fetched.await?.ok_or_else(|| not_found(name))
}

/// Returns the name of a manifest with its digest instead of its tag.
///
/// # Errors
/// Fails as [`fetch_manifest`] does.
async fn resolve(client: &Client, name: &ManifestName) -> Result<ManifestName, Failure> {
    if let Reference::Digest(_) = &name.reference {
        return Ok(name.clone());
    }
    let head = client.head_manifest(&name.repository, &name.reference);
    let head = head.await?.ok_or_else(|| not_found(name))?;
    let digest = match head.digest {
        Some(digest) => digest,
        // Some registries do not state the digest.
        None => fetch_manifest(client, name).await?.digest,
    };
    Ok(name.with_reference(Reference::Digest(digest)))
}

fn not_found(name: &ManifestName) -> Failure {
    let (registry, repository) = (&name.registry, &name.repository);
    let hint = format!("list the tags with imgsync ls {registry}/{repository}");
    Failure::target(format!("there is no {name}")).with_hint(hint)
}
