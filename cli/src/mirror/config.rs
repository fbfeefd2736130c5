//! Parses `mirrors.yaml`, a file with many mirrors. Pure: the caller reads the file, and passwords
//! are read later.
//!
//! Start reading at [`parse`].

mod raw;

use std::collections::BTreeMap;
use std::path::Path;

use imgsync_oci::units::parse_duration;
use imgsync_oci::{ParseError, Registry};
use serde_saphyr::Spanned;

use super::job::MirrorJob;
use super::location::{SourceLocation, TargetLocation};
use super::selection::{TagPattern, TagRules};
use crate::image::Platforms;
use crate::login::{RegistrySettings, is_same_registry};

use raw::MirrorEntry;

/// The content of a file.
#[derive(Debug, Clone, Default)]
pub struct MirrorConfig {
    /// The mirrors in the order of the file. Entries with the same source and target are one mirror.
    pub jobs: Vec<MirrorJob>,
    /// How to connect and log in to registries.
    pub registries: BTreeMap<Registry, RegistryEntry>,
}

/// The settings of a registry, and where they are in the file.
#[derive(Debug, Clone)]
pub struct RegistryEntry {
    /// The number of the line.
    pub line: u64,
    /// The settings.
    pub settings: RegistrySettings,
}

/// Parses the text of a file. Relative paths start at `folder`.
///
/// # Errors
/// Fails with the line of the first problem.
pub fn parse(text: &str, folder: &Path) -> Result<MirrorConfig, String> {
    let file = raw::parse(text)?;
    let mut config = MirrorConfig::default();
    for (name, entry) in file.registries {
        let parsed: Result<Registry, ParseError> = name.parse();
        let registry = parsed.map_err(|error| at_line(&entry, error))?;
        let mut names = config.registries.keys();
        if names.any(|other| is_same_registry(other, &registry)) {
            return Err(at_line(&entry, format!("{registry} is listed twice")));
        }
        let mut settings = entry.value.clone();
        settings.check().map_err(|error| at_line(&entry, error))?;
        for path in [&mut settings.password_file, &mut settings.ca_file] {
            *path = path.take().map(|path| folder.join(path));
        }
        let line = entry.referenced.line();
        let entry = RegistryEntry { line, settings };
        config.registries.insert(registry, entry);
    }
    if let Some(defaults) = &file.defaults
        && (defaults.value.source.is_some() || defaults.value.target.is_some())
    {
        return Err(at_line(
            defaults,
            "source and target cannot be set in defaults",
        ));
    }
    let defaults = file.defaults.map(|defaults| defaults.value);
    let defaults = defaults.unwrap_or_default();
    for entry in &file.mirrors {
        job(&entry.value, &defaults, folder)
            .and_then(|job| add_job(&mut config.jobs, job))
            .map_err(|error| at_line(entry, error))?;
    }
    if config.jobs.is_empty() {
        return Err("the file defines no mirrors".to_owned());
    }
    Ok(config)
}

fn at_line<T>(entry: &Spanned<T>, error: impl std::fmt::Display) -> String {
    format!("line {}: {error}", entry.referenced.line())
}

/// Adds a mirror, or adds its rules to an earlier one with the same source and target.
fn add_job(jobs: &mut Vec<MirrorJob>, job: MirrorJob) -> Result<(), String> {
    let pair = (&job.from, &job.to, &job.tag);
    let mut earlier = jobs.iter_mut();
    let Some(earlier) = earlier.find(|other| (&other.from, &other.to, &other.tag) == pair) else {
        jobs.push(job);
        return Ok(());
    };
    let options = |job: &MirrorJob| (job.platforms.clone(), job.referrers, job.prune);
    if options(earlier) != options(&job) {
        return Err(format!(
            "an earlier entry has the same source and target, {} and {}, but different platforms, \
             referrers or prune",
            job.source(),
            job.to
        ));
    }
    earlier.rules.extend(job.rules);
    Ok(())
}

fn job(entry: &MirrorEntry, defaults: &MirrorEntry, folder: &Path) -> Result<MirrorJob, String> {
    let missing = |key: &str| format!("the {key} is missing");
    let source = entry.source.as_deref().ok_or_else(|| missing("source"))?;
    let target = entry.target.as_deref().ok_or_else(|| missing("target"))?;
    let mut from = SourceLocation::parse(source).map_err(|error| format!("source: {error}"))?;
    let mut to = TargetLocation::parse(target).map_err(|error| format!("target: {error}"))?;
    let defaults = match from.single() {
        Some(_) => defaults.clone().without_rules(),
        None => defaults.clone(),
    };
    let entry = entry.clone().or(defaults);
    if let SourceLocation::Layout(layout, _) = &mut from {
        layout.path = folder.join(&layout.path);
    }
    if let TargetLocation::Layout(layout, _) = &mut to {
        layout.path = folder.join(&layout.path);
    }
    let platforms = entry.platforms.as_deref().unwrap_or_default();
    let job = MirrorJob {
        rules: vec![rules(&entry)?],
        platforms: Platforms::parse(platforms).map_err(|platform| {
            format!("platforms: {platform:?} is not a platform such as linux/arm64")
        })?,
        referrers: entry.referrers.unwrap_or_default(),
        prune: entry.prune.unwrap_or_default(),
        ..MirrorJob::new(from, to)?
    };
    job.check()?;
    Ok(job)
}

fn rules(entry: &MirrorEntry) -> Result<TagRules, String> {
    let texts = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let patterns = TagPattern::parse_all(
        ("tags", &texts(&entry.tags)),
        ("tagsRegex", &texts(&entry.tags_regex)),
    )?;
    let exclude = TagPattern::parse_all(
        ("exclude", &texts(&entry.exclude)),
        ("excludeRegex", &texts(&entry.exclude_regex)),
    )?;
    if entry.newest == Some(0) {
        return Err("newest: 0 would select no tags".to_owned());
    }
    let range = entry.semver.as_ref().map(|text| text.parse()).transpose();
    let min_age = entry.min_age.as_deref().map(parse_duration);
    Ok(TagRules {
        patterns,
        exclude,
        range: range.map_err(|error: String| format!("semver: {error}"))?,
        newest: entry.newest,
        order: entry.by.unwrap_or_default(),
        min_age: min_age
            .transpose()
            .map_err(|error| format!("minAge: {error}"))?,
    })
}

#[cfg(test)]
mod tests;
