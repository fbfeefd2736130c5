//! The texts of the page, one table for each language.
//!
//! A text with `{}` is completed by [`fill`]. Tests compare the placeholders of the languages.

mod chinese;
mod english;

use std::fmt::Display;

/// A language of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    Chinese,
}

impl Language {
    /// Returns the language that a browser prefers, from its `Accept-Language` (RFC 9110, section
    /// 12.5.4). English if it names neither.
    pub(crate) fn of(accept_language: &str) -> Self {
        let preferred = accept_language.split(',').filter_map(|entry| {
            let (range, parameters) = entry.split_once(';').unwrap_or((entry, ""));
            let quality = parameters.trim().strip_prefix("q=").unwrap_or("1");
            let quality: f32 = quality
                .trim()
                .parse()
                .ok()
                .filter(|quality| *quality > 0.0)?;
            let primary = range.trim().split('-').next()?;
            let language = match primary.to_ascii_lowercase().as_str() {
                "zh" => Self::Chinese,
                "en" => Self::English,
                _ => return None,
            };
            Some((quality, language))
        });
        // Of entries with the same quality, the first counts.
        let best = preferred.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map_or(Self::English, |(_, language)| language)
    }

    pub(super) fn texts(self) -> &'static Texts {
        match self {
            Self::English => &english::TEXTS,
            Self::Chinese => &chinese::TEXTS,
        }
    }
}

/// Replaces the placeholders of a text, in their order.
pub(super) fn fill(text: &str, values: &[&dyn Display]) -> String {
    let mut parts = text.split("{}");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for (part, value) in parts.zip(values) {
        filled.push_str(&value.to_string());
        filled.push_str(part);
    }
    filled
}

/// Declares the table, and lists its entries for tests.
macro_rules! texts {
    ($($name:ident),* $(,)?) => {
        /// All texts in one language.
        #[derive(Debug)]
        pub(super) struct Texts {
            $(pub(super) $name: &'static str,)*
        }

        #[cfg(test)]
        impl Texts {
            fn entries(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

texts! {
    language_tag,
    skip,
    main_navigation,
    repositories,
    storage,
    uploads,
    log_in,
    log_out,
    logged_in_as,
    user,
    password,
    login_needed,
    login_wrong,
    login_busy,
    search,
    search_repositories,
    search_tags,
    repository,
    tags,
    tag,
    size,
    shared,
    shared_hint,
    no_repositories,
    no_match,
    push_first,
    stored,
    stored_objects,
    saved_by_sharing,
    saved_hint,
    free_on_disk,
    of_total,
    measuring,
    last_measurement,
    measured,
    next_page,
    first_page,
    previous_page,
    page_of,
    digest,
    platforms,
    platform,
    pushed,
    pulled,
    never_pulled,
    unknown,
    today,
    yesterday,
    just_now,
    minutes_ago,
    hours_ago,
    days_ago,
    in_minutes,
    in_hours,
    in_days,
    second_word,
    seconds_word,
    minute_word,
    minutes_word,
    hour_word,
    hours_word,
    day_word,
    days_word,
    no_tags,
    too_many_tags,
    tags_summary,
    pull,
    pull_by_digest,
    copy,
    copied,
    created,
    media_type,
    images,
    layers,
    layers_hint,
    command,
    no_command,
    labels,
    annotations,
    settings,
    entrypoint,
    cmd,
    working_dir,
    exposed_ports,
    referrers,
    kind,
    signature,
    attestation,
    sbom,
    no_referrers,
    missing_config,
    too_many_rows,
    delete_tag,
    delete_tag_text,
    delete_tag_button,
    delete_repository,
    delete_repository_text,
    delete_repository_button,
    tag_deleted,
    repository_deleted,
    undo,
    deleted_tags,
    deleted_for_good,
    undo_later,
    tag_restored,
    repository_restored,
    tag_kept,
    repository_kept,
    tags_kept,
    disk_use,
    disk_use_hint,
    disk_use_chart,
    no_history,
    used_by_images,
    used_by_others,
    trash,
    trash_hint,
    collection,
    collectable,
    collectable_hint,
    untagged,
    untagged_hint,
    last_collection,
    last_collection_result,
    last_collection_failed,
    next_collection,
    collection_disabled,
    none_yet,
    largest,
    upstreams,
    upstream,
    address,
    state,
    upstream_good,
    upstream_bad,
    upstream_unused,
    no_uploads,
    uploads_lead,
    received,
    started,
    last_bytes,
    anonymous,
    uploads_summary,
    more_uploads,
    not_found,
    not_found_text,
    forbidden,
    forbidden_origin,
    forbidden_session,
    forbidden_action,
    failed,
    failed_text,
    not_in_trash,
    busy_text,
    back,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_preferred_one() {
        for (accepted, expected) in [
            ("", Language::English),
            ("zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese),
            ("en-US,en;q=0.9,zh;q=0.8", Language::English),
            ("de, fr;q=0.9", Language::English),
            ("de, ZH-TW;q=0.3, en;q=0.2", Language::Chinese),
            ("en;q=0.1, zh;q=0.1", Language::English),
            ("zh;q=0", Language::English),
            ("zh;q=x, en", Language::English),
        ] {
            assert_eq!(Language::of(accepted), expected, "{accepted}");
        }
    }

    #[test]
    fn the_languages_have_the_same_texts() {
        let english = Language::English.texts().entries();
        let chinese = Language::Chinese.texts().entries();
        let placeholders = |text: &str| text.matches("{}").count();
        for ((name, english), (_, chinese)) in english.iter().zip(&chinese) {
            assert!(!english.is_empty() && !chinese.is_empty(), "{name}");
            assert_eq!(placeholders(english), placeholders(chinese), "{name}");
        }
    }

    #[test]
    fn placeholders_are_filled_in_order() {
        assert_eq!(fill("Page {} of {}", &[&2, &"{}"]), "Page 2 of {}");
    }
}
