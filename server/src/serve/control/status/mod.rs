//! The command `status`: what the running server knows about itself, and what its storage holds.
//!
//! [`document`] is what is printed with `--json`; [`text`] prints the same for people. Start reading
//! at [`print_status`].

mod document;
mod text;

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use self::document::{
    CertificateStatus, CollectionStatus, DiskStatus, EventReceiverStatus, LastCollection,
    RepositoriesStatus, RepositoryStatus, StatusDocument, StorageStatus, TrashStatus,
    UploadsStatus, UpstreamStatus,
};
use super::{CommandContext, CommandOutput};
use crate::config::Config;
use crate::listen::certificate_expiries;
use crate::registry::{CollectionRecord, StorageUsage, TrashSummary};
use crate::status::{ServerState, StorageFacts, StorageMeasurement};
use crate::store::format_time;
use crate::wall_clock::unix_now;

/// How many repositories are listed, the largest ones.
const LISTED_REPOSITORIES: usize = 20;
/// How many repositories are listed if all are to be listed.
const MAX_LISTED_REPOSITORIES: usize = 100_000;

const SECONDS_PER_DAY: i64 = 24 * 3600;

/// Prints the status of the running server, as text or as JSON.
pub(super) fn print_status(
    context: &CommandContext<'_>,
    is_json: bool,
    lists_all: bool,
    output: &mut dyn CommandOutput,
) -> Result<(), String> {
    let Some(server) = context.server else {
        return Err("status needs a running server".to_owned());
    };
    let document = gather(context, server, lists_all)?;
    if is_json {
        let mut lines = LineWriter {
            output,
            line: Vec::new(),
        };
        serde_json::to_writer_pretty(&mut lines, &document).map_err(|error| error.to_string())?;
        lines.end_line();
    } else {
        let mut rules = context.config.imgsync.retention.iter();
        let removes_untagged = rules.any(|rule| rule.untagged.is_some());
        text::print(&document, removes_untagged, output);
    }
    Ok(())
}

/// Passes what is written to it on, line by line.
struct LineWriter<'a> {
    output: &'a mut dyn CommandOutput,
    line: Vec<u8>,
}

impl LineWriter<'_> {
    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.output.output(&String::from_utf8_lossy(&line));
    }
}

impl Write for LineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(end) => {
                    self.line.extend(end);
                    self.end_line();
                }
                None => self.line.extend(part),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gather(
    context: &CommandContext<'_>,
    server: &ServerState,
    lists_all: bool,
) -> Result<StatusDocument, String> {
    let (config, now) = (context.config, unix_now());
    let limit = if lists_all {
        MAX_LISTED_REPOSITORIES
    } else {
        LISTED_REPOSITORIES
    };
    let (undo, is_gone) = (config.imgsync.gc.undo, context.is_gone);
    let facts = StorageFacts::gather(context.registry, server, undo, limit, is_gone)?;
    Ok(StatusDocument {
        version: env!("CARGO_PKG_VERSION"),
        started_at: time_text(server.started_at),
        uptime_seconds: now.saturating_sub(server.started_at),
        configuration: config.file.clone(),
        disk: DiskStatus {
            folder: config.storage.root.display().to_string(),
            total_bytes: facts.space.total,
            free_bytes: facts.space.free,
            used_bytes: facts.used_bytes(),
        },
        storage: storage(&facts.measurement),
        repositories: repositories(&facts.measurement.usage, limit),
        uploads: UploadsStatus {
            open: facts.uploads.count,
            bytes: facts.uploads.bytes,
            oldest_started_at: facts.uploads.oldest.map(format_time),
        },
        collection: CollectionStatus {
            enabled: config.imgsync.gc.is_enabled && !config.storage.is_read_only,
            last: facts.last_collection.map(last_collection),
            next_at: server.collection_schedule.next().map(time_text),
        },
        trash: trash(&facts.trash),
        upstreams: upstreams(server),
        events: event_receivers(server),
        certificates: certificates(config, now),
    })
}

