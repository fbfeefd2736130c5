//! Choices over lists as registries have them.

use super::*;
use crate::text;

const DAY: Duration = Duration::from_secs(86_400);

fn tags(words: &[&str]) -> Vec<Tag> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

fn now() -> SystemTime {
    text::parse_timestamp("2026-01-31T00:00:00Z").unwrap()
}

/// Rules from words: `tag=…`, `regex=…`, `not=…`, `range=…`, `newest=…`, `by-date`, `age=…`.
fn rules(words: &[&str]) -> TagRules {
    let mut rules = TagRules::default();
    let mut by = TagOrder::Version;
    let mut count = None;
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "tag" => rules.globs.push(value.parse().unwrap()),
            "regex" => rules.regexes.push(value.parse().unwrap()),
            "not" => rules.exclude_globs.push(value.parse().unwrap()),
            "not-regex" => rules.exclude_regexes.push(value.parse().unwrap()),
            "range" => rules.range = Some(value.parse().unwrap()),
            "newest" => count = Some(value.parse().unwrap()),
            "by-date" => by = TagOrder::Date,
            "age" => rules.min_age = Some(imgsync_oci::units::parse_duration(value).unwrap()),
            _ => panic!("{word}"),
        }
    }
    rules.newest = count.map(|count| NewestLimit { count, order: by });
    rules
}

/// What is chosen; `days` tells a tag's age, and every question is noted.
fn chosen_asking(
    all: &[&str],
    any: &[&[&str]],
    days: impl Fn(&str) -> Option<u32>,
) -> (Vec<String>, Vec<String>) {
    let any: Vec<_> = any.iter().map(|words| rules(words)).collect();
    let mut dates = HashMap::new();
    let mut asked = Vec::new();
    loop {
        match select_tags(&tags(all), &any, &dates, now()) {
            SelectionStep::NeedDates(tags) => {
                assert!(!tags.is_empty());
                for tag in tags {
                    asked.push(tag.to_string());
                    let date = match days(tag.as_str()) {
                        Some(days) => TagDate::At(now() - DAY * days),
                        None => TagDate::Unknown,
                    };
                    assert!(dates.insert(tag, date).is_none(), "asked twice");
                }
            }
            SelectionStep::Done(choice) => {
                assert_eq!(choice.selected.len() + choice.skipped.len(), all.len());
                return (choice.selected.iter().map(Tag::to_string).collect(), asked);
            }
        }
    }
}

fn chosen(all: &[&str], words: &[&str]) -> Vec<String> {
    let (chosen, asked) = chosen_asking(all, &[words], |_| None);
    assert!(asked.is_empty(), "{asked:?}");
    chosen
}

fn why(tag: &str, words: &[&str]) -> String {
    match select_tags(&tags(&[tag]), &[rules(words)], &HashMap::new(), now()) {
        SelectionStep::Done(choice) => choice.skipped[0].1.to_string(),
        SelectionStep::NeedDates(tags) => panic!("{tags:?}"),
    }
}

#[test]
fn everything_without_rules() {
    assert_eq!(
        chosen(&["v10", "v9", "latest"], &[]),
        ["latest", "v9", "v10"]
    );
}

#[test]
fn patterns() {
    let all = ["1.0", "1.1", "1.1-alpine", "2.0", "latest", "nightly-7"];
    assert_eq!(chosen(&all, &["tag=1.*"]), ["1.0", "1.1", "1.1-alpine"]);
    assert_eq!(
        chosen(&all, &["tag=1.*", "tag=latest", "not=*-alpine"]),
        ["1.0", "1.1", "latest"]
    );
    assert_eq!(chosen(&all, &[r"regex=\d+\.\d+"]), ["1.0", "1.1", "2.0"]);
    assert_eq!(
        chosen(&all, &["not-regex=.*[a-z].*"]),
        ["1.0", "1.1", "2.0"]
    );
    assert_eq!(why("nightly-7", &["not=night*"]), "excluded by night*");
    assert_eq!(why("nightly-7", &["tag=1"]), "no pattern takes it");
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
    assert_eq!(chosen(&all, &["range=^1.8"]), ["1.10.0", "1.9.0", "v1.8.3"]);
    assert_eq!(chosen(&all, &["range=^1.8", "tag=1*"]), ["1.10.0", "1.9.0"]);
    assert_eq!(
        chosen(&all, &["range=>=1.10 <2", "tag=*-alpine*"]),
        ["1.10.0-alpine"]
    );
    assert_eq!(
        chosen(&all, &["range=>=1.10 <2", "regex=1.*"]),
        ["1.11.0-rc1", "1.10.0-alpine", "1.10.0"]
    );
    assert_eq!(chosen(&all, &["range=>=1.11.0-rc0 <2"]), ["1.11.0-rc1"]);
    assert_eq!(why("latest", &["range=1"]), "is no version");
    assert_eq!(why("1.0", &["range=^2"]), "is not in ^2");
    assert!(why("1.0-slim", &["range=^1"]).contains("variant"));
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
    assert_eq!(chosen(&all, &["newest=2"]), ["1.10", "1.2"]);
    assert_eq!(
        chosen(&all, &["newest=1", "tag=*-alpine*", "tag=*-slim"]),
        ["1.10-slim", "1.10-alpine3.20"]
    );
    assert_eq!(chosen(&all, &["newest=9", "tag=1.1"]), ["1.1"]);
    assert_eq!(chosen(&all, &["newest=0"]), [""; 0]);
    // Of two names for one version the one that says more.
    assert_eq!(chosen(&["1.2", "1.2.0"], &["newest=1"]), ["1.2.0"]);
}

#[test]
fn the_newest_by_date_needs_all_dates() {
    let days = |tag: &str| match tag {
        "a" => Some(3),
        "b" => Some(1),
        "c" => Some(2),
        _ => None,
    };
    let (chosen, asked) = chosen_asking(&["a", "b", "c", "d"], &[&["newest=2", "by-date"]], days);
    assert_eq!(
        (chosen, asked.len()),
        (vec!["b".to_owned(), "c".to_owned()], 4)
    );
}

#[test]
fn an_age_asks_no_more_than_it_must() {
    let days = |tag: &str| match tag {
        "5.0" => Some(1),
        "4.0" => Some(6),
        "3.0" => Some(7),
        "2.0" | "1.0" => Some(300),
        _ => None,
    };
    let all = ["1.0", "2.0", "3.0", "4.0", "5.0", "odd"];
    let (chosen, asked) = chosen_asking(&all, &[&["age=7d", "newest=1"]], days);
    assert_eq!(chosen, ["3.0"]);
    assert_eq!(asked, ["5.0", "4.0", "3.0"]);
    let (chosen, asked) = chosen_asking(&all, &[&["age=7d"]], days);
    assert_eq!(chosen, ["1.0", "2.0", "3.0"]);
    assert_eq!(asked.len(), 6);
}

#[test]
fn one_of_several_rules_is_enough() {
    let all = ["1.0", "1.1", "2.0", "2.1", "latest"];
    let any: &[&[&str]] = &[
        &["range=1", "newest=1"],
        &["range=2", "newest=1"],
        &["tag=latest"],
    ];
    let (chosen, _) = chosen_asking(&all, any, |_| None);
    assert_eq!(chosen, ["1.1", "2.1", "latest"]);
}

#[test]
fn referrer_tags_are_not_selected() {
    let signature = format!("sha256-{}.sig", "a".repeat(64));
    assert_eq!(chosen(&["v1", &signature], &[]), ["v1"]);
}
