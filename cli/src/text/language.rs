//! Chooses the language of messages. Start reading at [`Language::choose`].

/// A language in which messages are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Language {
    /// English, in which all messages are written.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
}

impl Language {
    /// Returns the language that the variables of the environment ask for, as gettext reads them: the
    /// first one of `LC_ALL`, `LC_MESSAGES` and `LANG` that is set, and `LANGUAGE` unless that is `C`.
    /// Without any, the language of the system counts, for example `zh-Hans-CN`.
    pub fn choose(variable: impl Fn(&str) -> Option<String>, system: Option<&str>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set);
        let Some(locale) = locale else {
            return system.and_then(Self::of_locale).unwrap_or_default();
        };
        let (name, encoding) = match locale.split_once('.') {
            Some((name, encoding)) => (name, Some(encoding)),
            None => (&*locale, None),
        };
        // Messages are in UTF-8, which a terminal with another encoding shows as garbage.
        let is_utf8 = encoding.is_none_or(|encoding| {
            let encoding = encoding.split('@').next().unwrap_or_default();
            encoding.eq_ignore_ascii_case("utf-8") || encoding.eq_ignore_ascii_case("utf8")
        });
        if matches!(name, "C" | "POSIX") || !is_utf8 {
            return Self::English;
        }
        let preferred = set("LANGUAGE").unwrap_or_default();
        let mut names = preferred.split(':').chain([name]);
        names.find_map(Self::of_locale).unwrap_or_default()
    }

    /// Returns the language of a locale such as `zh_CN` or `en-GB`; `None` if there are no messages in
    /// it.
    fn of_locale(name: &str) -> Option<Self> {
        let language = name.split(['_', '-', '.', '@']).next()?;
        match language {
            "zh" => Some(Self::Chinese),
            "en" | "C" => Some(Self::English),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides() {
        use Language::{Chinese, English};
        let zh = "zh_CN.UTF-8";
        for (variables, expected) in [
            (&[][..], English),
            (&[("LANG", zh)], Chinese),
            (&[("LANG", "zh_TW.utf8")], Chinese),
            (&[("LANG", "zh")], Chinese),
            (&[("LANG", "zh_CN.GB18030")], English),
            (&[("LANG", "de_DE.UTF-8")], English),
            (&[("LANG", zh), ("LC_ALL", "C")], English),
            (&[("LANG", zh), ("LC_ALL", "C.UTF-8")], English),
            (&[("LANG", zh), ("LC_ALL", "")], Chinese),
            (&[("LANG", zh), ("LC_MESSAGES", "POSIX")], English),
            (&[("LANG", "C"), ("LC_MESSAGES", zh)], Chinese),
            (&[("LC_ALL", "en_US.UTF-8"), ("LC_MESSAGES", zh)], English),
            (&[("LANG", zh), ("LANGUAGE", "en")], English),
            (
                &[("LANG", "de_DE.UTF-8"), ("LANGUAGE", "fr:zh_CN:en")],
                Chinese,
            ),
            (&[("LANG", "C"), ("LANGUAGE", "zh_CN")], English),
            (&[("LANGUAGE", "zh_CN")], English),
        ] {
            let variable = |name: &str| {
                let mut found = variables.iter().filter(|(set, _)| *set == name);
                found.next().map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(Language::choose(variable, None), expected, "{variables:?}");
        }
        let none = |_: &str| None;
        assert_eq!(Language::choose(none, Some("zh-Hans-CN")), Chinese);
        assert_eq!(Language::choose(none, Some("fr-FR")), English);
        let english = |name: &str| (name == "LANG").then(|| "en_US.UTF-8".to_owned());
        assert_eq!(Language::choose(english, Some("zh-Hans-CN")), English);
    }
}
