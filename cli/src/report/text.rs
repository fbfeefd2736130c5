//! Reports as text for people: messages on stderr, and results on stdout. On a terminal, the lines
//! at the bottom show the progress; elsewhere, a line tells when a blob starts and when it is
//! finished, and one tells the progress every 30 seconds.
//!
//! Start reading at [`TextReport`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use imgsync_oci::Digest;

use super::display::{Display, write_stderr};
use super::live_region::LiveRegion;
use super::mirror::{summary_line, tag_line};
use super::progress::Progress;
use super::style::Palette;
use super::{
    MirrorSummary, MirroredTag, PlannedSize, PushSummary, Report, StdoutWriter, TagOutcome,
    TransferVerb, Verbosity, push_summary_line,
};
use crate::exit::Failure;
use crate::plan::PushPlan;
use crate::text::{Language, format_bytes, sanitize, translate};

/// The time between two drawings of the progress on a terminal.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
/// The time between two checks whether a line is due elsewhere.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A report for people.
#[derive(Debug)]
pub(super) struct TextReport {
    verbosity: Verbosity,
    verb: TransferVerb,
    /// The language of messages. Results and the progress are in English.
    language: Language,
    output: StdoutWriter,
    display: Arc<Mutex<Display>>,
}

impl TextReport {
    /// Creates a report that has printed nothing yet. `has_bars` tells whether it draws the progress
    /// on the terminal.
    pub(super) fn new(
        verbosity: Verbosity,
        verb: TransferVerb,
        language: Language,
        has_bars: bool,
    ) -> Self {
        let display = Display {
            progress: Progress::new(verb),
            palette: Palette::of_stderr(),
            region: has_bars.then(|| LiveRegion::new(std::io::stderr())),
            is_mirror: false,
            is_single_image: false,
            last_line: None,
            has_ticker: false,
            is_closed: false,
        };
        Self {
            verbosity,
            verb,
            language,
            output: StdoutWriter::default(),
            display: Arc::new(Mutex::new(display)),
        }
    }

    fn display(&self) -> MutexGuard<'_, Display> {
        lock(&self.display)
    }

    /// Returns the display, which a thread keeps up to date from now on.
    fn running_display(&self) -> MutexGuard<'_, Display> {
        let mut display = self.display();
        if self.verbosity != Verbosity::Quiet && !display.has_ticker {
            display.has_ticker = true;
            let interval = match display.region {
                Some(_) => DRAW_INTERVAL,
                None => CHECK_INTERVAL,
            };
            let shown = Arc::downgrade(&self.display);
            let thread = std::thread::Builder::new().name("progress".to_owned());
            // Without the thread, the progress is not shown.
            let _ = thread.spawn(move || tick_until_closed(&shown, interval));
        }
        display
    }

    /// Prints a result on stdout, which may be the same terminal.
    fn print_result(&self, line: &str) {
        let mut display = self.display();
        display.erase();
        self.output.print(line);
    }

    /// Returns a line about a blob, and prints it unless the verbosity is quiet.
    fn print_transfer(&self, display: &mut Display, line: &str) {
        if self.verbosity != Verbosity::Quiet {
            display.print(&sanitize(line), Instant::now());
        }
    }
}

impl Report for TextReport {
    fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    fn show_message(&self, _event: &str, text: &str) {
        let text = translate(&sanitize(text), self.language);
        self.display().print(&text, Instant::now());
    }

    fn show_plan(&self, _plan: &PushPlan) {}

    fn start_upload(&self) {
        self.running_display().progress.start_plan();
    }

    fn plan_blob(&self, size: PlannedSize) {
        self.display().progress.plan_blob(size);
    }

    fn record_compressed(&self, uncompressed: u64, size: u64) {
        let mut display = self.display();
        display.progress.record_compressed(uncompressed, size);
    }

    fn skip_blob(&self, size: u64) {
        let mut display = self.display();
        display.progress.skip_blob(size);
        display.draw_if_idle();
    }

    fn start_task(&self, text: &str, size: Option<u64>) -> u64 {
        let mut display = self.running_display();
        let progress = &mut display.progress;
        progress.start_task(sanitize(text), size, Instant::now())
    }

    fn update_task(&self, id: u64, position: u64) {
        self.display().progress.update_task(id, position);
    }

    fn finish_task(&self, id: u64) {
        let mut display = self.display();
        display.progress.finish_task(id);
        display.draw_if_idle();
    }

    fn start_blob(&self, digest: &Digest, label: &str, size: u64, offset: u64) {
        let mut display = self.running_display();
        let blob = (digest, sanitize(label), size);
        display.progress.start_blob(blob, offset, Instant::now());
        if display.region.is_none() {
            let size = format_bytes(size);
            let earlier = match offset {
                0 => String::new(),
                offset => format!(" ({} were sent by an earlier push)", format_bytes(offset)),
            };
            let line = format!("{label}: {} {size}{earlier}", self.verb.moving());
            self.print_transfer(&mut display, &line);
        }
    }

