//! The last change: a deletion, which can be undone, or a restoration, which may have left tags
//! alone.

use imgsync_oci::{Repository, Tag};
use maud::{Markup, html};

use super::format::link;
use super::layout::Frame;
use super::texts::fill;

/// The kinds of changes to a tag or a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Deleted,
    Restored {
        /// The number of tags that were not restored, because they point at other images now.
        kept_tags: usize,
    },
    /// Nothing was restored, because the tags point at other images now.
    Kept,
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
        (ChangeKind::Restored { .. }, _) => ("repository", "restored"),
        (ChangeKind::Kept, _) => ("repository", "kept"),
    };
    let kept_tags = match kind {
        ChangeKind::Restored { kept_tags } if kept_tags > 0 => kept_tags.to_string(),
        _ => String::new(),
    };
    let mut parameters = vec![
        ("name", repository.as_str()),
        ("done", done),
        ("change", token),
    ];
    parameters.extend(tag.map(|tag| ("tag", tag.as_str())));
    if !kept_tags.is_empty() {
        parameters.push(("kept", &kept_tags));
    }
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

/// The last change to a tag, or without one to the whole repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) kind: ChangeKind,
    pub(crate) repository: Repository,
    pub(crate) tag: Option<Tag>,
}

impl Notice {
    pub(super) fn render(&self, frame: &Frame) -> Markup {
        let texts = frame.texts();
        let Self {
            kind,
            repository,
            tag,
        } = self;
        let text = match (kind, tag) {
            (ChangeKind::Deleted, Some(tag)) => fill(texts.tag_deleted, &[tag]),
            (ChangeKind::Deleted, None) => fill(texts.repository_deleted, &[repository]),
            (ChangeKind::Restored { .. }, Some(tag)) => fill(texts.tag_restored, &[tag]),
            (ChangeKind::Restored { .. }, None) => fill(texts.repository_restored, &[repository]),
            (ChangeKind::Kept, Some(tag)) => fill(texts.tag_kept, &[tag]),
            (ChangeKind::Kept, None) => fill(texts.repository_kept, &[repository]),
        };
        html! {
            div.notice role="status" {
                span {
                    (text)
                    @match kind {
                        ChangeKind::Deleted => {
                            br;
                            (texts.undo_later) " " code { (undelete_command(frame, repository, tag.as_ref())) }
                        }
                        ChangeKind::Restored { kept_tags } if *kept_tags > 0 => {
                            " " (fill(texts.tags_kept, &[kept_tags]))
                        }
                        ChangeKind::Restored { .. } | ChangeKind::Kept => {}
                    }
                }
                @if *kind == ChangeKind::Deleted {
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
