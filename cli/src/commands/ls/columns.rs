//! Lays out the lines of `--long`: in columns on a terminal, and with tabs for programs.
//!
//! The lines are printed while others are still read, so the widths are those that a page of names and
//! the usual fields need. Start reading at [`Columns`].

/// The width of a digest with SHA-256.
pub(super) const DIGEST_WIDTH: usize = 71;
/// The width of the largest number of bytes below 1 PB.
pub(super) const SIZE_WIDTH: usize = 8;

/// The widths of the columns. The last field has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns(Vec<usize>);

impl Columns {
    /// Returns the columns for a page of names, and for further fields of these widths.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>, others: &[usize]) -> Self {
        // Names have only ASCII characters.
        let widest = names.map(str::len).max().unwrap_or_default();
        Self([&[widest], others].concat())
    }

    /// Returns a line. A field that is wider than its column moves the rest of its line.
    pub(super) fn line(&self, fields: &[&str], is_terminal: bool) -> String {
        if !is_terminal {
            return fields.join("\t");
        }
        let padded = fields.iter().enumerate().map(|(position, field)| {
            let width = self.0.get(position).copied().unwrap_or_default();
            format!("{field:width$}")
        });
        let line = padded.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_columns_and_a_program_tabs() {
        let columns = Columns::new(["v1", "latest"].into_iter(), &[4, SIZE_WIDTH]);
        let line = |fields: &[&str]| columns.line(fields, true);
        assert_eq!(
            line(&["v1", "abcd", "1.0 kB", "x"]),
            "v1      abcd  1.0 kB    x"
        );
        assert_eq!(
            line(&["latest", "abcd", "12 B", "y"]),
            "latest  abcd  12 B      y"
        );
        assert_eq!(line(&["v1", "(gone)", "", ""]), "v1      (gone)");
        let fields = ["v1", "abcd", "", ""];
        assert_eq!(columns.line(&fields, false), "v1\tabcd\t\t");
    }
}
