//! Serves the page for browsers: its paths, the logins of browsers, and permissions. What a page shows
//! is up to [`crate::page`].
//!
//! All paths are below [`PAGE_PATH`], and all links are relative, so that the page works under any
//! prefix. Everyone sees what the API would tell them. What changes something needs a login, a form
//! that was shown to this login, and a request from the page itself ([`origin`]); so nothing can be
//! deleted on a server without logins. Start reading at [`serve`].
//!
//! A foreign website whose name was pointed at this server (DNS rebinding) can read what is open to
//! anyone, as from the API. It has no session, because browsers keep cookies apart by host. They send
//! them to every port of a host: other services there see the cookie.

mod assets;
mod build;
mod changes;
mod headers;
mod image;
mod login;
mod origin;
mod page_error;
mod parameters;
mod repositories;
mod repository;
mod storage;
mod uploads;
mod visitor;

use std::sync::Arc;

use hyper::header::{ACCEPT, HeaderValue, LOCATION, VARY};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

pub(super) use self::build::PagePermits;
pub(super) use self::headers::SameOriginOnly;

use self::build::build;
use self::page_error::PageError;
use self::parameters::Parameters;
use self::visitor::Visitor;
use super::app::App;
use super::body::ResponseBody;
use super::forwarded::ForwardedInfo;
use super::request_body::RequestBody;
use super::responses::{self, header_value};
use crate::config::Config;

/// The start of all paths of the page. Those of the API start with `/v2`.
const PAGE_PATH: &str = "/_imgsync";

/// A request for the page, with what its handlers need.
struct PageRequest<'a> {
    app: &'a App,
    config: &'a Config,
    forwarded: &'a Arc<ForwardedInfo>,
    parts: &'a Parts,
    query: Parameters,
    visitor: Visitor,
}

/// Serves a request for the page, or for `/`. Returns `None` for any other path.
pub(super) async fn serve(
    app: &App,
    config: &Config,
    forwarded: &Arc<ForwardedInfo>,
    parts: &Parts,
    path: &str,
    body: &mut RequestBody,
) -> Option<Response<ResponseBody>> {
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    if path == "/" && is_read {
        return Some(serve_root(parts));
    }
    let name = path.strip_prefix(PAGE_PATH)?;
    let Some(name) = name.strip_prefix('/') else {
        return name
            .is_empty()
            .then(|| redirect(&format!("{}/", &PAGE_PATH[1..])));
    };
    if let Some(asset) = assets::find(name) {
        return Some(assets::respond(asset, is_read));
    }
    let request = PageRequest {
        app,
        config,
        forwarded,
        parts,
        query: Parameters::parse(parts.uri.query().unwrap_or_default().as_bytes()),
        visitor: Visitor::identify(app, forwarded, &parts.headers),
    };
    let answered = match (parts.method.as_str(), name) {
        ("GET" | "HEAD", "") => repositories::show(&request, body).await,
        ("GET" | "HEAD", "repository") => repository::show(&request, body).await,
        ("GET" | "HEAD", "image") => image::show(&request, body).await,
        ("GET" | "HEAD", "storage") => storage::show(&request, body).await,
        ("GET" | "HEAD", "uploads") => uploads::show(&request, body).await,
        ("GET" | "HEAD", "login") => Ok(login::show(&request)),
        ("POST", "login") => login::log_in(&request, body).await,
        ("POST", "logout") => login::log_out(&request, body).await,
        ("POST", "delete") => changes::delete(&request, body).await,
        ("POST", "restore") => changes::restore(&request, body).await,
        _ => Err(allowed_methods(name).map_or(PageError::NotFound, PageError::WrongMethod)),
    };
    let mut response = answered.unwrap_or_else(|error| error.into_response(&request));
    if let Some(user) = request.visitor.caller.user() {
        response.extensions_mut().insert(user.clone());
    }
    headers::protect(&mut response);
    Some(response)
}

/// Returns the methods of a page; `None` if there is no such page.
fn allowed_methods(name: &str) -> Option<&'static str> {
    match name {
        "" | "repository" | "image" | "storage" | "uploads" => Some("GET, HEAD"),
        "login" => Some("GET, HEAD, POST"),
        "logout" | "delete" | "restore" => Some("POST"),
        _ => None,
    }
}

/// Serves `/`: a browser gets to the page, and any other client an empty response.
fn serve_root(parts: &Parts) -> Response<ResponseBody> {
    let accepted = parts.headers.get_all(ACCEPT).into_iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    let mut response = if accepted.any(|value| value.contains("text/html")) {
        // Relative to the path of the request, which may be a prefix without a slash at its end.
        let (_, last) = parts.uri.path().rsplit_once('/').unwrap_or_default();
        let start = if last.is_empty() {
            String::new()
        } else {
            format!("{last}/")
        };
        redirect(&format!("{start}{}/", &PAGE_PATH[1..]))
    } else {
        responses::empty(StatusCode::OK)
    };
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// Sends a browser to a relative address, with a GET request.
fn redirect(location: &str) -> Response<ResponseBody> {
    let mut response = responses::empty(StatusCode::SEE_OTHER);
    response
        .headers_mut()
        .insert(LOCATION, header_value(location));
    response
}

/// Creates a response with a page.
fn html(status: StatusCode, page: String) -> Response<ResponseBody> {
    let mut response = responses::with_body(status, super::body::full(page));
    headers::set_html(&mut response);
    response
}
