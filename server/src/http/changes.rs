//! Tells the receivers of events what a request has changed or read.
//!
//! A handler notes the changes in its response, and [`record`] passes them on before the response is
//! sent. So what a client knows to be stored is in the queues already. Start reading at [`note`].

use hyper::Response;
use hyper::header::{HOST, HeaderName, USER_AGENT};
use hyper::http::request::Parts;

use super::app::App;
use super::body::ResponseBody;
use super::caller::Caller;
use super::forwarded::ForwardedInfo;
use super::request_id::RequestId;
use crate::auth::User;
use crate::events::{OrderGuard, RegistryChange, RequestFacts};

/// The changes that a handler notes in its response.
#[derive(Clone, Default)]
struct NotedChanges {
    changes: Vec<RegistryChange>,
    /// Held until the changes are recorded.
    order: Option<OrderGuard>,
}

/// Notes a change in a response. `change` is called only if there are receivers.
pub(super) fn note(
    app: &App,
    response: &mut Response<ResponseBody>,
    change: impl FnOnce() -> RegistryChange,
) {
    note_all(app, response, None, || vec![change()]);
}

/// Notes several changes in a response, in their order. `order` is held until they are recorded.
pub(super) fn note_all(
    app: &App,
    response: &mut Response<ResponseBody>,
    order: Option<OrderGuard>,
    changes: impl FnOnce() -> Vec<RegistryChange>,
) {
    if !app.events.is_active() {
        return;
    }
    let noted = response
        .extensions_mut()
        .get_or_insert_default::<NotedChanges>();
    noted.changes.extend(changes());
    noted.order = order;
}

/// Tells the receivers of the changes that are noted in a response.
pub(super) async fn record(
    app: &App,
    caller: &Caller,
    forwarded: &ForwardedInfo,
    request: &Parts,
    response: &mut Response<ResponseBody>,
) {
    let Some(noted) = response.extensions_mut().remove::<NotedChanges>() else {
        return;
    };
    let header = |name: HeaderName| {
        let value = request.headers.get(name);
        value.map_or_else(String::new, |value| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        })
    };
    let authority = request.uri.authority();
    let id = request.extensions.get::<RequestId>();
    let facts = RequestFacts {
        id: id.map_or_else(String::new, |id| id.as_str().to_owned()),
        address: forwarded.client_address(),
        host: authority.map_or_else(|| header(HOST), ToString::to_string),
        method: request.method.to_string(),
        user_agent: header(USER_AGENT),
        user: caller.user().map(User::as_str).map(str::to_owned),
        base_url: forwarded.url(""),
    };
    app.events.record(&facts, &noted.changes).await;
    drop(noted.order);
}
