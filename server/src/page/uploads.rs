//! The uploads in progress. The script replaces [`UploadsView::render_rows`] every few seconds.

use imgsync_oci::units::format_bytes;
use maud::{Markup, html};

use super::format::{age, link};
use super::layout::{Frame, Section};
use super::texts::fill;
use super::untrusted::ShortUntrusted;
use crate::registry::{Error, OpenUpload, Registry};

/// How many uploads are shown.
const ROWS: usize = 100;
/// How often the script asks for the rows, in milliseconds.
const INTERVAL: u32 = 2000;

/// The uploads in progress.
#[derive(Debug)]
pub(crate) struct UploadsView {
    /// Those with the latest bytes first.
    rows: Vec<OpenUpload>,
    /// The number of all uploads.
    count: usize,
    /// The bytes that all uploads have received.
    received: u64,
}

impl UploadsView {
    /// Reads the uploads in progress.
    ///
    /// # Errors
    /// The errors of the store.
    pub(crate) fn gather(registry: &Registry) -> Result<Self, Error> {
        let mut rows = registry.list_open_uploads()?;
        let count = rows.len();
        let received = rows.iter().map(|upload| upload.bytes).sum();
        rows.sort_by(|a, b| (b.written_at, a.id).cmp(&(a.written_at, b.id)));
        rows.truncate(ROWS);
        Ok(Self {
            rows,
            count,
            received,
        })
    }

    /// Renders the whole page.
    pub(crate) fn render(&self, frame: &Frame) -> String {
        let texts = frame.texts();
        let view = html! {
            h1 { (texts.uploads) }
            p.lead { (texts.uploads_lead) }
            div data-live="uploads?part=rows" data-interval=(INTERVAL) { (self.rows(frame)) }
        };
        frame.page(texts.uploads, Some(Section::Uploads), &view)
    }

    /// Renders the part of the page that changes.
    pub(crate) fn render_rows(&self, frame: &Frame) -> String {
        self.rows(frame).into_string()
    }

    fn rows(&self, frame: &Frame) -> Markup {
        let texts = frame.texts();
        if self.rows.is_empty() {
            return html! { div.sheet.empty { (texts.no_uploads) } };
        }
        html! {
            p.trail { (fill(texts.uploads_summary, &[&self.count, &format_bytes(self.received)])) }
            div.sheet { table.wide {
                thead { tr {
                    th scope="col" { (texts.repository) }
                    th scope="col" { (texts.user) }
                    th scope="col" { (texts.started) }
                    th scope="col" { (texts.last_bytes) }
                    th.number scope="col" { (texts.received) }
                } }
                tbody { @for upload in &self.rows { (row(frame, upload)) } }
            } }
            @if self.count > self.rows.len() {
                p.trail { (fill(texts.more_uploads, &[&(self.count - self.rows.len())])) }
            }
        }
    }
}

fn row(frame: &Frame, upload: &OpenUpload) -> Markup {
    let texts = frame.texts();
    let name = upload.repository.as_str();
    html! {
        tr {
            th scope="row" { a href=(link("repository", &[("name", name)])) { (name) } }
            td data-label=(texts.user) {
                span {
                    @match &upload.user { Some(user) => (ShortUntrusted(user)), None => span.none { (texts.anonymous) } }
                }
            }
            td.time data-label=(texts.started) { span { (age(texts, frame.now, upload.started_at)) } }
            td.time data-label=(texts.last_bytes) { span { (age(texts, frame.now, upload.written_at)) } }
            td.number data-label=(texts.received) { span { (format_bytes(upload.bytes)) } }
        }
    }
}
