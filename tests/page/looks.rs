//! Tests the page in wide and narrow windows, in light and dark, in both languages; and hostile texts.

use super::PageFixture;
use super::accessibility::{check_contrast, check_names, check_tab_order, check_width};
use crate::support::chromium::text;
use crate::support::prelude::*;

/// Each view with a text that shows that it is complete.
const VIEWS: [(&str, &str, &str); 7] = [
    ("repositories", "", "infra/proxy"),
    ("repository", "repository?name=team%2Fapp", "v1.1.0"),
    (
        "image",
        "image?name=team%2Fapp&reference=latest",
        "/srv/app",
    ),
    (
        "index",
        "image?name=team%2Fapp&reference=multi",
        "linux/arm64",
    ),
    ("storage", "storage", "infra/proxy"),
    (
        "hostile",
        "image?name=test%2Fhostile&reference=v1",
        "U+202E",
    ),
    (
        "long",
        "repository?name=a-very-long-name-of-a-repository%2Fwith-several-parts%2Fand-a-name-that-does-not-fit-on-a-phone",
        "tag-",
    ),
];

#[test]
fn the_page_is_readable_in_every_window_mode_and_language() {
    if !programs_available(&["chromium"]) {
        return;
    }
    let mut fixture = PageFixture::start();
    fixture.open("");
    check(&mut fixture, "login");
    fixture.log_in();
    // Sizes are there once the storage is measured.
    wait_until("sizes", || {
        fixture.open("");
        let shown = text(&fixture.browser.evaluate("document.body.innerText"));
        shown.contains("MB").then_some(())
    });
    for (language, languages) in [("en", "en"), ("zh", "zh-CN,zh")] {
        fixture.browser.accept_language(languages);
        for (name, page, shown) in VIEWS {
            fixture.open(page);
            fixture.browser.wait_for_text(shown);
            check(&mut fixture, &format!("{name}-{language}"));
        }
        let tag = text(&fixture.browser.evaluate("document.documentElement.lang"));
        assert_eq!(&tag[..2], language);
    }
    assert_ne!(text(&fixture.browser.evaluate("document.title")), "stolen");
    assert_eq!(fixture.browser.problems, [""; 0]);
}

/// Checks what the browser shows in each window and mode, and saves pictures.
fn check(fixture: &mut PageFixture, name: &str) {
    let browser = &mut fixture.browser;
    for (window, width, height) in [("wide", 1280, 800), ("narrow", 360, 740)] {
        browser.resize(width, height);
        for mode in ["light", "dark"] {
            browser.prefer(mode);
            browser.save_picture(&format!("{name}-{window}-{mode}"));
            check_contrast(browser, name);
        }
        check_width(browser, name);
    }
    check_names(browser, name);
    check_tab_order(browser, name);
}
