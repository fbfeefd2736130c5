//! Lays out the progress of a command in lines that fit into a terminal: a bar for each task and
//! transfer, the total, and how fast it goes.
//!
//! This module prints nothing and reads no clock. Start reading at [`layout`].

#[cfg(test)]
mod tests;

use std::time::Instant;

use console::{measure_text_width, truncate_str};

use super::progress::{Pace, Progress, RunningBlob, RunningTask};
use super::style::Tone;
use crate::text::format_bytes;

/// The widest label before a bar.
const MAX_LABEL_COLUMNS: usize = 44;
/// A label is not cut below this for a bar.
const MIN_LABEL_COLUMNS: usize = 18;
/// The width of a bar without its brackets.
const MAX_BAR_COLUMNS: usize = 30;
const MIN_BAR_COLUMNS: usize = 8;
/// The width of two sizes, as in `12.3 MB / 999.9 MB `.
const SIZES_COLUMNS: usize = 19;
/// How long the mark of a task without a size stays at one place, in milliseconds.
const MARK_MILLIS: u128 = 200;
const MARK: &str = "<=>";

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TerminalSize {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// A line in pieces of different colours.
pub(super) type StyledLine = Vec<(Tone, String)>;

/// One bar.
struct Row<'a> {
    label: &'a str,
    fill: BarFill,
    sizes: String,
}

/// The content of a bar.
enum BarFill {
    /// This part is done, in thousandths.
    Part(u64),
    /// The size is not known. The mark is at this place, counted from the start.
    Moving(usize),
}

/// Returns the lines for a terminal of this size, none of them wider than it.
pub(super) fn layout(progress: &Progress, size: TerminalSize, now: Instant) -> Vec<StyledLine> {
    // Text in the last column makes some terminals begin a line.
    let columns = size.columns.saturating_sub(1);
    // The cursor is in the line below.
    let max_lines = size.rows.saturating_sub(1);
    let tasks = progress.tasks().iter().map(|task| task_row(task, now));
    let mut rows: Vec<_> = tasks.chain(progress.blobs().iter().map(blob_row)).collect();
    let mut summary = Vec::new();
    if progress.has_transfers() {
        let (position, total) = (progress.position(), progress.totals().size);
        summary.push(Row {
            label: "total",
            fill: BarFill::Part(thousandths(position, total)),
            sizes: format_sizes(position, total),
        });
    }
    let pace = pace_line(progress, now);
    let fixed = summary.len() + usize::from(pace.is_some());
    let left = max_lines.saturating_sub(fixed);
    let hidden = if rows.len() > left {
        // One line tells how many are not shown.
        let shown = left.saturating_sub(1);
        let hidden = rows.len() - shown;
        rows.truncate(shown);
        hidden
    } else {
        0
    };
    let widths = BarWidths::for_rows(rows.iter().chain(&summary), columns);
    let mut lines: Vec<StyledLine> = rows.iter().map(|row| widths.line(row)).collect();
    if hidden > 0 {
        lines.push(vec![(Tone::Dim, format!("and {hidden} more"))]);
    }
    lines.extend(summary.iter().map(|row| widths.line(row)));
    lines.extend(pace);
    // In a tiny terminal, the last lines say the most.
    let surplus = lines.len().saturating_sub(max_lines);
    lines.drain(..surplus);
    let lines = lines.into_iter().map(|line| truncate(line, columns));
    lines.collect()
}

fn task_row(task: &RunningTask, now: Instant) -> Row<'_> {
    let elapsed = now.duration_since(task.start).as_millis() / MARK_MILLIS;
    let (fill, sizes) = match (task.size, task.position) {
        // Nothing has arrived yet, for example while a daemon prepares an export.
        (Some(size), position) if position > 0 && position <= size => {
            let part = thousandths(position, size);
            (BarFill::Part(part), format_sizes(position, size))
        }
        (_, 0) => (BarFill::Moving(elapsed as usize), String::new()),
        (_, position) => {
            let sizes = format!("{:>8}", format_bytes(position));
            (BarFill::Moving(elapsed as usize), sizes)
        }
    };
    Row {
        label: &task.text,
        fill,
        sizes,
    }
}

