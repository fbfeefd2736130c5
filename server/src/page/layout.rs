//! The frame around every view: head, navigation, account.

use maud::{DOCTYPE, Markup, html};

use super::format::link;
use super::notice::Notice;
use super::texts::{Language, Texts};
use super::untrusted::Untrusted;

/// A part of the page, as the navigation lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Repositories,
    Storage,
    Uploads,
}

/// What the frame around a view shows.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) language: Language,
    /// The time in Unix seconds.
    pub(crate) now: u64,
    /// The host, with its port, by which the browser reaches this server; empty if unknown.
    pub(crate) host: String,
    /// The name of the user; `None` without a login.
    pub(crate) user: Option<String>,
    /// Whether there are users who can log in.
    pub(crate) has_logins: bool,
    /// Whether the visitor may see all repositories, the storage and the uploads.
    pub(crate) may_list: bool,
    /// The token that forms send back; empty without a login.
    pub(crate) form_token: String,
    /// The path and query of this page, to return to after a login.
    pub(crate) here: String,
    pub(crate) notice: Option<Notice>,
}

impl Frame {
    pub(super) fn texts(&self) -> &'static Texts {
        self.language.texts()
    }

    /// Puts a view into the frame.
    pub(super) fn page(&self, title: &str, section: Option<Section>, view: &Markup) -> String {
        let texts = self.texts();
        let page = html! {
            (DOCTYPE)
            html lang=(texts.language_tag) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="robots" content="noindex";
                    title { (title) " · " (self.name()) }
                    link rel="icon" type="image/svg+xml" href="icon.svg";
                    link rel="stylesheet" href="style.css";
                    script src="page.js" defer {}
                }
                body {
                    a.skip href="#content" { (texts.skip) }
                    header.top { div {
                        a.brand href="." { img src="icon.svg" alt="" width="24" height="24"; span { (self.name()) } }
                        nav.main aria-label=(texts.main_navigation) {
                            (entry(".", texts.repositories, section == Some(Section::Repositories)))
                            @if self.may_list {
                                (entry("storage", texts.storage, section == Some(Section::Storage)))
                                (entry("uploads", texts.uploads, section == Some(Section::Uploads)))
                            }
                        }
                        (self.account())
                    } }
                    main #content tabindex="-1" {
                        @if let Some(notice) = &self.notice { (notice.render(self)) }
                        (view)
                    }
                    footer { "imgsync-server " (env!("CARGO_PKG_VERSION")) }
                }
            }
        };
        page.into_string()
    }

    fn name(&self) -> &str {
        if self.host.is_empty() {
            "imgsync"
        } else {
            &self.host
        }
    }

    fn account(&self) -> Markup {
        let texts = self.texts();
        html! {
            @if let Some(user) = &self.user {
                div.account {
                    span { span.quiet { (texts.logged_in_as) " " } (Untrusted(user)) }
                    form method="post" action="logout" {
                        (self.token_field())
                        button.plain type="submit" { (texts.log_out) }
                    }
                }
            } @else if self.has_logins {
                div.account { a href=(login_link(self)) { (texts.log_in) } }
            }
        }
    }

    /// The hidden field that proves that a form was shown to this login.
    pub(super) fn token_field(&self) -> Markup {
        html! { input type="hidden" name="token" value=(self.form_token); }
    }
}

fn entry(href: &str, text: &str, is_current: bool) -> Markup {
    html! { a href=(href) aria-current=[is_current.then_some("page")] { (text) } }
}

/// Returns the address of the form to log in, from which the browser returns to this page.
pub(crate) fn login_link(frame: &Frame) -> String {
    link("login", &[("next", &frame.here)])
}

/// A form that finds names.
pub(super) fn search_form(
    texts: &Texts,
    label: &str,
    search: &str,
    hidden: &[(&str, &str)],
) -> Markup {
    html! {
        form.search role="search" method="get" {
            @for (name, value) in hidden { input type="hidden" name=(name) value=(value); }
            input type="search" name="search" value=(search) placeholder=(label) aria-label=(label);
            button type="submit" { (texts.search) }
        }
    }
}

/// Renders a page with only a message.
pub(crate) fn message_page(frame: &Frame, kind: MessageKind) -> String {
    let texts = frame.texts();
    let (title, text) = match kind {
        MessageKind::NotFound => (texts.not_found, texts.not_found_text),
        MessageKind::ForeignOrigin => (texts.forbidden, texts.forbidden_origin),
        MessageKind::NoSession => (texts.forbidden, texts.forbidden_session),
        MessageKind::NotAllowed => (texts.forbidden, texts.forbidden_action),
        MessageKind::NotInTrash => (texts.failed, texts.not_in_trash),
        MessageKind::Busy => (texts.failed, texts.busy_text),
        MessageKind::Failed => (texts.failed, texts.failed_text),
    };
    let view = html! {
        h1 { (title) }
        p.lead { (text) }
        p { a href="." { (texts.back) } }
    };
    frame.page(title, None, &view)
}

/// Why a page shows only a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageKind {
    NotFound,
    /// The request did not come from the page.
    ForeignOrigin,
    /// The form was not shown to this login.
    NoSession,
    NotAllowed,
    NotInTrash,
    Busy,
    Failed,
}

#[cfg(test)]
pub(super) fn test_frame() -> Frame {
    Frame {
        language: Language::English,
        now: 1_000_000_000,
        host: "registry.example.com".to_owned(),
        user: Some("alice".to_owned()),
        has_logins: true,
        may_list: true,
        form_token: "t0ken".to_owned(),
        here: "storage".to_owned(),
        notice: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_host_and_user_are_text() {
        let mut frame = test_frame();
        frame.user = Some("<b>\u{202e}".to_owned());
        let page = frame.page("<i>", None, &html! {});
        assert!(page.contains("<title>&lt;i&gt; · registry.example.com</title>"));
        assert!(page.contains("&lt;b&gt;<span class=\"mark\">U+202E</span>"));
        assert!(!page.contains("style="), "the policy forbids it: {page}");
    }

    #[test]
    fn links_are_relative() {
        let page = message_page(&test_frame(), MessageKind::NotFound);
        assert!(
            !page.contains("=\"/") && !page.contains("=\"http"),
            "{page}"
        );
    }
}
