//! The section `validation`, of which only the rules for indexes have an effect.

use super::super::reader::ConfigReader;
use super::super::types::IndexPlatforms;

/// Builds the rules for indexes. Without them, all manifests of an index must exist, as in the stock
/// registry.
pub(super) fn build_index_platforms(reader: &mut ConfigReader<'_>) -> Option<IndexPlatforms> {
    let key = "validation.manifests.indexes.platforms";
    let mode = reader.optional(key, |text| match text.to_lowercase().as_str() {
        mode @ ("all" | "none" | "list") => Ok(mode.to_owned()),
        _ => Err(format!("must be all, none or list, not {text:?}")),
    })?;
    let mut platforms = Vec::new();
    for index in 0.. {
        let key = format!("validation.manifests.indexes.platformlist.{index}");
        if reader.origin(&key).is_none() {
            break;
        }
        let mut read = |name: &str| {
            let value = reader.optional(&format!("{key}.{name}"), |text| Ok(text.to_owned()))?;
            Some(value.unwrap_or_default())
        };
        platforms.push((read("architecture")?, read("os")?));
    }
    Some(match mode.as_deref() {
        Some("none") => IndexPlatforms::None,
        Some("list") => IndexPlatforms::Listed(platforms),
        _ => IndexPlatforms::All,
    })
}
