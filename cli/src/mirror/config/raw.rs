//! The file as it is written: every key, and none that is not known.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::{Budget, Error, Options, Spanned};

use crate::mirror::selection::TagOrder;
use crate::transports::ReferrersPolicy;

/// No file is longer, in bytes.
const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Values in it, those that aliases repeat counted each time.
const MAX_YAML_VALUES: usize = 100_000;
const MAX_YAML_DEPTH: usize = 16;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) defaults: Option<Spanned<MirrorEntry>>,
    #[serde(default)]
    pub(super) registries: BTreeMap<String, Spanned<RegistryEntry>>,
    #[serde(default)]
    pub(super) mirrors: Vec<Spanned<MirrorEntry>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct MirrorEntry {
    pub(super) source: Option<String>,
    pub(super) target: Option<String>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) tags_regex: Option<Vec<String>>,
    pub(super) exclude: Option<Vec<String>>,
    pub(super) exclude_regex: Option<Vec<String>>,
    pub(super) semver: Option<String>,
    pub(super) newest: Option<usize>,
    pub(super) by: Option<TagOrder>,
    pub(super) min_age: Option<String>,
    pub(super) platforms: Option<Vec<String>>,
    pub(super) referrers: Option<ReferrersPolicy>,
    pub(super) prune: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct RegistryEntry {
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_env: Option<String>,
    pub(super) plain_http: bool,
    pub(super) insecure: bool,
    pub(super) ca_file: Option<PathBuf>,
}

impl MirrorEntry {
    /// The same, with the defaults where it says nothing.
    pub(super) fn or(self, defaults: Self) -> Self {
        Self {
            source: self.source,
            target: self.target,
            tags: self.tags.or(defaults.tags),
            tags_regex: self.tags_regex.or(defaults.tags_regex),
            exclude: self.exclude.or(defaults.exclude),
            exclude_regex: self.exclude_regex.or(defaults.exclude_regex),
            semver: self.semver.or(defaults.semver),
            newest: self.newest.or(defaults.newest),
            by: self.by.or(defaults.by),
            min_age: self.min_age.or(defaults.min_age),
            platforms: self.platforms.or(defaults.platforms),
            referrers: self.referrers.or(defaults.referrers),
            prune: self.prune.or(defaults.prune),
        }
    }

    /// What of it counts for one image too, of which there is nothing to choose.
    pub(super) fn without_rules(self) -> Self {
        Self {
            source: self.source,
            target: self.target,
            platforms: self.platforms,
            referrers: self.referrers,
            ..Self::default()
        }
    }
}

/// Reads the text.
///
/// # Errors
/// What is wrong, with its line; no value is shown, since one could be a secret in a wrong place.
pub(super) fn parse(text: &str) -> Result<ConfigFile, String> {
    if text.len() > MAX_FILE_BYTES {
        return Err(format!("longer than {MAX_FILE_BYTES} bytes"));
    }
    let mut budget = Budget::default();
    budget.max_nodes = MAX_YAML_VALUES;
    budget.max_events = 2 * MAX_YAML_VALUES;
    budget.max_depth = MAX_YAML_DEPTH;
    budget.max_aliases = MAX_YAML_VALUES;
    let mut options = Options::default();
    options.budget = Some(budget);
    serde_saphyr::from_str_with_options(text, options).map_err(|error| describe_error(&error))
}

fn describe_error(error: &Error) -> String {
    let error = error.without_snippet();
    let Error::SerdeUnknownField {
        field,
        expected,
        location,
    } = error
    else {
        let text = error.to_string();
        // What concerns those who write programs.
        let text = text.replace(", set DuplicateKeyPolicy in Options if acceptable", "");
        return match text.contains("expected sequence") {
            true => {
                format!("{text}; a list is written in brackets, or a line each with - before it")
            }
            false => text,
        };
    };
    let shown = crate::text::sanitize(field);
    let advice = match field.as_str() {
        "password" => {
            "passwords have no place in this file: name a passwordFile or passwordEnv".to_owned()
        }
        _ => match near(field, expected) {
            Some(near) => format!("do you mean {near}?"),
            None => format!("known are {}", expected.join(", ")),
        },
    };
    format!(
        "line {}: nobody knows the key {shown}; {advice}",
        location.line()
    )
}

/// The known word that is most like one that is not.
fn near<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| -> Vec<char> {
        let letters = text.chars().filter(|c| c.is_alphanumeric()).take(40);
        letters.flat_map(char::to_lowercase).collect()
    };
    let word = plain(word);
    let far = |other: &str| distance(&word, &plain(other));
    let nearest = known.iter().min_by_key(|other| far(other))?;
    let limit = (word.len() / 3).max(1);
    (far(nearest) <= limit).then_some(*nearest)
}

/// How many letters must be added, taken away or changed (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, one) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let changed = corner + usize::from(one != other);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
