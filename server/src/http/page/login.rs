//! Logs browsers in and out.

use hyper::header::{RETRY_AFTER, SET_COOKIE};
use hyper::{Response, StatusCode};
use imgsync_oci::ErrorCode;

use super::super::authentication::{LOGIN_RETRY_AFTER, refusal_label};
use super::super::body::ResponseBody;
use super::super::request_body::RequestBody;
use super::visitor::cookie;
use super::{PageError, PageRequest, Parameters, html, redirect};
use crate::auth::AuthenticationError;
use crate::page::{LoginProblem, LoginView};

/// The size of the largest form in bytes.
const MAX_FORM_BYTES: usize = 16 * 1024;
/// The pages that can follow a login.
const NEXT_PAGES: [&str; 4] = ["repository", "image", "storage", "uploads"];

/// Reads a form.
pub(super) async fn read_form(
    request: &PageRequest<'_>,
    body: &mut RequestBody,
) -> Result<Parameters, PageError> {
    let too_long = ErrorCode::BodyTooLarge;
    let form = request
        .app
        .body_buffers
        .read(body, MAX_FORM_BYTES, too_long)
        .await?;
    Ok(Parameters::parse(&form.bytes))
}

/// Shows the form to log in. Without logins there is nothing to log in to.
pub(super) fn show(request: &PageRequest<'_>) -> Response<ResponseBody> {
    let next = next_page(request.query.text("next"));
    if request.visitor.session.is_some() || request.app.auth.realm().is_none() {
        return redirect(&next);
    }
    let view = LoginView {
        next,
        problem: None,
    };
    html(StatusCode::OK, view.render(&request.frame()))
}

/// Checks a password, and opens a session.
pub(super) async fn log_in(
    request: &PageRequest<'_>,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, PageError> {
    let scheme = request.check_origin()?;
    let form = read_form(request, body).await?;
    let (auth, client) = (&request.app.auth, request.visitor.caller.client_address());
    let next = next_page(form.text("next"));
    let refuse = |status, problem| {
        let view = LoginView {
            next: next.clone(),
            problem: Some(problem),
        };
        html(status, view.render(&request.frame()))
    };
    let checked = auth.log_in(form.text("user"), form.text("password"), client);
    let checked = checked.await.inspect_err(|error| {
        let metrics = &request.app.metrics;
        metrics.count_refused_login(refusal_label(error));
    });
    let user = match checked {
        Ok(user) => user,
        Err(AuthenticationError::Busy) => {
            let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, LoginProblem::Busy);
            response
                .headers_mut()
                .insert(RETRY_AFTER, LOGIN_RETRY_AFTER);
            return Ok(response);
        }
        Err(AuthenticationError::InvalidLogin | AuthenticationError::InvalidToken) => {
            return Ok(refuse(StatusCode::FORBIDDEN, LoginProblem::Wrong));
        }
    };
    // The session of before ends, so that nobody else knows the id of this one.
    request
        .visitor
        .session
        .iter()
        .for_each(|id| auth.close_session(id));
    let Some(id) = auth.open_session(&user) else {
        return Ok(refuse(StatusCode::FORBIDDEN, LoginProblem::Wrong));
    };
    let mut response = redirect(&next);
    response.headers_mut().insert(
        SET_COOKIE,
        cookie(request.forwarded.host(), Some(&id), scheme),
    );
    response.extensions_mut().insert(user);
    Ok(response)
}

/// Ends the session.
pub(super) async fn log_out(
    request: &PageRequest<'_>,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, PageError> {
    let form = read_form(request, body).await?;
    let scheme = request.check_form(&form)?;
    request
        .visitor
        .session
        .iter()
        .for_each(|id| request.app.auth.close_session(id));
    let mut response = redirect(".");
    response
        .headers_mut()
        .insert(SET_COOKIE, cookie(request.forwarded.host(), None, scheme));
    Ok(response)
}

/// Returns the relative address of the page that follows a login; the list of repositories for any
/// text that is none of our pages.
fn next_page(text: &str) -> String {
    let (name, query) = text.split_once('?').unwrap_or((text, ""));
    let is_clean = query.bytes().all(|byte| byte.is_ascii_graphic());
    let separator = if query.is_empty() { "" } else { "?" };
    match name {
        _ if !is_clean => ".".to_owned(),
        "" | "." => format!(".{separator}{query}"),
        name if NEXT_PAGES.contains(&name) => format!("{name}{separator}{query}"),
        _ => ".".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_pages_follow_a_login() {
        for (next, expected) in [
            ("", "."),
            ("?after=a", ".?after=a"),
            (
                "image?name=a%2Fb&reference=v1",
                "image?name=a%2Fb&reference=v1",
            ),
            ("storage", "storage"),
            ("//evil.example.com", "."),
            ("https://evil.example.com", "."),
            ("../v2/", "."),
            ("storage?a\r\nSet-Cookie: x", "."),
            ("logout", "."),
        ] {
            assert_eq!(next_page(next), expected, "{next}");
        }
    }
}
