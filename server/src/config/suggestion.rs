//! Finds the known name that a misspelled name most likely means.

/// Returns the name of `candidates` that is closest to `misspelled`, ignoring case, or `None` when even
/// that one differs too much: by more than a third of its letters, or by more than three.
pub(super) fn closest_name<'a>(
    misspelled: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = misspelled.to_lowercase();
    let (distance, name) = candidates
        .map(|name| (strsim::osa_distance(&lower, &name.to_lowercase()), name))
        .min_by_key(|(distance, _)| *distance)?;
    let max_distance = (misspelled.len().max(name.len()) / 3).clamp(1, 3);
    (distance <= max_distance).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_close_names_are_suggested() {
        let keys = ["addr", "net", "host", "headers", "relativeurls", "http2"];
        for (name, expected) in [
            ("adr", Some("addr")),
            ("ADDR", Some("addr")),
            ("hots", Some("host")),
            ("header", Some("headers")),
            ("relative_urls", Some("relativeurls")),
            ("port", None),
            ("x", None),
        ] {
            assert_eq!(closest_name(name, keys.into_iter()), expected, "{name}");
        }
    }
}
