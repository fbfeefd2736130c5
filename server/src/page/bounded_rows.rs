//! Bounds the rows of a table whose content others wrote.

use maud::{Markup, PreEscaped};

/// The rows that fit into a part of a page.
pub(super) struct BoundedRows {
    pub(super) rows: Markup,
    /// The number of rows that fit.
    pub(super) count: usize,
}

/// The most HTML, in bytes, of a table of texts.
pub(super) const MAX_TEXT_BYTES: usize = 32 * 1024;
/// The most HTML, in bytes, of the table of layers or of images. All tables of an image together make
/// a page of at most 256 KiB.
pub(super) const MAX_LAYERS_BYTES: usize = 96 * 1024;

/// Takes the first rows that fit into `max_bytes` of HTML.
pub(super) fn bounded_rows(max_bytes: usize, rows: impl Iterator<Item = Markup>) -> BoundedRows {
    let (mut taken, mut count) = (String::new(), 0);
    for PreEscaped(row) in rows {
        if taken.len() + row.len() > max_bytes {
            break;
        }
        taken.push_str(&row);
        count += 1;
    }
    BoundedRows {
        rows: PreEscaped(taken),
        count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_while_they_fit() {
        let rows = ["abc", "def", "g"].map(|row| PreEscaped(row.to_owned()));
        for (max_bytes, taken, count) in [(7, "abcdefg", 3), (6, "abcdef", 2), (5, "abc", 1)] {
            let bounded = bounded_rows(max_bytes, rows.iter().cloned());
            assert_eq!((&*bounded.rows.0, bounded.count), (taken, count));
        }
    }
}