fn blob_row(blob: &RunningBlob) -> Row<'_> {
    Row {
        label: &blob.label,
        fill: BarFill::Part(thousandths(blob.offset, blob.size)),
        sizes: format_sizes(blob.offset, blob.size),
    }
}

fn pace_line(progress: &Progress, now: Instant) -> Option<StyledLine> {
    let text = progress.pace_text(now);
    let tone = match progress.pace(now) {
        Pace::Stalled(_) => Tone::Warning,
        _ => Tone::Dim,
    };
    // The line stays while blobs are transferred, so that the others do not move.
    let is_shown = !text.is_empty() || !progress.blobs().is_empty();
    is_shown.then(|| vec![(tone, text)])
}

fn format_sizes(position: u64, size: u64) -> String {
    format!("{:>8} / {:<8}", format_bytes(position), format_bytes(size))
}

fn thousandths(position: u64, size: u64) -> u64 {
    let part = u128::from(position.min(size)) * 1000;
    // A blob without bytes is complete.
    part.checked_div(size.into())
        .map_or(1000, |part| part as u64)
}

/// The widths of the columns, equal for all rows.
struct BarWidths {
    label: usize,
    /// Without the brackets; 0 for no bar.
    bar: usize,
}

impl BarWidths {
    fn for_rows<'a>(rows: impl Iterator<Item = &'a Row<'a>>, columns: usize) -> Self {
        let widest = rows.map(|row| measure_text_width(row.label)).max();
        let widest = widest.unwrap_or(0).min(MAX_LABEL_COLUMNS);
        // Spaces and brackets: `label [bar] sizes`.
        let rest = columns.saturating_sub(SIZES_COLUMNS + 4);
        if rest < widest.min(MIN_LABEL_COLUMNS) + MIN_BAR_COLUMNS {
            let label = widest.min(columns.saturating_sub(SIZES_COLUMNS + 1));
            return Self { label, bar: 0 };
        }
        let label = widest.min((rest - MIN_BAR_COLUMNS).max(MIN_LABEL_COLUMNS));
        let bar = (rest - label).min(MAX_BAR_COLUMNS);
        Self { label, bar }
    }

    fn line(&self, row: &Row<'_>) -> StyledLine {
        let label = truncate_str(row.label, self.label, "..");
        let padding = self.label.saturating_sub(measure_text_width(&label));
        let mut line = vec![(Tone::Plain, format!("{label}{:padding$} ", ""))];
        if self.bar > 0 {
            line.extend(self.bar(&row.fill));
        }
        line.push((Tone::Plain, row.sizes.trim_end().to_owned()));
        line
    }

    fn bar(&self, fill: &BarFill) -> StyledLine {
        let width = self.bar;
        let (before, done) = match *fill {
            BarFill::Part(part) => {
                let done = part as usize * width / 1000;
                let mut text = "=".repeat(done);
                // An arrow shows where the bar grows.
                if done < width && done > 0 {
                    text.replace_range(done - 1.., ">");
                }
                (0, text)
            }
            BarFill::Moving(place) => {
                // From one end to the other, and back.
                let way = width.saturating_sub(MARK.len()).max(1);
                let place = place % (2 * way);
                (place.min(2 * way - place), MARK.to_owned())
            }
        };
        let after = width.saturating_sub(before + done.len());
        vec![
            (Tone::Dim, format!("[{:before$}", "")),
            (Tone::Done, done),
            (Tone::Dim, format!("{:after$}] ", "")),
        ]
    }
}

/// Cuts a line at this width.
fn truncate(line: StyledLine, columns: usize) -> StyledLine {
    let mut left = columns;
    let pieces = line.into_iter().map(|(tone, text)| {
        let text = truncate_str(&text, left, "").into_owned();
        left -= measure_text_width(&text).min(left);
        (tone, text)
    });
    pieces.collect()
}
