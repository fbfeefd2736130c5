//! The visitor of a page, and the cookie that identifies a login.

use std::sync::Arc;

use hyper::header::{ACCEPT_LANGUAGE, COOKIE, HeaderMap, HeaderValue};
use imgsync_oci::endpoint::{Pagination, RegistryOperation, RepositoryOperation};
use imgsync_oci::{Endpoint, Repository, Tag};

use super::super::app::App;
use super::super::caller::Caller;
use super::super::forwarded::ForwardedInfo;
use super::super::write_policy::WritePolicy;
use super::origin::{BrowserScheme, own_origin};
use super::{PageError, PageRequest, Parameters};
use crate::auth::SESSION_LIFETIME;
use crate::page::{ChangeKind, Frame, Language, Notice};
use crate::wall_clock::unix_now;

/// The start of the name of the cookie with the id of a session. Without a path, browsers send it only
/// below the path of the page, under any prefix.
const COOKIE_NAME: &str = "imgsync-session";

/// Returns the name of the cookie for a host with an optional port. Browsers send a cookie to all ports
/// of a host, and another one may be that of another server.
fn cookie_name(host: &str) -> String {
    let port = host.rsplit_once(':').map(|(_, port)| port);
    match port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit())) {
        Some(port) => format!("{COOKIE_NAME}-{port}"),
        None => COOKIE_NAME.to_owned(),
    }
}

/// The visitor of a page.
pub(super) struct Visitor {
    pub(super) caller: Caller,
    /// The id of the session; `None` without a login.
    pub(super) session: Option<String>,
}

impl Visitor {
    /// Identifies the sender of a request by the cookie. An invalid cookie counts as none.
    pub(super) fn identify(app: &App, forwarded: &Arc<ForwardedInfo>, headers: &HeaderMap) -> Self {
        let name = cookie_name(forwarded.host());
        let known = session_ids(headers, &name).find_map(|id| {
            let user = app.auth.session_user(id)?;
            Some((id.to_owned(), user))
        });
        let (session, user) = known.unzip();
        Self {
            caller: Caller::new(Arc::clone(&app.auth), user, Arc::clone(forwarded)),
            session,
        }
    }
}

/// Returns the values of the cookie. Another path of the same host may have set one with this name.
fn session_ids<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let cookies = headers.get_all(COOKIE).into_iter();
    let cookies = cookies.filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|value| value.split(';'));
    pairs.filter_map(move |pair| {
        let (pair_name, value) = pair.trim().split_once('=')?;
        (pair_name == name).then_some(value)
    })
}

/// Returns the header that sets the cookie, or removes it without an id.
pub(super) fn cookie(host: &str, id: Option<&str>, scheme: BrowserScheme) -> HeaderValue {
    let max_age = id.map_or(0, |_| SESSION_LIFETIME.as_secs());
    let secure = match scheme {
        BrowserScheme::Https => "; Secure",
        BrowserScheme::Http => "",
    };
    let id = id.unwrap_or_default();
    let name = cookie_name(host);
    let text = format!("{name}={id}; HttpOnly; SameSite=Strict; Max-Age={max_age}{secure}");
    super::header_value(text)
}