fn storage(StorageMeasurement { usage, sample, .. }: &StorageMeasurement) -> StorageStatus {
    StorageStatus {
        measured_at: time_text(sample.time),
        blobs: usage.blobs,
        bytes: usage.blob_bytes,
        unlinked_bytes: usage.unlinked_bytes,
        untagged_manifests: usage.untagged_manifests,
        untagged_bytes: usage.untagged_bytes,
    }
}

fn repositories(usage: &StorageUsage, limit: usize) -> RepositoriesStatus {
    let largest = usage.largest.iter().take(limit);
    let largest = largest.map(|listed| RepositoryStatus {
        name: listed.repository.to_string(),
        bytes: listed.bytes,
        shared_bytes: listed.shared_bytes,
    });
    let largest: Vec<RepositoryStatus> = largest.collect();
    let listed_bytes: u64 = largest.iter().map(|listed| listed.bytes).sum();
    RepositoriesStatus {
        count: usage.repositories,
        bytes: usage.repository_bytes,
        saved_bytes: usage.saved_bytes(),
        unlisted: usage.repositories.saturating_sub(largest.len() as u64),
        unlisted_bytes: usage.repository_bytes.saturating_sub(listed_bytes),
        largest,
    }
}

fn last_collection(last: CollectionRecord) -> LastCollection {
    LastCollection {
        ended_at: time_text(last.ended_at),
        manifests: last.stats.manifests,
        blobs: last.stats.blobs,
        bytes: last.stats.bytes,
        damaged_manifests: last.stats.damaged,
        failed: last.is_failed,
    }
}

fn trash(summary: &TrashSummary) -> TrashStatus {
    TrashStatus {
        entries: summary.entries,
        bytes: summary.bytes,
        first_deletion_at: summary.first_expiry.map(time_text),
        last_deletion_at: summary.last_expiry.map(time_text),
    }
}

fn event_receivers(server: &ServerState) -> Vec<EventReceiverStatus> {
    let receivers = server.events.status().into_iter();
    receivers
        .map(|receiver| EventReceiverStatus {
            receiver: receiver.name,
            waiting: receiver.waiting,
            delivered: receiver.delivered,
            rejected: receiver.rejected,
            lost: receiver.lost,
            error: receiver.error,
        })
        .collect()
}

fn upstreams(server: &ServerState) -> Vec<UpstreamStatus> {
    let outcomes = server.upstreams.last_outcomes().into_iter();
    outcomes
        .map(|(name, address, last)| UpstreamStatus {
            name,
            address,
            last_request_at: last.as_ref().map(|last| time_text(last.at)),
            error: last.and_then(|last| last.error),
        })
        .collect()
}

fn certificates(config: &Config, now: u64) -> Vec<CertificateStatus> {
    let Some(tls) = &config.http.tls else {
        return Vec::new();
    };
    let status = |expiry: Option<SystemTime>, error: Option<String>| CertificateStatus {
        file: tls.certificate.display().to_string(),
        days_left: expiry.map(|expiry| days_left(expiry, now)),
        valid_until: expiry.map(format_time),
        error,
    };
    match certificate_expiries(tls) {
        Ok(expiries) => expiries
            .into_iter()
            .map(|expiry| {
                let error = expiry.is_none().then(|| "it cannot be parsed".to_owned());
                status(expiry, error)
            })
            .collect(),
        Err(error) => vec![status(None, Some(error.to_string()))],
    }
}

/// Returns the number of whole days until a time; negative if it is over.
fn days_left(expiry: SystemTime, now: u64) -> i64 {
    let expiry = expiry.duration_since(SystemTime::UNIX_EPOCH);
    let expiry = expiry.map_or(0, |time| time.as_secs());
    let seconds = i64::try_from(expiry).unwrap_or(i64::MAX) - i64::try_from(now).unwrap_or(0);
    seconds.div_euclid(SECONDS_PER_DAY)
}

/// Formats a time in Unix seconds.
fn time_text(seconds: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    format_time(time.unwrap_or(SystemTime::UNIX_EPOCH))
}
