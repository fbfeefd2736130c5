//! Tests of parsing manifests.

use super::*;

fn descriptor(media_type: &str, content: &str) -> serde_json::Value {
    serde_json::json!({
        "mediaType": media_type,
        "digest": Digest::of(content.as_bytes()),
        "size": content.len(),
    })
}

fn image() -> serde_json::Value {
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, "config"),
        "layers": [
            descriptor("application/vnd.oci.image.layer.v1.tar+gzip", "layer"),
            descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", "far"),
        ],
    })
}

#[test]
fn an_image_needs_its_config_and_its_layers_but_not_foreign_ones() {
    let (media_type, manifest) = Manifest::parse(image().to_string().as_bytes(), None).unwrap();
    assert_eq!(media_type, media::OCI_MANIFEST);
    let children = manifest.children();
    let digests: Vec<_> = children.blobs.iter().map(|blob| &blob.digest).collect();
    assert_eq!(digests, [&Digest::of(b"config"), &Digest::of(b"layer")]);
    assert!(children.manifests.is_empty());
}

#[test]
fn an_index_needs_its_manifests() {
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [descriptor(media::OCI_MANIFEST, "child")],
    });
    let (media_type, manifest) = Manifest::parse(index.to_string().as_bytes(), None).unwrap();
    assert_eq!(media_type, media::OCI_INDEX);
    assert_eq!(manifest.children().manifests.len(), 1);
}

/// BuildKit's cache, as older versions write it.
#[test]
fn an_index_can_list_blobs() {
    let types = [
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "application/vnd.buildkit.cacheconfig.v0",
        media::OCI_MANIFEST,
        "application/vnd.example.manifest.v1+json",
        "",
    ];
    let listed = types.map(|media_type| descriptor(media_type, media_type));
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": listed });
    let (_, index) = Manifest::parse(index.to_string().as_bytes(), None).unwrap();
    let children = index.children();
    let names = |children: &[Descriptor]| -> Vec<String> {
        children
            .iter()
            .map(|child| child.media_type.clone())
            .collect()
    };
    assert_eq!(names(&children.blobs), types[..3]);
    assert_eq!(names(&children.manifests), types[3..]);
}

#[test]
fn null_counts_as_empty() {
    let mut image = image();
    image["annotations"] = serde_json::Value::Null;
    image["manifests"] = serde_json::Value::Null;
    image["layers"][0]["urls"] = serde_json::Value::Null;
    image["layers"][0]["annotations"] = serde_json::Value::Null;
    image["layers"][0]
        .as_object_mut()
        .unwrap()
        .remove("mediaType");
    image["layers"][1]["urls"] = serde_json::json!(["https://far.example/away"]);
    let (_, manifest) = Manifest::parse(image.to_string().as_bytes(), None).unwrap();
    let Manifest::Image { layers, .. } = manifest else {
        panic!("{manifest:?}");
    };
    assert_eq!(layers[0].media_type, "");
    assert!(layers[0].urls.is_empty());
    assert_eq!(layers[1].urls, ["https://far.example/away"]);
    image["layers"] = serde_json::Value::Null;
    let (_, manifest) = Manifest::parse(image.to_string().as_bytes(), None).unwrap();
    assert_eq!(manifest.children().blobs.len(), 1);

    let mut index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_INDEX,
        "config": null,
        "layers": null,
        "manifests": [descriptor(media::OCI_MANIFEST, "a"), descriptor(media::OCI_MANIFEST, "b")],
    });
    index["manifests"][0]["platform"] = serde_json::json!({ "architecture": "amd64" });
    index["manifests"][1]["platform"] = serde_json::json!({});
    let (_, manifest) = Manifest::parse(index.to_string().as_bytes(), None).unwrap();
    let children = manifest.children().manifests;
    let platforms = children.iter().map(|child| child.platform.clone().unwrap());
    let platforms: Vec<_> = platforms
        .map(|platform| (platform.os, platform.architecture))
        .collect();
    let expected = [("", "amd64"), ("", "")].map(|(os, arch)| (os.into(), arch.into()));
    assert_eq!(platforms, expected);
    index["manifests"] = serde_json::Value::Null;
    let (_, manifest) = Manifest::parse(index.to_string().as_bytes(), None).unwrap();
    assert!(manifest.children().manifests.is_empty());
}

