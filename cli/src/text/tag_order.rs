//! Compares tags as versions, to find those that are likely to share layers with a given tag.

use std::cmp::Ordering;

use imgsync_oci::Tag;

/// Returns at most `most` tags other than `tag`, the nearest in version order first.
pub fn nearest_tags(tags: Vec<Tag>, tag: &Tag, most: usize) -> Vec<Tag> {
    let mut below: Vec<Tag> = Vec::new();
    let mut above: Vec<Tag> = Vec::new();
    for other in tags {
        match compare_versions(other.as_str(), tag.as_str()) {
            Ordering::Less => below.push(other),
            Ordering::Greater => above.push(other),
            Ordering::Equal => {}
        }
    }
    below.sort_by(|a, b| compare_versions(b.as_str(), a.as_str()));
    above.sort_by(|a, b| compare_versions(a.as_str(), b.as_str()));
    // The preceding version is the one most likely to share layers.
    let (mut below, mut above) = (below.into_iter(), above.into_iter());
    let mut nearest = Vec::new();
    while nearest.len() < most {
        match (below.next(), above.next()) {
            (None, None) => break,
            (first, second) => nearest.extend(first.into_iter().chain(second)),
        }
    }
    nearest.truncate(most);
    nearest
}

/// Compares runs of digits as numbers and all other text by its bytes: `v9` is before `v10`.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let ((one, rest_a), (other, rest_b)) = (run(a), run(b));
        let ordering = match (number(one), number(other)) {
            (Some(x), Some(y)) => x.len().cmp(&y.len()).then_with(|| x.cmp(y)),
            _ => one.cmp(other),
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.len().cmp(&b.len())
}

/// Splits off the leading run of digits or of other characters.
fn run(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits);
    text.split_at(end.unwrap_or(text.len()))
}

/// Returns a run of digits without leading zeros, or `None` if the run is not a number. Of two such
/// numbers the longer one is larger.
fn number(run: &str) -> Option<&str> {
    let digits = run.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| run.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest_to(tag: &str, tags: &[&str]) -> Vec<String> {
        let tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let found = nearest_tags(tags, &tag.parse().unwrap(), 3);
        found.iter().map(Tag::to_string).collect()
    }

    #[test]
    fn the_version_before_comes_first() {
        let tags = ["v1", "v2", "v9", "v10", "v11", "v12", "latest"];
        assert_eq!(nearest_to("v10", &tags), ["v9", "v11", "v2"]);
        assert_eq!(nearest_to("v13", &tags), ["v12", "v11", "v10"]);
        assert_eq!(
            nearest_to("1.2.10", &["1.2.9", "1.10.0", "1.2.10"]),
            ["1.2.9", "1.10.0"]
        );
        assert!(nearest_to("v1", &["v1"]).is_empty());
    }
}
