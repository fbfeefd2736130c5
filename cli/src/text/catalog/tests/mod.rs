//! Tests the catalog: against the sources, and with messages.

mod source_text;

use std::collections::HashSet;

use self::source_text::read_sources;
use super::*;

/// Texts without a translation: lines that say what was transferred, which are in English like the
/// progress, and a prefix that is compared.
const UNTRANSLATED: [&str; 6] = [
    "{label}: already exists ({size}; {evidence})",
    "{label}: already exists ({size}; found in the registry)",
    "{label}: compressed by an earlier push",
    "{label}: mounted from {from}",
    "{source} to {target}: {tags} tag{plural}",
    "a login for ",
];

/// Returns a format string without the names of its placeholders, of which several in a row are one.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    let mut pieces = text.split('{');
    shape.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let is_adjacent = shape.ends_with("{}");
        shape.push_str(if is_adjacent { "" } else { "{}" });
        shape.push_str(piece.split_once('}').map_or("", |(_, after)| after));
    }
    shape
}

/// Returns the forms in which a message of the sources can be looked up: with the side that failed, and
/// without it.
fn forms(literal: &str) -> Vec<String> {
    let mut forms = vec![shape(literal)];
    for side in ["target: ", "source: ", "error: ", "hint: "] {
        forms.extend(literal.strip_prefix(side).map(shape));
    }
    forms
}

#[test]
fn the_catalog_is_complete_and_has_nothing_else() {
    let (_, faults) = Catalog::parse(CHINESE);
    assert_eq!(faults, Vec::<String>::new());
    let sources = read_sources();
    let known: HashSet<String> = sources
        .literals
        .iter()
        .flat_map(|text| forms(text))
        .collect();
    let mut seen = HashSet::new();
    let mut problems = Vec::new();
    for (source, _) in pairs(CHINESE) {
        let own = shape(source);
        if !seen.insert(own.clone()) {
            problems.push(format!("twice: {source}"));
        }
        // A text that is added to another one stands alone in the sources.
        let added = own.strip_prefix("{}").unwrap_or(&own);
        let added = [
            added,
            added.trim_start(),
            added.strip_suffix("{}").unwrap_or(added),
        ];
        let is_known = known.contains(&own) || added.iter().any(|text| known.contains(*text));
        if !is_known {
            problems.push(format!("not in the sources: {source}"));
        }
    }
    for message in &sources.messages {
        let is_translated = forms(message)
            .iter()
            .any(|form| seen.contains(form) || seen.contains(&format!("{{}}{form}")));
        if !is_translated && !UNTRANSLATED.contains(&message.as_str()) {
            problems.push(format!("no translation: {message}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_translation_has_only_placeholders_of_its_template() {
    let text = "# About a\n\ncannot read {a}\n无法读取 {b}\n{} of {}\n{1} 中的 {0*}\n";
    let (catalog, faults) = Catalog::parse(text);
    assert_eq!(faults, ["no {b} in \"cannot read {a}\""]);
    assert_eq!(catalog.entries.len(), 1);
}

#[test]
fn messages_are_translated_with_their_parts() {
    for (english, chinese) in [
        ("interrupted", "已中断"),
        (
            "target: cannot reach a.io:5000: it does not speak TLS",
            "目标端：无法连接 a.io:5000：对方不使用 TLS",
        ),
        (
            "target: a.io answered GET /v2/ with 401 Unauthorized: UNAUTHORIZED: no (as alice)",
            "目标端：a.io 对 GET /v2/ 返回 401 Unauthorized: UNAUTHORIZED: no（账号 alice）",
        ),
        (
            "check the address, and that the registry is running; HTTPS_PROXY is set, so requests go \
             through that proxy, unless NO_PROXY lists the host; imgsync doctor a.io examines this",
            "检查地址，以及镜像仓库是否在运行；已设置 HTTPS_PROXY，请求会经过这个代理，除非 NO_PROXY \
             里有这个主机；可以用 imgsync doctor a.io 检查",
        ),
        (
            "check the address, and that the registry is running",
            "检查地址，以及镜像仓库是否在运行",
        ),
        (
            "a.io limits the request rate: run the same command again in 3 min; a login may raise the \
             limit",
            "a.io 限制请求的频率：请在 3 分钟后重新执行同一条命令；登录后限额可能更高",
        ),
        (
            "deleted 1 tag and 2 manifests; to restore them: imgsync undelete a.io/b",
            "已删除 1 个标签和 2 个清单；要恢复：imgsync undelete a.io/b",
        ),
        ("source: something new", "源端：something new"),
        ("something new", "something new"),
        // A name is no message, whatever it is.
        (
            "the Docker daemon has no image later",
            "Docker 守护进程里没有镜像 later",
        ),
    ] {
        assert_eq!(translate(english, Language::Chinese), chinese);
        assert_eq!(translate(english, Language::English), english);
    }
}

/// Texts of a registry can be long, and can look like messages in messages.
#[test]
fn hostile_messages_are_bounded() {
    let nested = "target: ".repeat(1000) + "interrupted";
    let shown = translate(&nested, Language::Chinese);
    assert!(shown.matches("目标端：").count() <= MAX_DEPTH);
    let long = "cannot read ".repeat(1000);
    assert!(long.len() > MAX_MESSAGE_BYTES);
    assert_eq!(translate(&long, Language::Chinese), long);
}
