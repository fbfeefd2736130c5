//! Tests of the plan: examples, and properties of random repositories.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use imgsync_oci::{Digest, Tag};

use super::plan::{KeepReason, PullDays, SECONDS_PER_DAY, TagFacts, TagVerdict, plan_tags};
use crate::config::RetentionRule;
use crate::store::testing::TestRng;

const NOW: u64 = 20_000 * SECONDS_PER_DAY;

fn days(count: u64) -> Duration {
    Duration::from_secs(count * SECONDS_PER_DAY)
}

fn rule() -> RetentionRule {
    RetentionRule {
        repositories: vec!["**".parse().unwrap()],
        keep_newest: None,
        keep_tags: Vec::new(),
        keep_pushed: None,
        keep_pulled: None,
        untagged: None,
    }
}

/// Returns a tag that was pushed some days ago.
fn tag(name: &str, pushed_days_ago: u64) -> TagFacts {
    TagFacts {
        tag: name.parse().unwrap(),
        digest: Some(Digest::of(name.as_bytes())),
        pushed_at: Some(NOW - pushed_days_ago * SECONDS_PER_DAY),
    }
}

fn no_pulls() -> PullDays {
    Some(HashMap::new())
}

fn removed(rule: &RetentionRule, tags: &[TagFacts], pulls: &PullDays) -> Vec<String> {
    let plan = plan_tags(rule, tags.to_vec(), pulls, NOW).into_iter();
    let removed = plan.filter(|(_, verdict)| matches!(verdict, TagVerdict::Remove(_)));
    let mut names: Vec<String> = removed.map(|(facts, _)| facts.tag.to_string()).collect();
    names.sort_unstable();
    names
}

#[test]
fn each_condition_keeps_tags() {
    let tags = [tag("v1", 50), tag("v2", 20), tag("dev", 5), tag("old", 90)];
    let newest = RetentionRule {
        keep_newest: Some(2),
        ..rule()
    };
    assert_eq!(removed(&newest, &tags, &no_pulls()), ["old", "v1"]);
    let names = RetentionRule {
        keep_tags: vec!["v*".parse().unwrap()],
        ..rule()
    };
    assert_eq!(removed(&names, &tags, &no_pulls()), ["dev", "old"]);
    let pushed = RetentionRule {
        keep_pushed: Some(days(30)),
        ..rule()
    };
    assert_eq!(removed(&pushed, &tags, &no_pulls()), ["old", "v1"]);
    let pulled = RetentionRule {
        keep_pulled: Some(days(7)),
        ..rule()
    };
    let pulls = Some(HashMap::from([
        (Digest::of(b"old"), NOW / SECONDS_PER_DAY - 7),
        (Digest::of(b"v1"), NOW / SECONDS_PER_DAY - 8),
    ]));
    assert_eq!(removed(&pulled, &tags, &pulls), ["dev", "v1", "v2"]);
    let all = RetentionRule {
        keep_newest: Some(1),
        keep_tags: vec!["v2".parse().unwrap()],
        keep_pulled: Some(days(7)),
        ..rule()
    };
    assert_eq!(removed(&all, &tags, &pulls), ["v1"]);
}

#[test]
fn a_tag_whose_times_cannot_be_read_stays() {
    let rule = RetentionRule {
        keep_newest: Some(1),
        ..rule()
    };
    let mut tags = vec![tag("a", 3), tag("b", 2), tag("c", 1)];
    tags[0].pushed_at = None;
    tags.push(TagFacts {
        digest: None,
        ..tag("d", 9)
    });
    // The unknown tags do not count as the newest one.
    assert_eq!(removed(&rule, &tags, &no_pulls()), ["b"]);
    assert_eq!(removed(&rule, &tags, &None), [""; 0]);
}

#[test]
fn reasons_name_the_condition() {
    let rule = RetentionRule {
        keep_newest: Some(1),
        keep_pushed: Some(days(30)),
        ..rule()
    };
    let plan = plan_tags(
        &rule,
        vec![tag("a", 40), tag("b", 1), tag("c", 2)],
        &no_pulls(),
        NOW,
    );
    let texts: Vec<String> = plan
        .iter()
        .map(|(facts, verdict)| match verdict {
            TagVerdict::Keep(reason) => format!("{}: {reason}", facts.tag),
            TagVerdict::Remove(reason) => format!("{}: {reason}!", facts.tag),
        })
        .collect();
    assert_eq!(
        texts,
        [
            "b: one of the 1 newest tags (keepnewest)",
            "c: pushed within the last 30d (keeppushed)",
            "a: pushed 40d ago, no pull known!",
        ]
    );
}

