//! Tests what a user does on the page, from the login to an upload.

use base64::Engine as _;

use super::{PASSWORD, PageFixture};
use crate::support::chromium::text;
use crate::support::prelude::*;

#[test]
fn a_user_finds_an_image_and_deletes_and_restores_a_tag() {
    if !programs_available(&["chromium"]) {
        return;
    }
    let mut fixture = PageFixture::start();
    let address = fixture.server.address();
    let origin = format!("http://{address}");
    let permissions = serde_json::json!({
        "origin": origin, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"],
    });
    fixture
        .browser
        .command("Browser.grantPermissions", permissions);
    // The address of the server is enough, and the login returns to the page that was asked for.
    fixture.browser.open(&format!("{origin}/"));
    fixture.browser.save_picture("login");
    fixture.log_in();
    fixture.browser.wait_for_text("infra/proxy");

    fixture.browser.type_into("input[type=search]", "app");
    fixture.browser.click_text("Search");
    fixture
        .browser
        .wait_for("!document.body.innerText.includes('infra/proxy')");
    fixture.browser.click_text("team/app");
    fixture.browser.wait_for_text("v1.1.0");
    fixture.browser.click_text("v1.1.0");
    fixture.browser.wait_for_text("RUN apt-get update");
    fixture
        .browser
        .wait_for_text("COPY --chown=app:app build/app /srv/app");
    fixture.browser.click_text("Copy");
    fixture.browser.wait_for_text("Copied");
    let copied = fixture.browser.evaluate("navigator.clipboard.readText()");
    assert_eq!(
        text(&copied),
        format!("docker pull {address}/team/app:v1.1.0")
    );

    fixture.browser.click("details.risky summary");
    fixture.browser.save_picture("image-delete");
    fixture.browser.click_text("Delete the tag");
    fixture.browser.wait_for_text("The tag v1.1.0 was deleted.");
    fixture.browser.save_picture("deleted");
    assert_eq!(tag_status(address, "v1.1.0"), 404);
    fixture.browser.click_text("Undo");
    fixture
        .browser
        .wait_for_text("The tag v1.1.0 was restored.");
    assert_eq!(tag_status(address, "v1.1.0"), 200);

    // Later, the list of deleted tags restores it.
    fixture.browser.click_text("v1.1.0");
    fixture.browser.wait_for_text("RUN apt-get update");
    fixture.browser.click("details.risky summary");
    fixture.browser.click_text("Delete the tag");
    fixture.browser.wait_for_text("The tag v1.1.0 was deleted.");
    fixture.browser.click_text("Repositories");
    fixture.browser.wait_for_text("infra/proxy");
    fixture.browser.click_text("team/app");
    fixture.browser.wait_for_text("Deleted tags");
    fixture.browser.click("details.risky summary");
    fixture.browser.save_picture("deleted-tags");
    fixture.browser.click("button[aria-label='Undo v1.1.0']");
    fixture
        .browser
        .wait_for_text("The tag v1.1.0 was restored.");
    assert_eq!(tag_status(address, "v1.1.0"), 200);

    fixture.browser.click_text("Log out");
    fixture
        .browser
        .wait_for("document.querySelector('#password') !== null");
    assert_eq!(fixture.browser.problems, [""; 0]);
}

#[test]
fn an_upload_is_watched_while_it_runs() {
    if !programs_available(&["chromium"]) {
        return;
    }
    let mut fixture = PageFixture::start();
    let address = fixture.server.address();
    fixture.open("uploads");
    fixture.log_in();
    fixture.browser.wait_for_text("No upload is in progress.");
    // Only the list changes: a mark on the page stays.
    fixture
        .browser
        .evaluate("document.body.dataset.mark = 'kept'");
    let location = start_upload(address);
    for megabytes in 1..=2_usize {
        append(address, &location, (megabytes - 1) * 1_000_000);
        fixture.browser.wait_for_text(&format!("{megabytes}.0 MB"));
    }
    fixture.browser.wait_for_text("alice");
    fixture.browser.save_picture("uploads");
    let cancelled = http::send(address, "DELETE", &location, &[login()], b"");
    assert_eq!(cancelled.status, 204);
    fixture.browser.wait_for_text("No upload is in progress.");
    assert_eq!(
        text(&fixture.browser.evaluate("document.body.dataset.mark")),
        "kept"
    );
    assert_eq!(fixture.browser.problems, [""; 0]);
}

fn login() -> (&'static str, &'static str) {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("alice:{PASSWORD}"));
    (
        "Authorization",
        Box::leak(format!("Basic {encoded}").into_boxed_str()),
    )
}

fn tag_status(address: SocketAddr, tag: &str) -> u16 {
    let target = format!("/v2/team/app/manifests/{tag}");
    http::send(address, "GET", &target, &[login()], b"").status
}

fn start_upload(address: SocketAddr) -> String {
    let opened = http::send(
        address,
        "POST",
        "/v2/team/big/blobs/uploads/",
        &[login()],
        b"",
    );
    opened.header("location").unwrap().to_owned()
}

/// Appends a megabyte to an upload session.
fn append(address: SocketAddr, location: &str, offset: usize) {
    let range = format!("{offset}-{}", offset + 999_999);
    let headers = [login(), ("Content-Range", &range)];
    let appended = http::send(address, "PATCH", location, &headers, &[7; 1_000_000]);
    assert_eq!(appended.status, 202, "{}", appended.text());
}
