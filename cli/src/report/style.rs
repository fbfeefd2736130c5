//! Colours of the text on a terminal.
//!
//! This module prints nothing. Start reading at [`Palette`].

use console::{Style, Term};

use crate::exit::Failure;
use crate::text::Language;

/// The meaning of a piece of text, which determines its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Names and sizes.
    Plain,
    /// The part of a bar that is done.
    Done,
    /// Less important text.
    Dim,
    /// Something that may need attention.
    Warning,
    /// The word before an error.
    Error,
    /// The word before a hint.
    Hint,
}

/// The colours of a terminal, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    has_colours: bool,
}

impl Palette {
    /// Returns the colours of standard error: none if it is no terminal, if the terminal has none,
    /// or if `NO_COLOR` is set.
    pub(super) fn of_stderr() -> Self {
        let has_colours = Term::stderr().features().colors_supported();
        Self { has_colours }
    }

    /// Returns text in the colour of its tone.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let style = Style::new().force_styling(self.has_colours);
        let style = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Done => style.green(),
            Tone::Dim => style.dim(),
            Tone::Warning => style.yellow(),
            Tone::Error => style.red().bold(),
            Tone::Hint => style.cyan().bold(),
        };
        style.apply_to(text).to_string()
    }

    /// Returns the text of a failure, with its first words in colour.
    pub(super) fn paint_failure(self, failure: &Failure, language: Language) -> String {
        let lines = failure.lines(language).into_iter();
        let lines = lines.zip([Tone::Error, Tone::Hint]).map(|(line, tone)| {
            // The first word ends with an ASCII colon, or with that of Chinese.
            let end = line.find([':', '：']).unwrap_or_default();
            let (word, rest) = line.split_at(end);
            let colon = rest.chars().next().map_or(0, char::len_utf8);
            let (colon, rest) = rest.split_at(colon);
            format!("{}{rest}", self.paint(tone, &format!("{word}{colon}")))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}
