//! Removes tags that no rule of the configuration keeps.
//!
//! [`plan`] decides what a rule removes. Removed tags go to the trash. Their images are then
//! without a tag, and a garbage collection removes them once they are old enough
//! ([`super::collect`]). Cached tags are left to eviction. Start reading at
//! [`Registry::apply_retention`].

mod plan;
mod pulls;

use imgsync_oci::{Digest, Repository, Tag};

pub(crate) use self::plan::{TagFacts, TagVerdict};
pub(in crate::registry) use self::pulls::PullTimes;

use self::plan::{PullDays, plan_tags};
use super::Registry;
use super::cache::to_unix_seconds;
use super::collect::{CollectOptions, UntaggedPolicy};
use super::error::Result;
use super::locks::LockKey;
use crate::config::RetentionRule;
use crate::store::{ListScope, MarkKey, ObjectKey, Walk};

/// The number of tags that rules keep and remove.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetentionStats {
    /// Number of tags that were removed, or would be.
    pub(crate) removed: usize,
    /// Number of tags that stay, in repositories with a rule for tags.
    pub(crate) kept: usize,
    /// Number of repositories that could not be read.
    pub(crate) failed: usize,
}

/// Is called with each tag to which a rule for tags applies, and with what happens to it.
pub(crate) type RetentionReport<'a> = &'a mut dyn FnMut(&Repository, &TagFacts, &TagVerdict);

impl Registry {
    /// Removes the tags that no rule keeps at `now` (Unix seconds), unless `is_dry_run`. Does nothing
    /// if the store is read-only. Continues after the failure of a repository.
    ///
    /// # Errors
    /// Returns an error of the store.
    pub(crate) fn apply_retention(
        &self,
        rules: &[RetentionRule],
        is_dry_run: bool,
        now: u64,
        report: RetentionReport<'_>,
    ) -> Result<RetentionStats> {
        let mut stats = RetentionStats::default();
        let limits_tags = rules.iter().any(RetentionRule::limits_tags);
        if !limits_tags || !self.store.is_writable() {
            return Ok(stats);
        }
        for repository in self.repositories(ListScope::Repositories, &Walk::unbounded()) {
            let repository = repository?;
            let Some(rule) = RetentionRule::find(rules, &repository) else {
                continue;
            };
            if !rule.limits_tags() {
                continue;
            }
            let applied = self.apply_rule(
                rule,
                &repository,
                is_dry_run,
                now,
                (&mut stats, &mut *report),
            );
            if let Err(error) = applied {
                tracing::warn!(%repository, %error, "cannot apply imgsync.retention");
                stats.failed += 1;
            }
        }
        Ok(stats)
    }

