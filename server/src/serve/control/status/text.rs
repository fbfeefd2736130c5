//! Prints the status for people.

use std::time::Duration;

use imgsync_oci::units::{format_bytes, format_count, format_duration};

use super::super::{CommandOutput, count_blobs};
use super::document::{
    CertificateStatus, CollectionStatus, EventReceiverStatus, RepositoriesStatus, StatusDocument,
    StorageStatus, TrashStatus, UploadsStatus, UpstreamStatus,
};

/// Prints the status, a line for each fact. `removes_untagged` is whether a rule of retention removes
/// images without a tag.
pub(super) fn print(
    status: &StatusDocument,
    removes_untagged: bool,
    output: &mut dyn CommandOutput,
) {
    let uptime = format_duration(Duration::from_secs(status.uptime_seconds));
    let mut lines = vec![format!(
        "imgsync-server {}, running for {uptime}",
        status.version
    )];
    let file = status.configuration.as_deref();
    lines.push(format!(
        "configuration: {}",
        file.unwrap_or("no configuration file")
    ));
    let disk = &status.disk;
    lines.push(format!("storage folder: {}", disk.folder));
    lines.push(format!(
        "disk: {}, {} free, {} used by images, uploads and trash",
        format_bytes(disk.total_bytes),
        format_bytes(disk.free_bytes),
        format_bytes(disk.used_bytes)
    ));
    describe_storage(&status.storage, removes_untagged, &mut lines);
    describe_repositories(&status.repositories, &mut lines);
    lines.push(describe_uploads(&status.uploads));
    describe_collection(&status.collection, &mut lines);
    lines.push(describe_trash(&status.trash));
    lines.extend(status.upstreams.iter().map(describe_upstream));
    lines.extend(status.events.iter().map(describe_receiver));
    lines.extend(status.certificates.iter().map(describe_certificate));
    for line in lines {
        output.output(&line);
    }
}

fn describe_storage(storage: &StorageStatus, removes_untagged: bool, lines: &mut Vec<String>) {
    let StorageStatus {
        measured_at: _,
        blobs,
        bytes,
        unlinked_bytes,
        untagged_manifests,
        untagged_bytes,
    } = storage;
    let (bytes, unlinked) = (format_bytes(*bytes), format_bytes(*unlinked_bytes));
    lines.push(format!(
        "blobs and manifests: {blobs}, {bytes}; in no repository: {unlinked}"
    ));
    if *untagged_manifests > 0 {
        let untagged = format_bytes(*untagged_bytes);
        let remedy = if removes_untagged {
            "imgsync.retention removes them"
        } else {
            "they are kept. To remove them after a week, set imgsync.retention: \
             [{repositories: ['**'], untagged: 168h}]"
        };
        let plural = if *untagged_manifests == 1 { "" } else { "s" };
        lines.push(format!(
            "images without a tag: {untagged_manifests} manifest{plural}, which alone hold \
             {untagged}; {remedy}"
        ));
    }
}

fn describe_repositories(repositories: &RepositoriesStatus, lines: &mut Vec<String>) {
    let RepositoriesStatus {
        count,
        bytes,
        saved_bytes,
        largest,
        unlisted,
        unlisted_bytes,
    } = repositories;
    let (bytes, saved) = (format_bytes(*bytes), format_bytes(*saved_bytes));
    lines.push(format!(
        "repositories: {count}, {bytes}; sharing saves {saved}"
    ));
    for repository in largest {
        let bytes = format_bytes(repository.bytes);
        let shared = match repository.shared_bytes {
            0 => String::new(),
            shared => format!(", {} of it shared", format_bytes(shared)),
        };
        lines.push(format!("  {}: {bytes}{shared}", repository.name));
    }
    if *unlisted > 0 {
        let bytes = format_bytes(*unlisted_bytes);
        lines.push(format!("  {unlisted} more: {bytes} (list them with --all)"));
    }
}

fn describe_uploads(uploads: &UploadsStatus) -> String {
    let UploadsStatus {
        open,
        bytes,
        oldest_started_at,
    } = uploads;
    let since = match oldest_started_at {
        Some(time) => format!(", {}, the oldest since {time}", format_bytes(*bytes)),
        None => String::new(),
    };
    format!("open uploads: {open}{since}")
}

fn describe_collection(collection: &CollectionStatus, lines: &mut Vec<String>) {
    let last = match &collection.last {
        Some(last) => {
            let failed = if last.failed {
                "; it failed, see the log"
            } else {
                ""
            };
            let (blobs, bytes) = (count_blobs(last.blobs), format_bytes(last.bytes));
            let at = &last.ended_at;
            format!("{at}, moved {blobs} to the trash, {bytes}{failed}")
        }
        None => "none".to_owned(),
    };
    lines.push(format!("last garbage collection: {last}"));
    let next = match (&collection.next_at, collection.enabled) {
        (Some(time), true) => time,
        (None, true) => "soon",
        (_, false) => "none: imgsync.gc is disabled, or the server is in read-only mode",
    };
    lines.push(format!("next garbage collection: {next}"));
}

fn describe_trash(trash: &TrashStatus) -> String {
    let TrashStatus {
        entries,
        bytes,
        first_deletion_at,
        last_deletion_at,
    } = trash;
    match (first_deletion_at, last_deletion_at) {
        (Some(first), Some(last)) => {
            let bytes = format_bytes(*bytes);
            let noun = if *entries == 1 { "entry" } else { "entries" };
            format!("trash: {entries} {noun}, {bytes}, deleted from {first} to {last}")
        }
        _ => "trash: empty".to_owned(),
    }
}

fn describe_upstream(upstream: &UpstreamStatus) -> String {
    let UpstreamStatus {
        name,
        address,
        last_request_at,
        error,
    } = upstream;
    let last = match (last_request_at, error) {
        (None, _) => "no request since the start".to_owned(),
        (Some(time), None) => format!("answered at {time}"),
        (Some(time), Some(error)) => format!("failed at {time}: {error}"),
    };
    format!("upstream {name} ({address}): {last}")
}

fn describe_receiver(status: &EventReceiverStatus) -> String {
    let EventReceiverStatus {
        receiver,
        waiting,
        delivered,
        rejected,
        lost,
        error,
    } = status;
    let rejected = match rejected {
        0 => String::new(),
        rejected => format!(", {rejected} rejected"),
    };
    let lost = match lost {
        0 => String::new(),
        lost => format!(", {lost} LOST"),
    };
    let error = match error {
        Some(error) => format!("; the last attempt failed: {error}"),
        None => String::new(),
    };
    format!("events for {receiver}: {waiting} wait, {delivered} delivered{rejected}{lost}{error}")
}

fn describe_certificate(certificate: &CertificateStatus) -> String {
    let CertificateStatus {
        file,
        valid_until,
        days_left,
        error,
    } = certificate;
    match (days_left, valid_until) {
        (Some(days), Some(until)) if *days < 0 => {
            format!("certificate {file}: EXPIRED at {until}")
        }
        (Some(days), Some(until)) => {
            let days = format_count(*days, "day", "days");
            format!("certificate {file}: {days} left, until {until}")
        }
        _ => {
            let reason = error.as_deref().unwrap_or("unknown");
            format!("certificate {file}: {reason}")
        }
    }
}
