//! Formats sizes, times and digests.

use std::time::{Duration, SystemTime};

use imgsync_oci::Digest;
use imgsync_oci::units::format_bytes;
use jiff::Timestamp;
use maud::{Markup, Render as _, html};

use super::texts::{Texts, fill};
use super::untrusted::Untrusted;
use crate::store::format_time;

/// How many characters of a digest are shown where the whole one is a link away.
const SHORT_DIGEST_CHARS: usize = 12;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;

/// Formats a number of bytes, or a dash if it is unknown.
pub(super) fn size(bytes: Option<u64>) -> Markup {
    html! {
        @match bytes {
            Some(bytes) => (format_bytes(bytes)),
            None => span.none { "–" },
        }
    }
}

/// Formats a number with its title and a hint, for a list of figures.
pub(super) fn figure(title: &str, value: &str, hint: &str) -> Markup {
    html! { div { dt { (title) } dd { (value) small { (hint) } } } }
}

/// Formats the start of a digest, with the whole digest as a tooltip.
pub(super) fn short_digest(digest: &Digest) -> Markup {
    html! { code title=(digest) { (digest_start(digest)) } }
}

/// Returns the start of the hash of a digest.
pub(super) fn digest_start(digest: &Digest) -> &str {
    digest.hex().get(..SHORT_DIGEST_CHARS).unwrap_or_default()
}

/// Formats how long ago a time in Unix seconds was, with the time as a tooltip.
pub(super) fn age(texts: &Texts, now: u64, time: Option<u64>) -> Markup {
    let Some(time) = time else {
        return html! { span.none { "–" } };
    };
    let exact = rfc3339(time);
    html! { time datetime=(exact) title=(exact) { (age_text(texts, now, time)) } }
}

/// Formats on which day something happened last.
pub(super) fn day(texts: &Texts, now: u64, day: u64) -> String {
    match (now / DAY).saturating_sub(day) {
        0 => texts.today.to_owned(),
        1 => texts.yesterday.to_owned(),
        days => fill(texts.days_ago, &[&days]),
    }
}

fn age_text(texts: &Texts, now: u64, time: u64) -> String {
    let (ago, in_future) = (now.saturating_sub(time), time.saturating_sub(now));
    if in_future >= MINUTE {
        return duration(
            texts,
            in_future,
            texts.in_minutes,
            texts.in_hours,
            texts.in_days,
        );
    }
    if ago < MINUTE {
        return texts.just_now.to_owned();
    }
    duration(
        texts,
        ago,
        texts.minutes_ago,
        texts.hours_ago,
        texts.days_ago,
    )
}

fn duration(_: &Texts, seconds: u64, minutes: &str, hours: &str, days: &str) -> String {
    let (text, unit) = match seconds {
        0..HOUR => (minutes, MINUTE),
        HOUR..172_800 => (hours, HOUR),
        _ => (days, DAY),
    };
    fill(text, &[&(seconds / unit)])
}

/// Formats a duration in words, in the largest unit that gives a whole number: `36 hours`.
pub(super) fn duration_words(texts: &Texts, duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [
        (DAY, texts.day_word, texts.days_word),
        (HOUR, texts.hour_word, texts.hours_word),
        (MINUTE, texts.minute_word, texts.minutes_word),
    ];
    let whole = units
        .into_iter()
        .find(|(unit, ..)| seconds >= *unit && seconds.is_multiple_of(*unit));
    let (unit, one, many) = whole.unwrap_or((1, texts.second_word, texts.seconds_word));
    let count = seconds / unit;
    fill(if count == 1 { one } else { many }, &[&count])
}

/// Formats a time that others wrote: as [`age`] if it is one of RFC 3339 after 1970, else as it is.
pub(super) fn untrusted_time(texts: &Texts, now: u64, text: &str) -> Markup {
    let parsed = text.parse::<Timestamp>().ok();
    match parsed.map(|time| u64::try_from(time.as_second())) {
        Some(Ok(seconds)) if seconds > 0 => age(texts, now, Some(seconds)),
        _ => Untrusted(text).render(),
    }
}

/// Formats a time in Unix seconds as in RFC 3339.
pub(super) fn rfc3339(seconds: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    format_time(time.unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Returns the date of a time in Unix seconds: `2026-03-31`.
pub(super) fn date(seconds: u64) -> String {
    let time = rfc3339(seconds);
    time.get(..10).unwrap_or_default().to_owned()
}

/// Encodes a link to a page, relative to the other pages: `image?name=team%2Fapp`.
pub(super) fn link(page: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    format!("{page}?{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::super::texts::Language;
    use super::*;

    #[test]
    fn ages_are_told_in_one_unit() {
        let now = 1_000_000;
        let age = |time| age_text(Language::English.texts(), now, time);
        assert_eq!(age(now), "just now");
        assert_eq!(age(now + 30), "just now");
        assert_eq!(age(now - 60), "1 min ago");
        assert_eq!(age(now - 7300), "2 h ago");
        assert_eq!(age(now - 3 * DAY), "3 days ago");
        assert_eq!(age(now + 2 * HOUR), "in 2 h");
        assert_eq!(day(Language::English.texts(), 10 * DAY + 5, 10), "today");
        assert_eq!(day(Language::Chinese.texts(), 10 * DAY, 9), "昨天");
    }

    #[test]
    fn durations_are_words() {
        let words = |seconds, language: Language| {
            duration_words(language.texts(), Duration::from_secs(seconds))
        };
        for (seconds, english, chinese) in [
            (DAY, "1 day", "1 天"),
            (7 * DAY, "7 days", "7 天"),
            (36 * HOUR, "36 hours", "36 小时"),
            (HOUR, "1 hour", "1 小时"),
            (90 * MINUTE, "90 minutes", "90 分钟"),
            (61, "61 seconds", "61 秒"),
            (0, "0 seconds", "0 秒"),
        ] {
            assert_eq!(words(seconds, Language::English), english);
            assert_eq!(words(seconds, Language::Chinese), chinese);
        }
    }

    #[test]
    fn a_time_of_others_is_an_age_or_text() {
        let shown =
            |text| untrusted_time(Language::English.texts(), 1_000_000_000, text).into_string();
        let age = shown("2001-09-09T01:45:40.819401584Z");
        assert!(
            age.contains("\"2001-09-09T01:45:40Z\"") && age.contains(">1 min ago<"),
            "{age}"
        );
        for text in [
            "yesterday",
            "1970-01-01T00:00:00Z",
            "-009999-01-01T00:00:00Z",
            "",
        ] {
            assert_eq!(shown(text), format!("<bdi>{text}</bdi>"));
        }
    }

    #[test]
    fn links_are_encoded() {
        let link = link("image", &[("name", "team/app"), ("reference", "a&b\"<")]);
        assert_eq!(link, "image?name=team%2Fapp&reference=a%26b%22%3C");
    }
}
