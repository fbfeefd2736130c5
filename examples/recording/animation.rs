//! Writes pictures of a terminal as an animated SVG: all pictures side by side, and a style sheet
//! that moves them past a window of one picture.

use std::fmt::Write as _;

use crate::screen::{Picture, Piece};

/// The size of a character, and the space around the text, in pixels.
const CHAR_WIDTH: f64 = 8.4;
const LINE_HEIGHT: usize = 19;
const MARGIN: usize = 14;

const STYLE: &str = "\
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #d0d7de; \
white-space: pre; }
.dim { fill: #8b949e; }
.green { fill: #3fb950; }
.yellow { fill: #d29922; }
.red { fill: #f85149; font-weight: bold; }
.cyan { fill: #39c5cf; font-weight: bold; }
";

/// Returns the SVG.
pub(crate) fn to_svg(pictures: &[Picture]) -> String {
    let used = |picture: &Picture| {
        let lines = picture.lines.iter().rposition(|line| !line.is_empty());
        lines.map_or(0, |last| last + 1)
    };
    let width_of = |line: &Vec<Piece>| -> usize {
        let pieces = line.iter();
        pieces.map(|piece| piece.text.chars().count()).sum()
    };
    let rows = pictures.iter().map(used).max().unwrap_or(0);
    let lines = pictures.iter().flat_map(|picture| &picture.lines);
    let columns = lines.map(width_of).max().unwrap_or(0);
    let width = (columns as f64 * CHAR_WIDTH).ceil() as usize + 2 * MARGIN;
    let height = rows * LINE_HEIGHT + 2 * MARGIN;
    let total: f64 = pictures
        .iter()
        .map(|picture| picture.duration.as_secs_f64())
        .sum();

    let mut keyframes = String::new();
    let mut strip = String::new();
    let mut start = 0.0;
    for (position, picture) in pictures.iter().enumerate() {
        let left = position * width;
        let percent = start / total * 100.0;
        let _ = writeln!(
            keyframes,
            "{percent:.3}% {{ transform: translateX(-{left}px); }}"
        );
        start += picture.duration.as_secs_f64();
        for (row, line) in picture.lines.iter().enumerate() {
            if !line.is_empty() {
                let (x, y) = (left + MARGIN, MARGIN + (row + 1) * LINE_HEIGHT - 5);
                let _ = writeln!(strip, "<text x=\"{x}\" y=\"{y}\">{}</text>", spans(line));
            }
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n<style>\n{STYLE}\
         @keyframes play {{\n{keyframes}}}\n\
         .strip {{ animation: play {total:.2}s steps(1, end) infinite; }}\n</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0d1117\"/>\n\
         <g class=\"strip\">\n{strip}</g>\n</svg>\n"
    )
}

fn spans(line: &[Piece]) -> String {
    let spans = line.iter().map(|Piece { text, class }| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        // A span keeps its spaces only if it says so.
        format!("<tspan class=\"{class}\" xml:space=\"preserve\">{text}</tspan>")
    });
    spans.collect()
}
