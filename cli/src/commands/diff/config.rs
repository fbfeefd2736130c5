//! Compares the configs of two images, field by field.

use std::collections::BTreeMap;

use serde_json::Value;

/// The fields beside `config` that are compared. The others are about layers, or about the builder.
const TOP_FIELDS: [&str; 6] = [
    "architecture",
    "author",
    "created",
    "os",
    "os.version",
    "variant",
];

/// A field that differs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ConfigChange {
    /// The field, for example `Env` or `Entrypoint`.
    pub(super) field: String,
    /// The name of a variable or label, or the port or volume.
    pub(super) key: Option<String>,
    /// The value in the old image; `None` if it has none.
    pub(super) old: Option<Value>,
    pub(super) new: Option<Value>,
}

/// Compares two configs (OCI image-spec, "Image Configuration").
pub(super) fn compare_configs(old: &Value, new: &Value) -> Vec<ConfigChange> {
    let (mut old, mut new) = (flatten(old), flatten(new));
    let mut changes = Vec::new();
    for ((field, key), value) in std::mem::take(&mut new) {
        let before = old.remove(&(field.clone(), key.clone()));
        if before.as_ref() != Some(&value) {
            changes.push(ConfigChange {
                field,
                key,
                old: before,
                new: Some(value),
            });
        }
    }
    changes.extend(old.into_iter().map(|((field, key), value)| ConfigChange {
        field,
        key,
        old: Some(value),
        new: None,
    }));
    changes.sort_by(|a, b| (&a.field, &a.key).cmp(&(&b.field, &b.key)));
    changes
}

/// Returns the values by field and key. Programs in Go write `null` for an empty value.
fn flatten(config: &Value) -> BTreeMap<(String, Option<String>), Value> {
    let mut values = BTreeMap::new();
    for field in TOP_FIELDS {
        insert(&mut values, field, None, &config[field]);
    }
    let fields = config["config"].as_object().into_iter().flatten();
    for (field, value) in fields {
        match value {
            Value::Array(variables) if field == "Env" => {
                for variable in variables.iter().filter_map(Value::as_str) {
                    let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
                    let key = Some(name.to_owned());
                    values.insert((field.clone(), key), Value::from(value));
                }
            }
            Value::Object(entries) if field != "Healthcheck" => {
                for (key, value) in entries {
                    values.insert((field.clone(), Some(key.clone())), value.clone());
                }
            }
            value => insert(&mut values, field, None, value),
        }
    }
    values
}

fn insert(
    values: &mut BTreeMap<(String, Option<String>), Value>,
    field: &str,
    key: Option<String>,
    value: &Value,
) {
    let is_empty = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(flag) => !flag,
        _ => false,
    };
    if !is_empty {
        values.insert((field.to_owned(), key), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_and_labels_are_compared_one_by_one() {
        let old = json!({
            "os": "linux", "history": [1], "rootfs": 1,
            "config": {
                "Env": ["PATH=/bin", "A=1", "B=2"],
                "Labels": {"x": "1"},
                "Cmd": ["/a"],
                "User": "",
                "ExposedPorts": {"80/tcp": {}},
                "OnBuild": null,
            },
        });
        let new = json!({
            "os": "linux", "history": [2],
            "config": {
                "Env": ["PATH=/bin", "A=3"],
                "Labels": {"x": "1", "y": "2"},
                "Cmd": ["/b"],
                "ExposedPorts": {"81/tcp": {}},
                "OnBuild": [],
            },
        });
        let changes = compare_configs(&old, &new);
        let shown: Vec<_> = changes
            .iter()
            .map(|change| {
                let ConfigChange {
                    field,
                    key,
                    old,
                    new,
                } = change;
                let text = |value: &Option<Value>| value.as_ref().map(ToString::to_string);
                (field.as_str(), key.as_deref(), text(old), text(new))
            })
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            shown,
            [
                ("Cmd", None, some("[\"/a\"]"), some("[\"/b\"]")),
                ("Env", Some("A"), some("\"1\""), some("\"3\"")),
                ("Env", Some("B"), some("\"2\""), None),
                ("ExposedPorts", Some("80/tcp"), some("{}"), None),
                ("ExposedPorts", Some("81/tcp"), None, some("{}")),
                ("Labels", Some("y"), None, some("\"2\"")),
            ]
        );
        assert!(compare_configs(&old, &old).is_empty());
        assert!(compare_configs(&json!(7), &json!({"config": []})).is_empty());
    }
}
