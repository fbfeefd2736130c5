//! `mirrors.yaml`: many mirrors in a file. Understanding it is pure; what it names is read later.

mod raw;

use std::collections::BTreeMap;
use std::path::Path;

use imgsync_oci::Registry;
use imgsync_oci::units::parse_duration;
use serde_saphyr::Spanned;

use super::job::MirrorJob;
use super::location::{SourceLocation, TargetLocation};
use super::selection::{NewestLimit, TagRules};
use crate::image::Platforms;
use crate::login::{PasswordSource, RegistrySettings, is_same_registry};
use raw::MirrorEntry;

/// What a file asks for.
#[derive(Debug, Clone, Default)]
pub struct MirrorConfig {
    /// The mirrors, in the file's order. Entries with the same source and target are one.
    pub jobs: Vec<MirrorJob>,
    /// How registries are reached, and as whom.
    pub registries: BTreeMap<Registry, RegistrySettings>,
}

/// Reads a file's text. Paths in it count from `folder`.
///
/// # Errors
/// What is wrong, with its line.
pub fn parse(text: &str, folder: &Path) -> Result<MirrorConfig, String> {
    let file = raw::parse(text)?;
    let mut config = MirrorConfig::default();
    for (name, host) in &file.registries {
        let registry: Registry = name
            .parse()
            .map_err(|error: imgsync_oci::ParseError| at(host, &error.to_string()))?;
        if config
            .registries
            .keys()
            .any(|it| is_same_registry(it, &registry))
        {
            return Err(at(host, &format!("{registry} is named twice")));
        }
        let read = self::host(&host.value, folder).map_err(|error| at(host, &error))?;
        config.registries.insert(registry, read);
    }
    if let Some(defaults) = &file.defaults
        && (defaults.value.source.is_some() || defaults.value.target.is_some())
    {
        return Err(at(defaults, "source and target have no default"));
    }
    let defaults = file.defaults.map(|it| it.value).unwrap_or_default();
    for entry in &file.mirrors {
        let job = job(&entry.value, &defaults, folder).map_err(|error| at(entry, &error))?;
        merge_job(&mut config.jobs, job).map_err(|error| at(entry, &error))?;
    }
    match config.jobs.is_empty() {
        true => Err("there is no mirror in it".to_owned()),
        false => Ok(config),
    }
}

fn at<T>(place: &Spanned<T>, text: &str) -> String {
    format!("line {}: {text}", place.referenced.line())
}

/// Entries with the same source and target are one mirror, which takes what any of them takes.
fn merge_job(jobs: &mut Vec<MirrorJob>, job: MirrorJob) -> Result<(), String> {
    let is_same = |it: &&mut MirrorJob| it.from == job.from && it.to == job.to && it.tag == job.tag;
    let Some(same) = jobs.iter_mut().find(is_same) else {
        jobs.push(job);
        return Ok(());
    };
    let how = |it: &MirrorJob| (it.platforms.clone(), it.referrers, it.prune);
    if how(same) != how(&job) {
        return Err(format!(
            "an entry before has the same source and target, {} and {}, but other platforms, \
             referrers or prune",
            job.source(),
            job.to
        ));
    }
    same.rules.extend(job.rules);
    Ok(())
}

fn job(entry: &MirrorEntry, defaults: &MirrorEntry, folder: &Path) -> Result<MirrorJob, String> {
    let missing = |what: &str| format!("the {what} is missing");
    let source = entry.source.as_deref().ok_or_else(|| missing("source"))?;
    let target = entry.target.as_deref().ok_or_else(|| missing("target"))?;
    let mut from = SourceLocation::parse(source).map_err(|error| format!("source: {error}"))?;
    let mut to = TargetLocation::parse(target).map_err(|error| format!("target: {error}"))?;
    let defaults = defaults.clone();
    let defaults = match from.single() {
        Some(_) => defaults.without_rules(),
        None => defaults,
    };
    let entry = &entry.clone().or(defaults);
    if let SourceLocation::Layout(disk, _) = &mut from {
        disk.path = folder.join(&disk.path);
    }
    if let TargetLocation::Layout(disk, _) = &mut to {
        disk.path = folder.join(&disk.path);
    }
    let platforms = entry.platforms.clone().unwrap_or_default();
    let job = MirrorJob {
        rules: vec![rules(entry)?],
        platforms: Platforms::parse(&platforms)
            .map_err(|word| format!("platforms: {word:?} is none; for instance linux/arm64"))?,
        referrers: entry.referrers.unwrap_or_default(),
        prune: entry.prune.unwrap_or(false),
        ..MirrorJob::new(from, to)?
    };
    job.check()?;
    Ok(job)
}

fn rules(entry: &MirrorEntry) -> Result<TagRules, String> {
    fn all<T: std::str::FromStr<Err = String>>(
        key: &str,
        texts: &Option<Vec<String>>,
    ) -> Result<Vec<T>, String> {
        let parsed = texts.iter().flatten().map(|text| text.parse());
        let parsed: Result<_, String> = parsed.collect();
        parsed.map_err(|error| format!("{key}: {error}"))
    }
    let order = entry.by.unwrap_or_default();
    if entry.newest == Some(0) {
        return Err("newest: 0 would take nothing".to_owned());
    }
    let range = entry.semver.as_ref().map(|text| text.parse()).transpose();
    let min_age = entry.min_age.as_deref().map(parse_duration).transpose();
    Ok(TagRules {
        globs: all("tags", &entry.tags)?,
        regexes: all("tagsRegex", &entry.tags_regex)?,
        exclude_globs: all("exclude", &entry.exclude)?,
        exclude_regexes: all("excludeRegex", &entry.exclude_regex)?,
        range: range.map_err(|error: String| format!("semver: {error}"))?,
        newest: entry.newest.map(|count| NewestLimit { count, order }),
        min_age: min_age.map_err(|error| format!("minAge: {error}"))?,
    })
}

fn host(raw: &raw::RegistryEntry, folder: &Path) -> Result<RegistrySettings, String> {
    let password = match (&raw.password_file, &raw.password_env) {
        (Some(_), Some(_)) => {
            return Err("passwordFile and passwordEnv: one of them is enough".to_owned());
        }
        (Some(path), None) => Some(PasswordSource::File(folder.join(path))),
        (None, Some(name)) => Some(PasswordSource::Variable(name.clone())),
        (None, None) => None,
    };
    let login = match (&raw.username, password) {
        (Some(username), Some(password)) => Some((username.clone(), password)),
        (None, None) => None,
        (Some(_), None) => {
            return Err("username: needs passwordFile or passwordEnv beside it".to_owned());
        }
        (None, Some(_)) => return Err("the username is missing".to_owned()),
    };
    if raw.plain_http && (raw.insecure || raw.ca_file.is_some()) {
        return Err("plainHttp: without TLS no certificate counts".to_owned());
    }
    Ok(RegistrySettings {
        login,
        plain_http: raw.plain_http,
        insecure: raw.insecure,
        ca_file: raw.ca_file.as_ref().map(|path| folder.join(path)),
    })
}

#[cfg(test)]
mod tests;
