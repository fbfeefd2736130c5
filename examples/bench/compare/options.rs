//! The arguments of the benchmark.

use super::client::Source;
use super::registry::Kind;

const MEGABYTES: u64 = 300;
const MEGABYTES_SLOW: u64 = 20;

/// The measurements to take.
pub(super) struct Options {
    /// The size of the image, in MB. With 0, only the slow link is measured.
    pub(super) megabytes: u64,
    /// The size of the image for the slow link.
    pub(super) megabytes_slow: u64,
    /// How often each push is measured.
    pub(super) rounds: usize,
    /// The names of the sources and the registries; all if empty.
    sources: Vec<String>,
    registries: Vec<String>,
}

impl Options {
    /// Parses up to two numbers, and `KEY=VALUE`. Panics at anything else.
    pub(super) fn parse(words: impl Iterator<Item = String>) -> Self {
        let (mut sizes, mut rounds) = (Vec::new(), 1);
        let (mut sources, mut registries) = (Vec::new(), Vec::new());
        let number = |text: &str| {
            let number = text.parse::<u64>();
            number.unwrap_or_else(|_| panic!("{text:?} is no number"))
        };
        let names = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        for word in words {
            match word.split_once('=') {
                None => sizes.push(number(&word)),
                Some(("rounds", value)) => rounds = number(value).max(1),
                Some(("sources", value)) => sources = names(value),
                Some(("registries", value)) => registries = names(value),
                Some((key, _)) => panic!("unknown key {key:?}"),
            }
        }
        Self {
            megabytes: sizes.first().copied().unwrap_or(MEGABYTES),
            megabytes_slow: sizes.get(1).copied().unwrap_or(MEGABYTES_SLOW),
            rounds: usize::try_from(rounds).expect("a number of rounds"),
            sources,
            registries,
        }
    }

    pub(super) fn sources(&self) -> Vec<Source> {
        let is_chosen = |source: &Source| is_chosen(&self.sources, &source.name().to_lowercase());
        Source::ALL.into_iter().filter(is_chosen).collect()
    }

    pub(super) fn registries(&self) -> Vec<Kind> {
        let is_chosen = |kind: &Kind| is_chosen(&self.registries, kind.name());
        Kind::present().into_iter().filter(is_chosen).collect()
    }
}

fn is_chosen(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|chosen| chosen == name)
}
