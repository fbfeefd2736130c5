//! The file as it is written: all keys, with their types.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::{Budget, Error, Options, Spanned};

use crate::login::RegistrySettings;
use crate::mirror::selection::TagOrder;
use crate::text;
use crate::transports::ReferrersPolicy;

/// The largest file in bytes.
const MAX_FILE_BYTES: usize = 1024 * 1024;
/// The most values in a file. The values that an alias repeats are counted each time.
const MAX_YAML_VALUES: usize = 100_000;
const MAX_YAML_DEPTH: usize = 16;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) defaults: Option<Spanned<MirrorEntry>>,
    #[serde(default)]
    pub(super) registries: BTreeMap<String, Spanned<RegistrySettings>>,
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

impl MirrorEntry {
    /// Returns the entry with the defaults for the keys that it does not set.
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

    /// Returns the keys that also apply to a single image.
    pub(super) fn without_rules(self) -> Self {
        Self {
            platforms: self.platforms,
            referrers: self.referrers,
            ..Self::default()
        }
    }
}

/// Parses the text of a file.
///
/// # Errors
/// Fails with the line of the problem. The message shows no value, because a value could be a secret
/// in a wrong place.
pub(super) fn parse(text: &str) -> Result<ConfigFile, String> {
    if text.len() > MAX_FILE_BYTES {
        return Err(format!("the file is longer than {MAX_FILE_BYTES} bytes"));
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
        // The end of the message is about the program, and not about the file.
        let advice = ", set DuplicateKeyPolicy in Options if acceptable";
        let mut message = error.to_string().replace(advice, "");
        if message.contains("expected sequence") {
            message += "; write a list in brackets, or each item on a line with - before it";
        }
        return message;
    };
    let hint = match (field.as_str(), most_similar(field, expected)) {
        ("password", _) => {
            "use passwordFile or passwordEnv, so that the file contains no secret".to_owned()
        }
        (_, Some(similar)) => format!("did you mean {similar}?"),
        (_, None) => format!("the keys are {}", expected.join(", ")),
    };
    let field = text::sanitize(field);
    format!("line {}: unknown key {field}; {hint}", location.line())
}

/// Returns the known key that is most similar to an unknown one, if one is similar enough.
fn most_similar<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    const MAX_COMPARED_CHARS: usize = 40;
    let letters = |text: &str| -> String {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters
            .take(MAX_COMPARED_CHARS)
            .flat_map(char::to_lowercase)
            .collect()
    };
    let key = letters(key);
    let distance = |known: &&&str| strsim::levenshtein(&key, &letters(known));
    let nearest = known.iter().min_by_key(distance)?;
    let max_distance = (key.chars().count() / 3).max(1);
    (distance(&nearest) <= max_distance).then_some(*nearest)
}
