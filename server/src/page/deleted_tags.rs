//! The deleted tags of a repository, each with a button that restores it.

use imgsync_oci::Repository;
use maud::{Markup, html};

use super::format::{age, short_digest};
use super::layout::Frame;
use crate::registry::DeletedTag;

/// Renders the deleted tags, folded; nothing if there are none.
pub(super) fn deleted_tags(
    frame: &Frame,
    repository: &Repository,
    deleted: &[DeletedTag],
) -> Markup {
    let texts = frame.texts();
    html! {
        @if !deleted.is_empty() {
            details.risky {
                summary { (texts.deleted_tags) }
                div.sheet { table.wide {
                    thead { tr {
                        th scope="col" { (texts.tag) }
                        th scope="col" { (texts.digest) }
                        th scope="col" { (texts.deleted_for_good) }
                        th scope="col" { (texts.undo) }
                    } }
                    tbody { @for row in deleted { (row_of(frame, repository, row)) } }
                } }
            }
        }
    }
}

fn row_of(frame: &Frame, repository: &Repository, deleted: &DeletedTag) -> Markup {
    let texts = frame.texts();
    html! {
        tr {
            th scope="row" { (deleted.tag) }
            td.digest data-label=(texts.digest) { span { (short_digest(&deleted.digest)) } }
            td.time data-label=(texts.deleted_for_good) {
                span { (age(texts, frame.now, Some(deleted.expires_at))) }
            }
            td data-label=(texts.undo) {
                form method="post" action="restore" {
                    (frame.token_field())
                    input type="hidden" name="name" value=(repository);
                    input type="hidden" name="tag" value=(deleted.tag);
                    button type="submit" aria-label=(format!("{} {}", texts.undo, deleted.tag)) { (texts.undo) }
                }
            }
        }
    }
}
