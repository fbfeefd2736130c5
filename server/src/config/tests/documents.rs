//! The defaults in `docs/server.md`.

use crate::config::reader::ShownValue;
use crate::config::*;

#[test]
fn defaults_are_documented() {
    let text = include_str!("../../../../docs/server.md");
    let more = "auth: {htpasswd: {path: /users}}\n\
                imgsync: {cache: {upstreams: [{prefix: a, remoteurl: 'https://a.example'}]}}\n";
    let proxy = "proxy: {remoteurl: 'https://b.example'}\n";
    for file in [more.to_owned(), format!("{more}{proxy}")] {
        let file = format!("version: 0.1\nstorage: filesystem\n{file}");
        let input = ConfigInput {
            file: Some(("config.yml", &file)),
            ..ConfigInput::default()
        };
        let entries = parse_config(input).unwrap().settings;
        let defaults = entries
            .iter()
            .filter(|entry| entry.origin == ValueOrigin::Default);
        // An upstream takes the default of another key.
        for entry in defaults.filter(|entry| entry.path.last().unwrap() != "freshness") {
            let name = |part: &String| match part.parse::<usize>() {
                Ok(_) => "#".to_owned(),
                Err(_) => part.clone(),
            };
            let path = entry.path.iter().map(name).collect::<Vec<_>>().join(".");
            let value = match &entry.value {
                ShownValue::Scalar(value) => format!("`{value}`"),
                ShownValue::List(values) => format!("`{}`", values.join("`, `")),
                ShownValue::Secret => panic!("{path} has a default"),
            };
            let row = text
                .lines()
                .find(|row| row.starts_with(&format!("| `{path}`<br>")));
            let cell = row
                .and_then(|row| row.split(" | ").nth(2))
                .unwrap_or_default();
            assert!(cell.starts_with(&value), "{path}: {value} is not {cell}");
        }
    }
}
