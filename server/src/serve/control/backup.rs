//! The command `backup`.
//!
//! The process of the operator writes the backup itself, so it may write where the server may not.
//! A running server is asked to collect no garbage meanwhile. Start reading at [`run_backup`].

use std::io::{BufReader, ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use imgsync_oci::units::{format_bytes, format_count};

use super::{
    CommandOutput, ControlCommand, OutputLine, check_is_store, connection_error, count_blobs,
    error_text, read_line, send_command,
};
use crate::config::Config;
use crate::registry::{BackupOutcome, BackupStats, OpenedBackup, Registry};
use crate::serve::Error;

/// Writes a backup of the configured storage folder to another folder, or updates it.
///
/// # Errors
/// [`Error::Store`] if a folder cannot be used; [`Error::Command`] if the backup is not complete, or
/// lacks content that is damaged in the registry.
pub fn run_backup(
    config: &Config,
    folder: &Path,
    output: &mut dyn CommandOutput,
) -> Result<(), Error> {
    let root = &config.storage.root;
    check_is_store(root)?;
    let lease = match UnixStream::connect(Registry::control_socket(root)) {
        Ok(stream) => Some(CollectionLease::acquire(stream)?),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(Error::Command(format!(
                "cannot reach the server of {}: {error}; run the command as the user of the server, \
                 or as root",
                root.display()
            )));
        }
        Err(_) => None,
    };
    let source = match lease {
        Some(_) => Registry::open_beside_server(root)?,
        // The lock of the folder keeps servers out.
        None => Registry::open_for_command(root, false)?,
    };
    let target = match Registry::open_backup(folder, root)? {
        OpenedBackup::Open(target) => target,
        OpenedBackup::NotABackup => {
            return Err(Error::Command(format!(
                "{} is neither empty nor a backup; a backup that a server was started on is a \
                 registry of its own",
                folder.display()
            )));
        }
        OpenedBackup::InStore => {
            return Err(Error::Command(format!(
                "{} is in the storage folder itself",
                folder.display()
            )));
        }
    };
    let is_leased = || lease.as_ref().is_none_or(CollectionLease::is_held);
    let written = source.back_up_to(&target, &is_leased, &mut |gap| {
        output.detail(&format!("damaged: {gap}"));
    });
    let written = written.map_err(|error| {
        let text = error_text(error);
        Error::Command(format!(
            "the backup in {} is incomplete: {text}",
            folder.display()
        ))
    })?;
    match written {
        BackupOutcome::Complete(stats) => print(&stats, folder, output),
        BackupOutcome::EmptyRegistry => Err(Error::Command(format!(
            "the registry in {} has no tags, but the backup has; the backup was not changed. Use \
             another folder for an empty registry",
            root.display()
        ))),
        BackupOutcome::LeaseLost => Err(Error::Command(format!(
            "the backup in {} is incomplete, because the server has stopped; run the command again",
            folder.display()
        ))),
    }
}

fn print(stats: &BackupStats, folder: &Path, output: &mut dyn CommandOutput) -> Result<(), Error> {
    let BackupStats {
        repositories,
        tags: tag_count,
        manifests,
        linked,
        copied,
        new_bytes,
        removed_tags,
        removed_blobs,
        damaged,
    } = *stats;
    let folder = folder.display();
    let repositories = format_count(repositories, "repository", "repositories");
    let tags = |count| format_count(count, "tag", "tags");
    let manifests = format_count(manifests, "manifest", "manifests");
    output.output(&format!(
        "backup in {folder}: {repositories}, {}, {manifests}",
        tags(tag_count)
    ));
    let bytes = format_bytes(new_bytes);
    let linked = format_count(linked, "hard link", "hard links");
    let copied = format_count(copied, "copy", "copies");
    output.output(&format!("new content: {bytes} ({linked}, {copied})"));
    let (removed_tags, removed_blobs) = (tags(removed_tags), count_blobs(removed_blobs));
    output.output(&format!("removed: {removed_tags}, {removed_blobs}"));
    if damaged > 0 {
        return Err(Error::Command(format!(
            "the backup is complete, except for damaged content of the registry: {damaged}. Run \
             imgsync-server check"
        )));
    }
    Ok(())
}

/// The promise of a server that it collects no garbage. Ends when the value is dropped.
struct CollectionLease(BufReader<UnixStream>);

impl CollectionLease {
    fn acquire(stream: UnixStream) -> Result<Self, Error> {
        let mut lines = send_command(stream, &ControlCommand::PauseCollection)?;
        match read_line(&mut lines)? {
            OutputLine::Output(_) | OutputLine::Detail(_) => {}
            OutputLine::Failure(text) => return Err(Error::Command(text)),
            OutputLine::Success => return Err(connection_error("the server does not wait")),
        }
        let nonblocking = lines.get_ref().set_nonblocking(true);
        nonblocking.map_err(connection_error)?;
        Ok(Self(lines))
    }

    /// Returns whether the server still keeps its promise. It sends nothing while it does.
    fn is_held(&self) -> bool {
        let read = self.0.get_ref().read(&mut [0]);
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}
