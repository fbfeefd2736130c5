//! Why a page cannot be shown, and the page that says so.

use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use imgsync_oci::ErrorCode;

use super::super::body::ResponseBody;
use super::super::error_response::ErrorResponse;
use super::{PageRequest, html, redirect};
use crate::page::{MessageKind, login_link, message_page};
use crate::registry;

/// Why a page cannot be shown.
#[derive(Debug)]
pub(super) enum PageError {
    NotFound,
    /// The page exists, with these methods.
    WrongMethod(&'static str),
    ForeignOrigin,
    NoSession,
    /// The error of the API.
    Api(ErrorResponse),
}

impl From<ErrorResponse> for PageError {
    fn from(error: ErrorResponse) -> Self {
        Self::Api(error)
    }
}

impl From<registry::Error> for PageError {
    fn from(error: registry::Error) -> Self {
        Self::Api(error.into())
    }
}

impl PageError {
    /// Builds the page that tells the error. A visitor without the permission is asked to log in.
    pub(super) fn into_response(self, request: &PageRequest<'_>) -> Response<ResponseBody> {
        let frame = request.frame();
        let (status, kind) = match &self {
            Self::NotFound => (StatusCode::NOT_FOUND, MessageKind::NotFound),
            Self::WrongMethod(_) => (StatusCode::METHOD_NOT_ALLOWED, MessageKind::NotFound),
            Self::ForeignOrigin => (StatusCode::FORBIDDEN, MessageKind::ForeignOrigin),
            Self::NoSession => (StatusCode::FORBIDDEN, MessageKind::NoSession),
            Self::Api(error) => match error.code() {
                // The script would put the login page into the page.
                ErrorCode::Unauthorized if frame.user.is_none() && !request.is_for_part() => {
                    return redirect(&login_link(&frame));
                }
                ErrorCode::Unauthorized | ErrorCode::Denied | ErrorCode::Unsupported => {
                    (StatusCode::FORBIDDEN, MessageKind::NotAllowed)
                }
                ErrorCode::NameUnknown | ErrorCode::ManifestUnknown => {
                    (StatusCode::NOT_FOUND, MessageKind::NotFound)
                }
                ErrorCode::NotInTrash => (error.code().status(), MessageKind::NotInTrash),
                ErrorCode::Unavailable | ErrorCode::TooManyRequests => {
                    (error.code().status(), MessageKind::Busy)
                }
                code => (code.status(), MessageKind::Failed),
            },
        };
        let mut response = html(status, message_page(&frame, kind));
        if let Self::WrongMethod(allowed) = self {
            let allowed = HeaderValue::from_static(allowed);
            response.headers_mut().insert(ALLOW, allowed);
        }
        if let Self::Api(error) = &self
            && let Some(seconds) = error.headers.get(RETRY_AFTER)
        {
            response.headers_mut().insert(RETRY_AFTER, seconds.clone());
        }
        response
    }
}
