//! Selections from lists of tags.

use super::*;
use crate::text;

const DAY: Duration = Duration::from_secs(86_400);

fn tags(words: &[&str]) -> Vec<Tag> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

fn now() -> SystemTime {
    text::parse_timestamp("2026-01-31T00:00:00Z").unwrap()
}

/// Creates rules from `tag=…`, `regex=…`, `not=…`, `range=…`, `newest=…`, `by-date`, `age=…`.
fn rules(words: &[&str]) -> TagRules {
    let mut rules = TagRules::default();
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "tag" => rules.patterns.push(TagPattern::glob(value).unwrap()),
            "regex" => rules.patterns.push(TagPattern::regex(value).unwrap()),
            "not" => rules.exclude.push(TagPattern::glob(value).unwrap()),
            "not-regex" => rules.exclude.push(TagPattern::regex(value).unwrap()),
            "range" => rules.range = Some(value.parse().unwrap()),
            "newest" => rules.newest = Some(value.parse().unwrap()),
            "by-date" => rules.order = TagOrder::Date,
            "age" => rules.min_age = Some(imgsync_oci::units::parse_duration(value).unwrap()),
            _ => panic!("{word}"),
        }
    }
    rules
}

/// Returns the selected tags, and the tags whose dates were needed. `days` returns the age of an
/// image.
fn select_with_dates(
    all: &[&str],
    alternatives: &[&[&str]],
    days: impl Fn(&str) -> Option<u32>,
) -> (Vec<String>, Vec<String>) {
    let alternatives: Vec<_> = alternatives.iter().map(|words| rules(words)).collect();
    let mut dates = HashMap::new();
    let mut needed = Vec::new();
    loop {
        match select_tags(&tags(all), &alternatives, &dates, now()) {
            Err(MissingDates(tags)) => {
                assert!(!tags.is_empty());
                for tag in tags {
                    needed.push(tag.to_string());
                    let date = match days(tag.as_str()) {
                        Some(days) => CreationDate::At(now() - DAY * days),
                        None => CreationDate::Unknown,
                    };
                    assert!(dates.insert(tag, Ok(date)).is_none(), "needed twice");
                }
            }
            Ok(TagSelection { selected, skipped }) => {
                assert_eq!(selected.len() + skipped.len(), all.len());
                return (selected.iter().map(Tag::to_string).collect(), needed);
            }
        }
    }
}

fn selected(all: &[&str], words: &[&str]) -> Vec<String> {
    let (selected, needed) = select_with_dates(all, &[words], |_| None);
    assert!(needed.is_empty(), "{needed:?}");
    selected
}

fn skip_reason(tag: &str, words: &[&str]) -> String {
    match select_tags(&tags(&[tag]), &[rules(words)], &HashMap::new(), now()) {
        Ok(selection) => selection.skipped[0].1.to_string(),
        Err(MissingDates(tags)) => panic!("{tags:?}"),
    }
}

#[test]
fn everything_without_rules() {
    assert_eq!(
        selected(&["v10", "v9", "latest"], &[]),
        ["latest", "v9", "v10"]
    );
}

#[test]
fn patterns() {
    let all = ["1.0", "1.1", "1.1-alpine", "2.0", "latest", "nightly-7"];
    assert_eq!(selected(&all, &["tag=1.*"]), ["1.0", "1.1", "1.1-alpine"]);
    assert_eq!(
        selected(&all, &["tag=1.*", "tag=latest", "not=*-alpine"]),
        ["1.0", "1.1", "latest"]
    );
    assert_eq!(selected(&all, &[r"regex=\d+\.\d+"]), ["1.0", "1.1", "2.0"]);
    assert_eq!(
        selected(&all, &["not-regex=.*[a-z].*"]),
        ["1.0", "1.1", "2.0"]
    );
    assert_eq!(
        skip_reason("nightly-7", &["not=night*"]),
        "excluded by night*"
    );
    assert_eq!(skip_reason("nightly-7", &["tag=1"]), "matches no pattern");
}