#[test]
fn lists_are_bounded_and_the_type_is_still_found() {
    let mut layers = image();
    layers["layers"] = vec![descriptor("a/b", "layer"); MAX_DESCRIPTORS].into();
    let mut urls = image();
    urls["layers"][0]["urls"] = vec!["x"; MAX_DESCRIPTOR_URLS].into();
    for (path, mut just) in [("/layers", layers), ("/layers/0/urls", urls)] {
        assert!(Manifest::parse(just.to_string().as_bytes(), None).is_ok());
        let list = just.pointer_mut(path).unwrap().as_array_mut().unwrap();
        list.push(list[0].clone());
        let bytes = just.to_string();
        let error = Manifest::parse(bytes.as_bytes(), None).unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
        let media_type = Manifest::media_type(bytes.as_bytes()).unwrap();
        assert_eq!(media_type, media::OCI_MANIFEST);
    }
}

#[test]
fn ambiguous_manifests_are_rejected() {
    let mut both = image();
    both["manifests"] = serde_json::json!([]);
    let mut old = image();
    old["schemaVersion"] = 1.into();
    for (bytes, declared) in [
        (both.to_string(), None),
        (old.to_string(), None),
        (image().to_string(), Some(media::OCI_INDEX)),
        (image().to_string(), Some("text/plain")),
        ("{".to_owned(), None),
        ("[]".to_owned(), None),
    ] {
        assert!(
            Manifest::parse(bytes.as_bytes(), declared).is_err(),
            "{bytes}"
        );
        if declared.is_none() {
            assert!(Manifest::media_type(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}

#[test]
fn names_that_programs_in_go_read_as_another_field_are_rejected() {
    let other = serde_json::json!([descriptor("a/b", "other")]);
    for (path, name) in [
        ("", "Layers"),
        ("", "LAYERS"),
        ("", "layer\u{17f}"),
        ("", "Config"),
        ("", "Manifests"),
        ("", "MediaType"),
        ("", "Subject"),
        ("/config", "Digest"),
        ("/layers/1", "digest".to_uppercase().as_str()),
        ("/layers/1", "Size"),
        ("/layers/0", "URLs"),
    ] {
        let mut changed = image();
        let object = changed.pointer_mut(path).unwrap().as_object_mut().unwrap();
        object.insert(name.to_owned(), other.clone());
        let error = Manifest::parse(changed.to_string().as_bytes(), None).unwrap_err();
        assert!(error.to_string().contains("can be read as"), "{error}");
    }
    // Names in annotations are free, and so are those of unknown fields.
    let mut image = image();
    image["annotations"] = serde_json::json!({"Layers": "1", "Digest": "2"});
    image["layers"][0]["annotations"] = serde_json::json!({"Size": "1"});
    image["extra"] = serde_json::json!({"Config": [1, -2, 0.5, true, null, {"Digest": "x"}]});
    Manifest::parse(image.to_string().as_bytes(), None).unwrap();
}

#[test]
fn bare_manifests_have_no_urls_and_annotations() {
    let mut image = image();
    image["subject"] = descriptor("a/b", "subject");
    let plain = Manifest::parse(image.to_string().as_bytes(), None).unwrap();
    image["config"]["annotations"] = serde_json::json!({"a": "b"});
    image["layers"][0]["urls"] = serde_json::json!(["https://example.com/"]);
    let bytes = image.to_string();
    assert_eq!(Manifest::parse_bare(bytes.as_bytes()).unwrap(), plain);
    assert_ne!(Manifest::parse(bytes.as_bytes(), None).unwrap(), plain);
    image["layers"][0]["digest"] = serde_json::json!("none");
    assert!(Manifest::parse_bare(image.to_string().as_bytes()).is_err());
}
