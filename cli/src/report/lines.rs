//! Plain lines, for logs: one when a blob starts, one when it is there.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use imgsync_oci::Digest;

use super::mirror::{mirrored, sum};
use super::{Data, Fate, Mirrored, Outcome, Report, Sum, Verb, Voice, bytes, outcome, shown};
use crate::exit::Failure;
use crate::plan::Plan;

/// Lines on stderr, and the outcome on stdout.
#[derive(Debug)]
pub(super) struct Lines {
    voice: Voice,
    verb: Verb,
    data: Data,
    labels: Mutex<HashMap<Digest, (String, u64)>>,
}

impl Lines {
    /// Nothing said yet.
    pub(super) fn new(voice: Voice, verb: Verb) -> Self {
        Self {
            voice,
            verb,
            data: Data::default(),
            labels: Mutex::default(),
        }
    }
}

impl Report for Lines {
    fn note(&self, text: &str) {
        match self.voice {
            Voice::Quiet => {}
            Voice::Normal | Voice::Verbose => say(text),
        }
    }

    fn detail(&self, text: &str) {
        match self.voice {
            Voice::Quiet | Voice::Normal => {}
            Voice::Verbose => say(text),
        }
    }

    fn plan(&self, _plan: &Plan) {}

    fn begin(&self, digest: &Digest, label: &str, size: u64) {
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        labels.insert(digest.clone(), (label.to_owned(), size));
        drop(labels);
        self.note(&format!("{label}: {} {}", self.verb.moving(), bytes(size)));
    }

    fn position(&self, _digest: &Digest, _offset: u64) {}

    fn done(&self, digest: &Digest) {
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        let known = labels.remove(digest);
        drop(labels);
        if let Some((label, size)) = known {
            self.note(&format!("{label}: {} {}", self.verb.moved(), bytes(size)));
        }
    }

    fn outcome(&self, result: &Outcome) {
        self.data.print(&outcome(result));
    }

    fn mirror(&self, source: &str, target: &str, tags: Option<usize>) {
        // Of one image its own line says all of that.
        if let Some(tags) = tags {
            self.note(&wanted(source, target, tags));
        }
    }

    fn mirrored(&self, it: &Mirrored) {
        let line = shown(&mirrored(it, self.verb));
        match (self.voice, &it.fate) {
            (Voice::Normal | Voice::Verbose, _) => self.data.print(&line),
            (Voice::Quiet, Fate::Failed(_)) => write(&format!("error: {line}")),
            (Voice::Quiet, _) => {}
        }
    }

    fn left(&self, left: &Mirrored) {
        if left.is_dry || self.voice == Voice::Verbose {
            self.mirrored(left);
        }
    }

    fn sum(&self, it: &Sum) {
        self.data.print(&sum(it, self.verb));
    }

    fn failure(&self, failure: &Failure) {
        write(&failure.text());
    }

    fn data(&self) -> &Data {
        &self.data
    }
}

/// What a mirror begins with.
pub(super) fn wanted(source: &str, target: &str, tags: usize) -> String {
    let tags = match tags {
        1 => "1 tag".to_owned(),
        many => format!("{many} tags"),
    };
    format!("{source} to {target}: {tags}")
}

/// A line for people.
fn say(text: &str) {
    write(&shown(text));
}

/// Text for people that is safe already. A log that nobody can write to is no reason to stop.
pub(super) fn write(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
