//! The command `retention`.

use imgsync_oci::Repository;
use imgsync_oci::units::{format_bytes, format_count};

use super::{CommandOutput, error_text};
use crate::config::Config;
use crate::registry::{
    CollectOptions, CollectStats, Registry, RetentionStats, TagFacts, TagVerdict, TrashEntry,
    UntaggedPolicy,
};
use crate::wall_clock::unix_now;

/// Applies the rules of retention once, and prints what was removed and why.
pub(super) fn apply(
    registry: &Registry,
    config: &Config,
    is_dry_run: bool,
    output: &mut dyn CommandOutput,
) -> Result<(), String> {
    let imgsync = &config.imgsync;
    let rules = &imgsync.retention;
    if rules.is_empty() {
        return Err("there are no rules: add imgsync.retention to the configuration".to_owned());
    }
    if config.storage.is_read_only && !is_dry_run {
        return Err("the registry is in read-only mode".to_owned());
    }
    let now = unix_now();
    let is_reported = registry.are_rules_reported(rules).map_err(error_text)?;
    let is_report_only = is_dry_run || !is_reported;
    let word = if is_report_only {
        "would remove"
    } else {
        "removed"
    };
    let report = &mut |repository: &Repository, facts: &TagFacts, verdict: &TagVerdict| {
        let name = format!("{repository}:{}", facts.tag);
        match verdict {
            TagVerdict::Remove(why) => output.output(&format!("{word} {name}: {why}")),
            TagVerdict::Keep(why) => output.detail(&format!("keep {name}: {why}")),
        }
    };
    let tags = registry.apply_retention(rules, is_report_only, now, report);
    let tags = tags.map_err(error_text)?;
    let options = CollectOptions {
        grace: imgsync.gc.grace,
        untagged: UntaggedPolicy::Rules {
            rules: rules.clone(),
            is_report_only: is_report_only && !is_dry_run,
        },
        is_dry_run,
    };
    let collected = registry.collect_garbage(&options, now, &mut |entry| {
        if let TrashEntry::Revision {
            repository, digest, ..
        } = entry
        {
            output.output(&format!(
                "{word} {repository}@{digest}: no tag needs it (untagged)"
            ));
        }
    });
    let Some(manifests) = collected.map_err(error_text)? else {
        return Err("a garbage collection is running, or the folder is read-only".to_owned());
    };
    print_totals(&tags, &manifests, word, output);
    if !is_dry_run && !is_reported {
        registry.set_rules_reported(rules).map_err(error_text)?;
        output
            .detail("nothing was removed, because these rules are new: the next run applies them");
    }
    Ok(())
}

fn print_totals(
    tags: &RetentionStats,
    collected: &CollectStats,
    word: &str,
    output: &mut dyn CommandOutput,
) {
    let removed = format_count(tags.removed, "tag", "tags");
    output.detail(&format!("{word} {removed}, kept {}", tags.kept));
    let untagged = collected.manifests.max(collected.expired);
    let untagged = format_count(untagged, "image", "images");
    output.detail(&format!("{word} {untagged} without a tag"));
    if tags.failed > 0 {
        let failed = format_count(tags.failed, "repository", "repositories");
        output.detail(&format!("{failed} could not be read; see the log"));
    }
    if collected.untagged_bytes > 0 {
        let bytes = format_bytes(collected.untagged_bytes);
        output.detail(&format!(
            "images without a tag that no rule removes hold {bytes}"
        ));
    }
}