    fn apply_rule(
        &self,
        rule: &RetentionRule,
        repository: &Repository,
        is_dry_run: bool,
        now: u64,
        (stats, report): (&mut RetentionStats, RetentionReport<'_>),
    ) -> Result<()> {
        let mut tags = Vec::new();
        for tag in self.all_tags(repository, &Walk::unbounded())? {
            if !self.is_cached_tag(repository, &tag)? {
                tags.push(self.tag_facts(repository, tag));
            }
        }
        let pulls = self.known_pulls(repository, &tags);
        for (facts, verdict) in plan_tags(rule, tags, &pulls, now) {
            let is_removed = match verdict {
                TagVerdict::Keep(_) => false,
                TagVerdict::Remove(_) => {
                    is_dry_run || self.remove_unchanged_tag(repository, &facts)?
                }
            };
            if is_removed {
                stats.removed += 1;
            } else {
                stats.kept += 1;
            }
            // A tag that was pushed meanwhile stays, and is not reported.
            if is_removed || matches!(verdict, TagVerdict::Keep(_)) {
                report(repository, &facts, &verdict);
            }
        }
        Ok(())
    }

    fn is_cached_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool> {
        Ok(self
            .store
            .mark_time(MarkKey::Tag(repository, tag))?
            .is_some())
    }

    /// Reads what is known about tags.
    pub(crate) fn facts_of_tags(&self, repository: &Repository, tags: Vec<Tag>) -> Vec<TagFacts> {
        let tags = tags.into_iter();
        tags.map(|tag| self.tag_facts(repository, tag)).collect()
    }

    /// Reads what is known about a tag. What cannot be read is unknown.
    fn tag_facts(&self, repository: &Repository, tag: Tag) -> TagFacts {
        let key = ObjectKey::TagCurrent(repository, &tag);
        let digest = self.read_link(key).unwrap_or_default();
        let pushed_at = self.tag_time(repository, &tag);
        TagFacts {
            digest,
            pushed_at: pushed_at.map(to_unix_seconds),
            tag,
        }
    }

    /// Returns the days of the last pulls of these tags.
    pub(crate) fn known_pulls(&self, repository: &Repository, tags: &[TagFacts]) -> PullDays {
        let mut days = self.pull_days(repository)?;
        if let Some(lost) = self.lost_pulls_on() {
            let digests = tags.iter().filter_map(|facts| facts.digest.clone());
            for digest in digests.collect::<Vec<Digest>>() {
                let day = days.entry(digest).or_default();
                *day = lost.max(*day);
            }
        }
        Some(days)
    }

    /// Removes a tag, unless it was pushed or deleted since its facts were read. Returns whether it
    /// was removed.
    fn remove_unchanged_tag(&self, repository: &Repository, facts: &TagFacts) -> Result<bool> {
        let tag = &facts.tag;
        let _lock = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
        if self.is_cached_tag(repository, tag)? || self.tag_facts(repository, tag.clone()) != *facts
        {
            return Ok(false);
        }
        self.trash_tag(repository, tag, facts.digest.clone())?;
        Ok(true)
    }

    /// Returns whether these rules were reported before, so that they may remove something.
    ///
    /// # Errors
    /// Returns an error of the store.
    pub(crate) fn are_rules_reported(&self, rules: &[RetentionRule]) -> Result<bool> {
        let state = self.store.retention_state()?;
        Ok(rules.is_empty() || state.reported_rules == Some(rules_id(rules)))
    }

    /// Records that these rules were reported.
    ///
    /// # Errors
    /// Returns an error of the store.
    pub(crate) fn set_rules_reported(&self, rules: &[RetentionRule]) -> Result<()> {
        let mut state = self.store.retention_state()?;
        state.reported_rules = Some(rules_id(rules));
        Ok(self.store.put_retention_state(&state)?)
    }

    /// Records how many bytes only images without a tag hold that no rule removes, for answers on a
    /// full disk. A collection that removes all of them for once says nothing about that. A failure
    /// is only logged.
    pub(super) fn remember_untagged_bytes(&self, bytes: u64, options: &CollectOptions) {
        if options.untagged == UntaggedPolicy::RemoveAll {
            return;
        }
        self.set_untagged_bytes(Some(bytes));
        if options.is_dry_run {
            return;
        }
        let stored = self.store.retention_state().and_then(|mut state| {
            if state.untagged_bytes == Some(bytes) {
                return Ok(());
            }
            state.untagged_bytes = Some(bytes);
            self.store.put_retention_state(&state)
        });
        if let Err(error) = stored {
            tracing::warn!(%error, "cannot store how much space images without a tag take");
        }
    }

    /// Reads what the last collection has found out about images without a tag.
    ///
    /// # Errors
    /// Returns an error of the store.
    pub(crate) fn load_untagged_bytes(&self) -> Result<()> {
        self.set_untagged_bytes(self.store.retention_state()?.untagged_bytes);
        Ok(())
    }
}

/// Returns a text that identifies rules.
fn rules_id(rules: &[RetentionRule]) -> String {
    Digest::of(format!("{rules:?}").as_bytes()).to_string()
}

#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod tests;