impl PageRequest<'_> {
    /// Checks that the visitor may do this, as the API does.
    pub(super) fn authorize(&self, endpoint: &Endpoint) -> Result<(), PageError> {
        self.visitor.caller.authorize(endpoint)?;
        Ok(WritePolicy::from(self.config).check(endpoint)?)
    }

    /// Checks that the visitor may see all repositories, the storage and the uploads.
    pub(super) fn authorize_list(&self) -> Result<(), PageError> {
        let page = Pagination::default();
        self.authorize(&RegistryOperation::Catalog { page }.into())
    }

    /// Returns whether the visitor may delete from a repository: never without a login.
    pub(super) fn may_delete(&self, repository: &Repository) -> bool {
        let delete = Endpoint::within(repository, RepositoryOperation::DeleteRepository);
        self.visitor.session.is_some() && self.authorize(&delete).is_ok()
    }

    /// Checks that a request was sent by the page, and returns the scheme of its address.
    pub(super) fn check_origin(&self) -> Result<BrowserScheme, PageError> {
        let (headers, forwarded) = (&self.parts.headers, self.forwarded);
        let is_own = |host: &str| forwarded.is_requested_at(host) || forwarded.is_reached_at(host);
        own_origin(headers, is_own).ok_or(PageError::ForeignOrigin)
    }

    /// Checks that a form was shown to this login, and was sent by the page.
    pub(super) fn check_form(&self, form: &Parameters) -> Result<BrowserScheme, PageError> {
        let scheme = self.check_origin()?;
        let session = self.visitor.session.as_deref();
        let is_valid = |id| self.app.auth.is_form_token(id, form.text("token"));
        if session.is_some_and(is_valid) {
            return Ok(scheme);
        }
        Err(PageError::NoSession)
    }

    /// Returns the frame of a page.
    pub(super) fn frame(&self) -> Frame {
        let (headers, app) = (&self.parts.headers, self.app);
        let accepted = headers
            .get(ACCEPT_LANGUAGE)
            .and_then(|value| value.to_str().ok());
        let session = self.visitor.session.as_deref();
        Frame {
            language: Language::of(accepted.unwrap_or_default()),
            now: unix_now(),
            host: self.forwarded.host().to_owned(),
            user: self
                .visitor
                .caller
                .user()
                .map(|user| user.as_str().to_owned()),
            has_logins: app.auth.realm().is_some(),
            may_list: self.authorize_list().is_ok(),
            form_token: session
                .map(|id| app.auth.form_token(id))
                .unwrap_or_default(),
            here: self.here(),
            notice: self.notice(),
        }
    }

    /// Returns the address of this page, relative to the other pages. A request for a part of a page
    /// has that of the whole page.
    fn here(&self) -> String {
        let (_, name) = self.parts.uri.path().rsplit_once('/').unwrap_or_default();
        let query = self.parts.uri.query().unwrap_or_default();
        let whole = query.split('&').filter(|pair| !pair.starts_with("part="));
        match whole.collect::<Vec<_>>().join("&").as_str() {
            "" => name.to_owned(),
            query => format!("{name}?{query}"),
        }
    }

    /// Returns whether the script asks for the part of a page that changes.
    pub(super) fn is_for_part(&self) -> bool {
        self.query.text("part") == "rows"
    }

    /// Returns a token for the address that tells of a change, so that nobody else can write it.
    pub(super) fn change_token(
        &self,
        kind: ChangeKind,
        name: &Repository,
        tag: Option<&Tag>,
    ) -> String {
        let session = self.visitor.session.as_deref().unwrap_or_default();
        let tag = tag.map(Tag::as_str).unwrap_or_default();
        self.app
            .auth
            .form_token(&format!("{session} {kind:?} {name}:{tag}"))
    }

    /// Returns what the visitor has just done, as the redirect after a form says.
    fn notice(&self) -> Option<Notice> {
        let (done, repository) = (self.query.text("done"), self.query.repository().ok()?);
        let tag = self.query.tag("tag").ok()?;
        let kind = match done {
            "deleted" => ChangeKind::Deleted,
            "restored" => ChangeKind::Restored {
                kept_tags: self.query.text("kept").parse().unwrap_or_default(),
            },
            "kept" => ChangeKind::Kept,
            _ => return None,
        };
        if !self.may_delete(&repository) {
            return None;
        }
        if self.query.text("change") != self.change_token(kind, &repository, tag.as_ref()) {
            return None;
        }
        Some(Notice {
            kind,
            repository,
            tag,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(
            COOKIE,
            HeaderValue::from_static("a=1; imgsync-session=x; b"),
        );
        headers.append(COOKIE, HeaderValue::from_static("imgsync-session=y"));
        let name = cookie_name("[::1]");
        let ids = session_ids(&headers, &name);
        assert_eq!(ids.collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(session_ids(&headers, &cookie_name("a:80")).count(), 0);
    }

    #[test]
    fn the_cookie_is_secure_at_an_https_address() {
        let secure = cookie("registry.lan", Some("id"), BrowserScheme::Https);
        let expected = "imgsync-session=id; HttpOnly; SameSite=Strict; Max-Age=43200; Secure";
        assert_eq!(secure, expected);
        let removed = cookie("[::1]:5000", None, BrowserScheme::Http);
        assert_eq!(
            removed,
            "imgsync-session-5000=; HttpOnly; SameSite=Strict; Max-Age=0"
        );
    }
}
