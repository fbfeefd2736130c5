//! Checks that a page can be read and used by everyone (WCAG 2.1, level AA).

use serde_json::{Value, json};

use crate::support::chromium::{Chromium, text};

/// Returns the texts whose contrast is too low, with their contrast.
const LOW_CONTRASTS: &str = r"(() => {
    const parse = color => color.match(/[\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = element => {
        for (let e = element; e; e = e.parentElement) {
            const color = parse(getComputedStyle(e).backgroundColor);
            if (color.length < 4 || color[3] > 0) return color;
        }
        return [255, 255, 255];
    };
    const low = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        const style = getComputedStyle(element);
        if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest('script')) continue;
        const color = element.closest('svg') ? style.fill : style.color;
        const [a, b] = [luminance(parse(color)), luminance(ground(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const size = parseFloat(style.fontSize);
        const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        if (contrast < (isLarge ? 3 : 4.5)) low.push(walker.currentNode.data.trim() + ' ' + contrast.toFixed(2));
    }
    return low;
})()";

/// Returns what the structure of the page lacks.
const STRUCTURE: &str = r"(() => {
    const lacks = [];
    const all = selector => [...document.querySelectorAll(selector)];
    if (all('h1').length !== 1) lacks.push('one h1');
    if (!document.documentElement.lang) lacks.push('a language');
    if (all('main').length !== 1 || all('nav').length < 1) lacks.push('landmarks');
    if (all('img:not([alt])').length) lacks.push('alt');
    if (all('th:not([scope])').length) lacks.push('scope');
    if (all('input:not([type=hidden])').some(i => !i.labels.length && !i.ariaLabel)) lacks.push('labels');
    const ids = all('[id]').map(e => e.id);
    if (new Set(ids).size !== ids.length) lacks.push('unique ids');
    return lacks;
})()";

/// Names the element with the focus, and tells whether the focus is visible.
const FOCUSED: &str = r"(() => {
    const e = document.activeElement;
    if (!e || e === document.body) return null;
    const all = [...document.querySelectorAll('a[href], button:not([hidden]), input:not([type=hidden]), summary')];
    const visible = all.filter(e => e.checkVisibility());
    return {position: visible.indexOf(e), count: visible.length, outline: getComputedStyle(e).outlineStyle};
})()";

/// Checks that every text stands out from its ground.
pub(super) fn check_contrast(browser: &mut Chromium, name: &str) {
    let low = browser.evaluate(LOW_CONTRASTS);
    assert_eq!(low, json!([]), "contrast on {name}");
}

/// Checks that the page is not wider than the window.
pub(super) fn check_width(browser: &mut Chromium, name: &str) {
    let excess = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    let excess = browser.evaluate(excess);
    assert_eq!(excess, json!(0), "the width of {name}");
}

/// Checks the structure, and that everything that can be used has a name for screen readers.
pub(super) fn check_names(browser: &mut Chromium, name: &str) {
    assert_eq!(
        browser.evaluate(STRUCTURE),
        json!([]),
        "{name} lacks something"
    );
    browser.command("Accessibility.enable", json!({}));
    let tree = browser.command("Accessibility.getFullAXTree", json!({}));
    browser.command("Accessibility.disable", json!({}));
    let mut named = 0;
    for node in tree["nodes"].as_array().into_iter().flatten() {
        let role = text(&node["role"]["value"]);
        let is_used = ["link", "button", "textbox", "searchbox", "image", "img"].contains(&&*role);
        if node["ignored"] == Value::Bool(false) && is_used {
            named += 1;
            assert_ne!(
                text(&node["name"]["value"]),
                "",
                "a {role} without a name on {name}"
            );
        }
    }
    assert!(named > 3, "only {named} names on {name}");
}

/// Checks that the tab key reaches everything in the order of the page, and shows where it is.
pub(super) fn check_tab_order(browser: &mut Chromium, name: &str) {
    browser.evaluate(
        "document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0)",
    );
    browser.evaluate("document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')");
    let mut expected = 0;
    loop {
        browser.press_tab();
        let focused = browser.evaluate(FOCUSED);
        if focused.is_null() {
            break;
        }
        assert_eq!(
            focused["position"],
            json!(expected),
            "the order of {name}: {focused}"
        );
        assert_ne!(
            focused["outline"],
            json!("none"),
            "the focus on {name}: {focused}"
        );
        expected += 1;
        if focused["count"] == json!(expected) {
            break;
        }
    }
    assert!(expected > 3, "only {expected} elements on {name}");
}