    fn update_blob(&self, digest: &Digest, offset: u64) {
        let mut display = self.display();
        let progress = &mut display.progress;
        progress.update_blob(digest, offset, Instant::now());
    }

    fn finish_blob(&self, digest: &Digest) {
        let mut display = self.display();
        let finished = display.progress.finish_blob(digest);
        // On a terminal, the line of a tag is enough for all blobs of a mirrored image.
        let is_shown = display.region.is_none() || !display.is_mirror;
        if let Some((label, size)) = finished.filter(|_| is_shown) {
            let line = format!("{label}: {} {}", self.verb.moved(), format_bytes(size));
            self.print_transfer(&mut display, &line);
        }
        display.draw_if_idle();
    }

    fn show_push_summary(&self, summary: &PushSummary) {
        self.display().progress.forget_transfers();
        self.print_result(&push_summary_line(summary));
    }

    fn start_mirror(&self, source: &str, target: &str, tags: Option<usize>) {
        let mut display = self.display();
        display.is_single_image = tags.is_none() && !display.is_mirror;
        display.is_mirror = true;
        drop(display);
        // For a single image, the line of its tag contains the same information.
        if let Some(tags) = tags {
            let plural = if tags == 1 { "" } else { "s" };
            self.note(&format!("{source} to {target}: {tags} tag{plural}"));
        }
    }

    fn finish_tag(&self, tag: &MirroredTag) {
        let line = sanitize(&tag_line(tag, self.verb));
        let is_failure = matches!(tag.outcome, TagOutcome::Failed(_));
        if self.verbosity != Verbosity::Quiet {
            self.print_result(&line);
        } else if is_failure {
            write_stderr(&translate(&format!("error: {line}"), self.language));
        }
    }

    fn show_mirror_summary(&self, summary: &MirrorSummary) {
        let mut display = self.display();
        display.progress.forget_transfers();
        let is_single_image = display.is_single_image;
        drop(display);
        // The line of the image says the same, but is not printed with --quiet.
        if !is_single_image || self.verbosity == Verbosity::Quiet {
            self.print_result(&summary_line(summary, self.verb));
        }
    }

    fn show_failure(&self, failure: &Failure) {
        let mut display = self.display();
        let error = display.palette.paint_failure(failure, self.language);
        display.close(&error);
    }

    fn output(&self) -> &StdoutWriter {
        &self.output
    }
}

/// Shows the progress again and again, until the report is gone or has printed an error.
fn tick_until_closed(shown: &Weak<Mutex<Display>>, interval: Duration) {
    loop {
        std::thread::sleep(interval);
        let Some(display) = shown.upgrade() else {
            return;
        };
        let mut display = lock(&display);
        if display.is_closed {
            return;
        }
        display.tick(Instant::now());
    }
}

fn lock(display: &Mutex<Display>) -> MutexGuard<'_, Display> {
    display.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_a_line_tells_the_progress_every_30_seconds() {
        const SECOND: Duration = Duration::from_secs(1);
        let report = TextReport::new(
            Verbosity::Normal,
            TransferVerb::Send,
            Language::English,
            false,
        );
        let mut display = report.display();
        let start = Instant::now();
        assert_eq!(display.due_line(start), None);
        let digest = Digest::of(b"");
        display.progress.plan(&[PlannedSize::Exact(100_000_000)]);
        let blob = (&digest, "layer".to_owned(), 100_000_000);
        display.progress.start_blob(blob, 0, start);
        let mut lines = Vec::new();
        let mut now = start;
        for second in 0..=70 {
            now = start + second * SECOND;
            let offset = u64::from(second) * 1_000_000;
            display.progress.update_blob(&digest, offset, now);
            lines.extend(display.due_line(now));
        }
        assert_eq!(
            lines,
            [
                "sent 30.0 MB of 100.0 MB, 1.0 MB/s, 70 s left",
                "sent 60.0 MB of 100.0 MB, 1.0 MB/s, 40 s left",
            ]
        );
        // Other lines count, too, and a command that does nothing is silent.
        display.print("layer: retrying", now);
        assert_eq!(display.due_line(now + 29 * SECOND), None);
        assert!(display.due_line(now + 30 * SECOND).is_some());
        display.progress.finish_blob(&digest);
        assert_eq!(display.due_line(now + 90 * SECOND), None);
        let task = display
            .progress
            .start_task("exporting".to_owned(), None, now);
        assert_eq!(display.due_line(now + 91 * SECOND), None);
        let line = display.due_line(now + 121 * SECOND);
        assert_eq!(line.unwrap(), "exporting: 2 min");
        display.progress.finish_task(task);
    }
}
