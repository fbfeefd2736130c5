//! The section `imgsync.retention`.

use std::time::Duration;

use super::super::reader::ConfigReader;
use super::super::scalars::{parse_interval, parse_positive_count, parse_with_from_str};
use super::super::types::{GarbageCollectionConfig, RetentionRule};
use super::space::build_patterns;

const RETENTION_KEY: &str = "imgsync.retention";

/// Builds the rules of retention.
pub(super) fn build_retention(
    reader: &mut ConfigReader<'_>,
    gc: Option<&GarbageCollectionConfig>,
) -> Option<Vec<RetentionRule>> {
    let expected = "must be a list of rules, each with repositories";
    let count = reader.count_entries(RETENTION_KEY, expected)?;
    let rules: Vec<_> = (0..count)
        .map(|index| build_rule(reader, &format!("{RETENTION_KEY}.{index}")))
        .collect();
    if let Some(origin) = reader.origin(RETENTION_KEY)
        && count > 0
        && gc.is_some_and(|gc| !gc.is_enabled)
    {
        let text = "is applied only by the command retention: imgsync.gc.enabled is false";
        reader.diagnostics.warning(&origin, RETENTION_KEY, text);
    }
    rules.into_iter().collect()
}

fn build_rule(reader: &mut ConfigReader<'_>, base: &str) -> Option<RetentionRule> {
    let key = |name: &str| format!("{base}.{name}");
    let duration = |reader: &mut ConfigReader<'_>, name: &str| -> Option<Option<Duration>> {
        reader.optional(&key(name), parse_interval)
    };
    build!(RetentionRule {
        repositories: build_patterns(reader, base),
        keep_newest: reader.optional(&key("keepnewest"), parse_positive_count),
        keep_tags: reader.list(&key("keeptags"), &[], parse_with_from_str),
        keep_pushed: duration(reader, "keeppushed"),
        keep_pulled: duration(reader, "keeppulled"),
        untagged: duration(reader, "untagged"),
    })
}
