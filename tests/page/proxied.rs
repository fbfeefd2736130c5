//! Tests the page behind nginx, which serves it under a prefix over TLS and removes the prefix.

use super::{PageFixture, log_in};
use crate::support::chromium::text;
use crate::support::prelude::*;
use crate::support::{CertificateAuthority, Nginx};

#[test]
fn the_page_works_under_a_prefix_behind_nginx() {
    if !programs_available(&["chromium", "nginx", "openssl"]) {
        return;
    }
    let mut fixture = PageFixture::start();
    let authority = CertificateAuthority::new(&fixture.scratch.folder("ca"));
    let pair = authority.sign("server", &["DNS:localhost"]);
    let folder = fixture.scratch.folder("nginx");
    let nginx = Nginx::start_prefixed(&folder, "/tools/registry/", fixture.server.address(), &pair);
    let start = format!(
        "https://localhost:{}/tools/registry/",
        nginx.address().port()
    );
    let browser = &mut fixture.browser;
    browser.open(&start);
    log_in(browser);
    browser.wait_for_text("infra/proxy");
    browser.click_text("team/app");
    browser.wait_for_text("v1.0.0");
    browser.click_text("v1.0.0");
    browser.wait_for_text("docker pull localhost:");
    let here = text(&browser.evaluate("location.href"));
    assert!(
        here.starts_with(&format!("{start}_imgsync/image?")),
        "{here}"
    );
    let cookies = browser.command("Network.getCookies", serde_json::json!({}));
    let cookie = &cookies["cookies"][0];
    assert_eq!(cookie["path"], "/tools/registry/_imgsync");
    assert_eq!(
        (&cookie["secure"], &cookie["httpOnly"], &cookie["sameSite"]),
        (&true.into(), &true.into(), &"Strict".into())
    );
    browser.click("details.risky summary");
    browser.click_text("Delete the tag");
    browser.wait_for_text("The tag v1.0.0 was deleted.");
    browser.click_text("Undo");
    browser.wait_for_text("The tag v1.0.0 was restored.");
    // The style and the script came through the proxy, too.
    let rules = browser.evaluate("document.styleSheets[0].cssRules.length > 50");
    assert_eq!(rules, true);
    assert_eq!(browser.problems, [""; 0]);
}
