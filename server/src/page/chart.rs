//! Draws how the disk was used, as an SVG that the style sheet colours.

use std::fmt::Write as _;

use imgsync_oci::units::format_bytes;
use maud::{Markup, html};

use super::format::date;
use super::texts::{Texts, fill};
use crate::registry::DiskSample;

/// The size of the drawing in its own units. The style sheet stretches it.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 300.0;

/// How many lines with a label there are above the lowest one.
const GRID_LINES: u32 = 3;

/// Draws the sizes of images, and of trash and uploads above them. Returns nothing for fewer than two
/// samples. They are in the order of their times.
pub(super) fn disk_chart(texts: &Texts, samples: &[DiskSample]) -> Option<Markup> {
    let (first, last) = (samples.first()?, samples.last()?);
    if last.time <= first.time {
        return None;
    }
    let top = nice_top(samples.iter().map(used).max().unwrap_or_default());
    let x = |time: u64| (time - first.time) as f64 / (last.time - first.time) as f64 * WIDTH;
    let y = |bytes: u64| HEIGHT - bytes as f64 / top as f64 * HEIGHT;
    let area = |bytes: fn(&DiskSample) -> u64| {
        let mut path = format!("M0 {HEIGHT}");
        for sample in samples {
            let _ = write!(path, "L{:.1} {:.1}", x(sample.time), y(bytes(sample)));
        }
        let _ = write!(path, "L{WIDTH} {HEIGHT}Z");
        path
    };
    let lines = (0..=GRID_LINES).rev();
    let lines: Vec<u64> = lines
        .map(|line| top / u64::from(GRID_LINES) * u64::from(line))
        .collect();
    let (from, to) = (date(first.time), date(last.time));
    let (at_first, now) = (format_bytes(used(first)), format_bytes(used(last)));
    let summary = fill(texts.disk_use_chart, &[&from, &to, &at_first, &now]);
    Some(html! {
        div.chart {
            div.sizes aria-hidden="true" { @for bytes in &lines { span { (axis_label(*bytes)) } } }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(summary) {
                @for bytes in &lines {
                    line.grid x1="0" x2=(WIDTH) y1=(y(*bytes)) y2=(y(*bytes)) {}
                }
                path.area-b d=(area(used)) {}
                path.area-a d=(area(|sample| sample.blobs)) {}
            }
            div.dates { span { (from) } span { (to) } }
        }
        ul.legend {
            li.a { i {} (texts.used_by_images) }
            li.b { i {} (texts.used_by_others) }
        }
    })
}

fn used(sample: &DiskSample) -> u64 {
    let others = sample.trash.saturating_add(sample.uploads);
    sample.blobs.saturating_add(others)
}

fn axis_label(bytes: u64) -> String {
    format_bytes(bytes).replace(".0 ", " ")
}

/// Returns the value of the highest line: each line has a round number of bytes.
fn nice_top(max: u64) -> u64 {
    let lines = u64::from(GRID_LINES);
    let step = max.div_ceil(lines).max(1);
    let magnitude = 10_u64.pow(step.ilog10());
    let nice = [1, 2, 3, 4, 5, 6, 8, 10].map(|factor| magnitude.saturating_mul(factor));
    let step = nice.into_iter().find(|nice| *nice >= step);
    step.unwrap_or(nice[7]).saturating_mul(lines)
}

#[cfg(test)]
mod tests {
    use super::super::texts::Language;
    use super::*;

    fn sample(time: u64, blobs: u64, trash: u64) -> DiskSample {
        DiskSample {
            time,
            blobs,
            trash,
            ..DiskSample::default()
        }
    }

    #[test]
    fn the_highest_line_is_a_round_number_above_all_samples() {
        for (max, top) in [(0, 3), (1, 3), (299, 300), (301, 600), (1600, 1800)] {
            assert_eq!(nice_top(max), top, "{max}");
        }
        assert!(nice_top(u64::MAX) >= u64::MAX / 2);
    }

    #[test]
    fn a_chart_needs_two_times_and_tells_its_ends() {
        let texts = Language::English.texts();
        assert!(disk_chart(texts, &[]).is_none());
        assert!(disk_chart(texts, &[sample(5, 1, 1), sample(5, 1, 1)]).is_none());
        let samples = [sample(0, 1_000_000, 0), sample(86_400, 2_000_000, 500_000)];
        let chart = disk_chart(texts, &samples).unwrap().into_string();
        let summary = "Disk use from 1970-01-01 to 1970-01-02: at first 1.0 MB, now 2.5 MB.";
        assert!(chart.contains(summary), "{chart}");
        // The last image size is at two thirds of the height, and the sum above it.
        assert!(chart.contains("L1000.0 100.0L1000 300Z"), "{chart}");
        assert!(chart.contains("L1000.0 50.0L1000 300Z"), "{chart}");
        assert!(!chart.contains("NaN") && !chart.contains("style="));
    }
}