#[test]
fn versions_are_plain_releases_unless_a_pattern_says_otherwise() {
    let all = [
        "1.9.0",
        "1.10.0",
        "1.10.0-alpine",
        "1.11.0-rc1",
        "2.0.0",
        "latest",
        "v1.8.3",
        "1.9.0-alpine",
    ];
    assert_eq!(
        selected(&all, &["range=^1.8"]),
        ["1.10.0", "1.9.0", "v1.8.3"]
    );
    assert_eq!(
        selected(&all, &["range=^1.8", "tag=1*"]),
        ["1.10.0", "1.9.0"]
    );
    assert_eq!(
        selected(&all, &["range=>=1.10 <2", "tag=*-alpine*"]),
        ["1.10.0-alpine"]
    );
    assert_eq!(
        selected(&all, &["range=>=1.10 <2", "regex=1.*"]),
        ["1.11.0-rc1", "1.10.0-alpine", "1.10.0"]
    );
    assert_eq!(selected(&all, &["range=>=1.11.0-rc0 <2"]), ["1.11.0-rc1"]);
    assert_eq!(skip_reason("latest", &["range=1"]), "is not a version");
    assert_eq!(skip_reason("1.0", &["range=^2"]), "is not in ^2");
    assert!(skip_reason("1.0-slim", &["range=^1"]).contains("variant"));
}

#[test]
fn the_newest_of_every_variant() {
    let all = [
        "1.1",
        "1.2",
        "1.10",
        "1.9-alpine3.19",
        "1.10-alpine3.20",
        "1.8-alpine3.9",
        "1.10-slim",
        "1.2-slim",
    ];
    assert_eq!(selected(&all, &["newest=2"]), ["1.10", "1.2"]);
    assert_eq!(
        selected(&all, &["newest=1", "tag=*-alpine*", "tag=*-slim"]),
        ["1.10-slim", "1.10-alpine3.20"]
    );
    assert_eq!(selected(&all, &["newest=9", "tag=1.1"]), ["1.1"]);
    assert_eq!(selected(&all, &["newest=0"]), [""; 0]);
    // Of two names for one version the longer one is selected.
    assert_eq!(selected(&["1.2", "1.2.0"], &["newest=1"]), ["1.2.0"]);
}

#[test]
fn the_newest_by_date_needs_all_dates() {
    let days = |tag: &str| match tag {
        "a" => Some(3),
        "b" => Some(1),
        "c" => Some(2),
        _ => None,
    };
    let (selected, needed) =
        select_with_dates(&["a", "b", "c", "d"], &[&["newest=2", "by-date"]], days);
    assert_eq!(
        (selected, needed.len()),
        (vec!["b".to_owned(), "c".to_owned()], 4)
    );
}

#[test]
fn a_minimum_age_needs_only_the_dates_that_decide() {
    let days = |tag: &str| match tag {
        "5.0" => Some(1),
        "4.0" => Some(6),
        "3.0" => Some(7),
        "2.0" | "1.0" => Some(300),
        _ => None,
    };
    let all = ["1.0", "2.0", "3.0", "4.0", "5.0", "odd"];
    let (selected, needed) = select_with_dates(&all, &[&["age=7d", "newest=1"]], days);
    assert_eq!(selected, ["3.0"]);
    assert_eq!(needed, ["5.0", "4.0", "3.0"]);
    let (selected, needed) = select_with_dates(&all, &[&["age=7d"]], days);
    assert_eq!(selected, ["1.0", "2.0", "3.0"]);
    assert_eq!(needed.len(), 6);
}

#[test]
fn one_of_several_rules_is_enough() {
    let all = ["1.0", "1.1", "2.0", "2.1", "latest"];
    let alternatives: &[&[&str]] = &[
        &["range=1", "newest=1"],
        &["range=2", "newest=1"],
        &["tag=latest"],
    ];
    let (selected, _) = select_with_dates(&all, alternatives, |_| None);
    assert_eq!(selected, ["1.1", "2.1", "latest"]);
}

#[test]
fn referrer_tags_are_not_selected() {
    let signature = format!("sha256-{}.sig", "a".repeat(64));
    assert_eq!(selected(&["v1", &signature], &[]), ["v1"]);
}
