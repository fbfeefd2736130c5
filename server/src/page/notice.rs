//! What has just happened: a deletion, which can be undone, or a restoration.

use imgsync_oci::{Repository, Tag};
use maud::{Markup, html};

use super::format::link;
use super::layout::Frame;
use super::texts::fill;

/// What can be done to a tag or a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Deleted,
    Restored,
}

/// Returns the address of the page that tells of a change, relative to the other pages. `token` proves
/// that the change was made.
pub(crate) fn changed_link(
    kind: ChangeKind,
    repository: &Repository,
    tag: Option<&Tag>,
    token: &str,
) -> String {
    let (page, done) = match (kind, tag) {
        (ChangeKind::Deleted, None) => (".", "deleted"),
        (ChangeKind::Deleted, Some(_)) => ("repository", "deleted"),
        (ChangeKind::Restored, _) => ("repository", "restored"),
    };
    let mut parameters = vec![
        ("name", repository.as_str()),
        ("done", done),
        ("change", token),
    ];
    parameters.extend(tag.map(|tag| ("tag", tag.as_str())));
    link(page, &parameters)
}

/// Returns the command that restores a tag, or without one a repository.
fn undelete_command(frame: &Frame, repository: &Repository, tag: Option<&Tag>) -> String {
    let host = if frame.host.is_empty() {
        "HOST"
    } else {
        &frame.host
    };
    let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
    format!("imgsync undelete {host}/{repository}{tag}")
}

/// What has just happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A tag was deleted, or the whole repository.
    Deleted(Repository, Option<Tag>),
    /// A tag was restored, or the whole repository.
    Restored(Repository, Option<Tag>),
}

impl Notice {
    pub(super) fn render(&self, frame: &Frame) -> Markup {
        let texts = frame.texts();
        let text = match self {
            Self::Deleted(_, Some(tag)) => fill(texts.tag_deleted, &[tag]),
            Self::Deleted(repository, None) => fill(texts.repository_deleted, &[repository]),
            Self::Restored(_, Some(tag)) => fill(texts.tag_restored, &[tag]),
            Self::Restored(repository, None) => fill(texts.repository_restored, &[repository]),
        };
        html! {
            div.notice role="status" {
                span {
                    (text)
                    @if let Self::Deleted(repository, tag) = self {
                        br;
                        (texts.undo_later) " " code { (undelete_command(frame, repository, tag.as_ref())) }
                    }
                }
                @if let Self::Deleted(repository, tag) = self {
                    form method="post" action="restore" {
                        (frame.token_field())
                        input type="hidden" name="name" value=(repository);
                        @if let Some(tag) = tag { input type="hidden" name="tag" value=(tag); }
                        button type="submit" { (texts.undo) }
                    }
                }
            }
        }
    }
}
