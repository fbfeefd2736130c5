//! The section `imgsync.space`.

use super::super::reader::ConfigReader;
use super::super::scalars::{parse_bytes, parse_with_from_str};
use super::super::types::{QuotaConfig, SpaceConfig};
use crate::auth::RepositoryPattern;

const QUOTAS_KEY: &str = "imgsync.space.quotas";

/// Builds the limits of the space.
pub(super) fn build_space(reader: &mut ConfigReader<'_>) -> Option<SpaceConfig> {
    build!(SpaceConfig {
        reserve: reader.optional("imgsync.space.reserve", parse_bytes),
        quotas: build_quotas(reader),
    })
}

fn build_quotas(reader: &mut ConfigReader<'_>) -> Option<Vec<QuotaConfig>> {
    let expected = "must be a list of quotas, each with repositories and maxbytes";
    let count = reader.count_entries(QUOTAS_KEY, expected)?;
    let quotas: Vec<_> = (0..count)
        .map(|index| build_quota(reader, &format!("{QUOTAS_KEY}.{index}")))
        .collect();
    quotas.into_iter().collect()
}

fn build_quota(reader: &mut ConfigReader<'_>, base: &str) -> Option<QuotaConfig> {
    build!(QuotaConfig {
        repositories: build_patterns(reader, base),
        max_bytes: reader.required(&format!("{base}.maxbytes"), base, parse_bytes),
    })
}

/// Reads the patterns of the repositories to which an entry of a list applies: at least one.
pub(super) fn build_patterns(
    reader: &mut ConfigReader<'_>,
    base: &str,
) -> Option<Vec<RepositoryPattern>> {
    let key = format!("{base}.repositories");
    let patterns = reader.list(&key, &[], parse_with_from_str)?;
    if patterns.is_empty() {
        reader.must_be_set(&key, base);
        return None;
    }
    Some(patterns)
}