/// A repository and a rule, made from a seed.
fn random_case(random: &mut TestRng) -> (RetentionRule, Vec<TagFacts>, PullDays) {
    let chance = |random: &mut TestRng| random.below(3) > 0;
    let rule = RetentionRule {
        keep_newest: chance(random).then(|| random.below(5)),
        keep_tags: if random.below(3) == 0 {
            vec!["t1*".parse().unwrap()]
        } else {
            Vec::new()
        },
        keep_pushed: chance(random).then(|| days(1 + random.below(10) as u64)),
        keep_pulled: chance(random).then(|| days(1 + random.below(10) as u64)),
        ..rule()
    };
    let mut tags = Vec::new();
    let mut pulls = HashMap::new();
    for number in 0..random.below(15) {
        // Some pushes are in the future, because the clock was set back.
        let mut facts = tag(&format!("t{number}"), 5);
        facts.pushed_at = (random.below(8) > 0)
            .then(|| NOW + SECONDS_PER_DAY - random.below(15) as u64 * SECONDS_PER_DAY);
        if random.below(10) == 0 {
            facts.digest = None;
        }
        if let (Some(digest), true) = (&facts.digest, random.below(2) == 0) {
            let day = NOW / SECONDS_PER_DAY + 1 - random.below(15) as u64;
            pulls.insert(digest.clone(), day);
        }
        tags.push(facts);
    }
    (rule, tags, (random.below(10) > 0).then_some(pulls))
}

/// Returns whether a condition keeps a tag, written down as the documentation says it.
fn is_kept(rule: &RetentionRule, tags: &[TagFacts], facts: &TagFacts, pulls: &PullDays) -> bool {
    let (Some(digest), Some(pushed_at), Some(pulls)) = (&facts.digest, facts.pushed_at, pulls)
    else {
        return true;
    };
    let newer = tags.iter().filter(|other| {
        let pushed = other.pushed_at;
        pushed > Some(pushed_at) || (pushed == Some(pushed_at) && other.tag > facts.tag)
    });
    let second_ago = |age: Duration| NOW.saturating_sub(age.as_secs());
    rule.keep_newest.is_some_and(|count| newer.count() < count)
        || rule
            .keep_tags
            .iter()
            .any(|pattern| pattern.matches(&facts.tag))
        || rule
            .keep_pushed
            .is_some_and(|age| pushed_at > second_ago(age))
        || rule.keep_pulled.is_some_and(|age| {
            let day = pulls.get(digest);
            day.is_some_and(|day| (day + 1) * SECONDS_PER_DAY > second_ago(age))
        })
}

#[test]
fn a_plan_removes_exactly_what_no_condition_keeps() {
    for seed in 1..3000 {
        let mut random = TestRng(seed);
        let (rule, tags, pulls) = random_case(&mut random);
        let plan = plan_tags(&rule, tags.clone(), &pulls, NOW);
        assert_eq!(plan.len(), tags.len(), "seed {seed}");
        for (facts, verdict) in &plan {
            let is_removed = matches!(verdict, TagVerdict::Remove(_));
            assert_eq!(
                is_removed,
                !is_kept(&rule, &tags, facts, &pulls),
                "seed {seed} {facts:?}"
            );
            if facts.pushed_at.is_none() || pulls.is_none() {
                assert_eq!(*verdict, TagVerdict::Keep(KeepReason::UnknownTimes));
            }
        }
        // After the removal, the same rule removes nothing more.
        let names: HashSet<Tag> = plan
            .iter()
            .filter(|(_, verdict)| matches!(verdict, TagVerdict::Keep(_)))
            .map(|(facts, _)| facts.tag.clone())
            .collect();
        let left: Vec<TagFacts> = tags
            .into_iter()
            .filter(|facts| names.contains(&facts.tag))
            .collect();
        let again = removed(&rule, &left, &pulls);
        assert!(again.is_empty(), "seed {seed}: {again:?}");
    }
}
