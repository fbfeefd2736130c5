//! Builds pages on blocking threads, few at a time, within the memory of responses.
//!
//! Anyone can ask for a page, and its content is as large as those who push want it to be. Start
//! reading at [`build`].

use std::sync::Arc;
use std::time::Duration;

use hyper::{Response, StatusCode};
use imgsync_oci::{ErrorCode, MAX_MANIFEST_BYTES};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::super::body::ResponseBody;
use super::super::buffered_body::MAX_SMALL_BODY_BYTES;
use super::super::error_response::ErrorResponse;
use super::super::request_body::RequestBody;
use super::{PageError, PageRequest, headers, html, responses};
use crate::registry::{Error, Walk};

/// The most pages that are built at a time. Fewer than the long walks, so that pages leave some of
/// those to the API.
const MAX_CONCURRENT_PAGES: usize = 3;
/// The memory that a page needs while it is built: a manifest of the largest size, a text in it that is
/// as long, and what is kept of others.
const BUILD_MEMORY_BYTES: u64 = 2 * MAX_MANIFEST_BYTES as u64;
/// How long a request waits until its page can be built.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Limits the pages that are built at a time.
pub(in crate::http) struct PagePermits(Arc<Semaphore>);

impl Default for PagePermits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CONCURRENT_PAGES)))
    }
}

/// Builds a page with `work`, which may be called twice, and sends it.
///
/// # Errors
/// The errors of `work`; [`ErrorCode::Unavailable`] if other pages or responses take too long.
pub(super) async fn build(
    request: &PageRequest<'_>,
    body: &RequestBody,
    work: impl Fn(&Walk<'_>) -> Result<String, Error> + Send + Sync + 'static,
) -> Result<Response<ResponseBody>, PageError> {
    let app = request.app;
    let permit = Arc::clone(&app.page_permits.0).acquire_owned();
    let permit = timeout(MAX_WAIT, permit).await.map_err(|_| busy())?;
    let permit = permit.map_err(|error| ErrorResponse::internal(&error))?;
    let lease = app.body_buffers.lease_response(BUILD_MEMORY_BYTES).await?;
    let lease = lease.map(Arc::new);
    // The thread does not wait for the client.
    lease.iter().for_each(|lease| lease.keep());
    let held = (permit, lease.clone());
    let work = move |walk: &Walk<'_>| {
        // Held by the thread: the work goes on when its client is gone.
        let _held = &held;
        work(walk)
    };
    let page = app.walks.run(&body.client(), work).await?;
    if page.len() <= MAX_SMALL_BODY_BYTES {
        return Ok(html(StatusCode::OK, page));
    }
    let lease = lease.and_then(Arc::into_inner);
    let page = app.body_buffers.response(page.into_bytes(), lease).await?;
    let mut response = responses::with_body(StatusCode::OK, page);
    headers::set_html(&mut response);
    Ok(response)
}

fn busy() -> PageError {
    let text = "too many pages are being built".to_owned();
    ErrorResponse::busy(ErrorCode::Unavailable, text).into()
}
