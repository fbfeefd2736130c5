//! Hostile archives, and unusual ones that are valid.

use super::*;
use crate::compress;
use crate::transports::archive::staging;
use crate::transports::locate::detect_image;

/// Reads the archive as a file and as a stream, and checks that both return the same error.
fn refused(bytes: &[u8]) -> Error {
    let file = from_file(bytes)
        .and_then(|contents| detect_image(&contents, &all_platforms()))
        .unwrap_err();
    let stream = from_stream(bytes)
        .and_then(|contents| detect_image(&contents, &all_platforms()))
        .unwrap_err();
    assert_eq!(
        std::mem::discriminant(&file),
        std::mem::discriminant(&stream),
        "{file} but {stream}"
    );
    file
}

fn end(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend([0; 1024]);
    bytes
}

#[test]
fn names_that_climb_are_refused() {
    for name in [&b"../x"[..], b"/etc/passwd", b"a/../../x", b"\xff\xfe"] {
        let mut bytes = Vec::new();
        entry(&mut bytes, b'0', name, b"", b"x");
        assert!(
            matches!(refused(&end(bytes)), Error::UnsafeName { .. }),
            "{name:?}"
        );
    }
    for (name, link) in [
        (&b"a"[..], &b"/etc/passwd"[..]),
        (b"a", b"../x"),
        (b"a/b", b"../../x"),
    ] {
        for kind in [b'1', b'2'] {
            let mut bytes = Vec::new();
            entry(&mut bytes, kind, name, link, b"");
            assert!(
                matches!(refused(&end(bytes)), Error::UnsafeName { .. }),
                "{link:?}"
            );
        }
    }
    // A name in a manifest is checked like the name of an entry.
    let diff_id = Digest::of(b"x");
    let bytes = docker_archive(&[("../../etc/passwd", b"")], &[diff_id]);
    assert!(matches!(refused(&bytes), Error::UnsafeName { .. }));
}

#[test]
fn two_entries_of_one_name_are_refused() {
    let bytes = tarball(&[("manifest.json", b"[]"), ("./manifest.json", b"[]")]);
    assert!(refused(&bytes).to_string().contains("two entries"));
}

#[test]
fn links_in_a_circle_are_refused() {
    let layer = &b"layer"[..];
    let mut bytes = Vec::new();
    entry(&mut bytes, b'2', b"a/layer.tar", b"../b/layer.tar", b"");
    entry(&mut bytes, b'2', b"b/layer.tar", b"../a/layer.tar", b"");
    let manifest = br#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar"]}]"#;
    let config = serde_json::json!({ "rootfs": { "diff_ids": [Digest::of(layer)] } }).to_string();
    entry(&mut bytes, b'0', b"c.json", b"", config.as_bytes());
    entry(&mut bytes, b'0', b"manifest.json", b"", manifest);
    assert!(refused(&end(bytes)).to_string().contains("form a cycle"));
}

#[test]
fn a_repeated_layer_may_be_a_link() {
    let layer = &b"layer"[..];
    let diff_id = Digest::of(layer);
    let mut bytes = Vec::new();
    entry(&mut bytes, b'0', b"a/layer.tar", b"", layer);
    entry(&mut bytes, b'2', b"b/layer.tar", b"../a/layer.tar", b"");
    let manifest =
        br#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let config = serde_json::json!({ "rootfs": { "diff_ids": [diff_id, diff_id] } }).to_string();
    entry(&mut bytes, b'0', b"c.json", b"", config.as_bytes());
    entry(&mut bytes, b'0', b"manifest.json", b"", manifest);
    let bytes = end(bytes);
    for contents in [from_file(&bytes).unwrap(), from_stream(&bytes[..]).unwrap()] {
        let (image, blobs) = detect_image(&contents, &all_platforms()).unwrap();
        assert_eq!(image.name, None);
        check(&image, &blobs);
    }
}

#[test]
fn names_and_sizes_without_bounds_are_refused() {
    for kind in [b'L', b'K', b'x', b'g'] {
        let mut bytes = Vec::new();
        // The size is refused before any memory is reserved or the body is read.
        header(&mut bytes, kind, b"././@LongLink", b"", 10 << 30);
        assert!(matches!(refused(&bytes), Error::TooLarge { .. }));
    }
    let mut bytes = Vec::new();
    header(&mut bytes, b'0', b"x", b"", u64::MAX - 5);
    assert!(matches!(refused(&bytes), Error::Malformed { .. }));
    let mut bytes = Vec::new();
    header(&mut bytes, b'0', b"manifest.json", b"", 10 << 30);
    bytes.extend([0; 4096]);
    assert!(matches!(refused(&bytes), Error::Truncated { .. }));
    let large = vec![b' '; 5 << 20];
    assert!(matches!(
        refused(&tarball(&[("manifest.json", &large)])),
        Error::TooLarge { .. }
    ));
}

#[test]
fn entries_of_odd_kinds_are_refused_or_passed_over() {
    for kind in [b'S', b'D', b'M', b'V', b'Z'] {
        let mut bytes = Vec::new();
        entry(&mut bytes, kind, b"x", b"", b"");
        assert!(
            matches!(refused(&end(bytes)), Error::Malformed { .. }),
            "{kind}"
        );
    }
    let mut bytes = Vec::new();
    entry(&mut bytes, b'x', b"pax", b"", b"22 GNU.sparse.major=1\n");
    entry(&mut bytes, b'0', b"x", b"", b"");
    assert!(matches!(refused(&end(bytes)), Error::Malformed { .. }));
    let mut bytes = Vec::new();
    for kind in [b'3', b'4', b'5', b'6'] {
        entry(&mut bytes, kind, b"x", b"", b"");
    }
    bytes.extend(docker_archive(&[], &[]));
    detect_image(&from_file(&bytes).unwrap(), &all_platforms()).unwrap();
}

#[test]
fn long_names_are_read_in_both_dialects() {
    let layer = &b"layer"[..];
    let name = format!("{}/layer.tar", "a".repeat(200));
    let diff_id = Digest::of(layer);
    let manifest = format!(r#"[{{"Config":"c.json","Layers":["{name}"]}}]"#);
    let config = serde_json::json!({ "rootfs": { "diff_ids": [diff_id] } }).to_string();
    let record = format!(" path={name}\n");
    let pax = format!("{}{record}", record.len() + 3);
    assert_eq!(pax.len(), record.len() + 3);
    for (kind, text) in [(b'x', pax), (b'L', format!("{name}\0"))] {
        let mut bytes = Vec::new();
        entry(&mut bytes, kind, b"long", b"", text.as_bytes());
        entry(&mut bytes, b'0', b"short", b"", layer);
        entry(&mut bytes, b'0', b"c.json", b"", config.as_bytes());
        entry(&mut bytes, b'0', b"manifest.json", b"", manifest.as_bytes());
        let (image, blobs) =
            detect_image(&from_file(&end(bytes)).unwrap(), &all_platforms()).unwrap();
        check(&image, &blobs);
    }
}

#[test]
fn what_is_no_archive_is_named() {
    let gzip = |bytes: &[u8]| {
        let mut packed = Vec::new();
        compress::gzip(bytes, &mut packed, 1).unwrap();
        packed
    };
    let archive = docker_archive(&[], &[]);
    for (bytes, kind) in [
        (gzip(&archive), "gzip"),
        (zstd::encode_all(&archive[..], 1).unwrap(), "zstd"),
    ] {
        let error = refused(&bytes);
        assert!(error.to_string().contains(kind), "{error}");
        assert!(error.hint().unwrap().contains("-dc"));
    }
    assert!(matches!(refused(&[b'x'; 2000]), Error::Malformed { .. }));
    assert!(matches!(refused(b"hello"), Error::Malformed { .. }));
    assert!(matches!(refused(b""), Error::Empty { .. }));
    assert!(matches!(
        refused(&tarball(&[("x", b"y")])),
        Error::Malformed { .. }
    ));
}

#[test]
fn an_error_in_the_middle_of_an_export_is_told() {
    let whole = docker_archive(&[], &[]);
    let before_end = &whole[..whole.len() - 1024];
    for start in [before_end, &whole[..], b""] {
        for message in [
            r#"{"message":"no space left"}"#,
            "{\"error\":\"no space left\"}\n",
        ] {
            let bytes = [start, message.as_bytes()].concat();
            match from_stream(&bytes[..]) {
                Err(Error::EmbeddedError { message, .. }) => assert_eq!(message, "no space left"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn an_image_that_contradicts_itself_is_refused() {
    let (a, b) = (&b"a"[..], &b"b"[..]);
    let ids = [Digest::of(a), Digest::of(b)];
    // Too few diffIDs, a missing layer, and a compressed layer with another diffID.
    assert!(matches!(
        refused(&docker_archive(&[("a", a)], &ids)),
        Error::Malformed { .. }
    ));
    let mut missing = docker_archive(&[("a", a), ("b", b)], &ids);
    missing.drain(..1024);
    assert!(matches!(refused(&missing), Error::Missing { .. }));
    let mut gzipped = Vec::new();
    compress::gzip(b, &mut gzipped, 1).unwrap();
    let bytes = docker_archive(&[("a.tar.gz", &gzipped)], &ids[..1]);
    assert!(matches!(refused(&bytes), Error::DigestMismatch { .. }));
    // A blob whose bytes do not have the digest in its name.
    let name = format!("blobs/sha256/{}", ids[0].hex());
    let bytes = docker_archive(&[(&name, a)], &ids[1..]);
    assert!(matches!(refused(&bytes), Error::DigestMismatch { .. }));
    let bytes = docker_archive(&[(&name, b)], &ids[..1]);
    assert!(matches!(
        from_stream(&bytes[..]),
        Err(Error::DigestMismatch { .. })
    ));
}

#[test]
fn compressed_layers_of_an_archive_keep_their_bytes() {
    let raw = compress::testing::sample(300_000);
    let diff_id = Digest::of(&raw);
    let mut gzip = Vec::new();
    compress::gzip(&raw[..], &mut gzip, 1).unwrap();
    let zstd = zstd::encode_all(&raw[..], 1).unwrap();
    for blob in [gzip, zstd] {
        let bytes = docker_archive(&[("0123.tar.gz", &blob)], std::slice::from_ref(&diff_id));
        for contents in [from_file(&bytes).unwrap(), from_stream(&bytes[..]).unwrap()] {
            let (image, blobs) = detect_image(&contents, &all_platforms()).unwrap();
            check(&image, &blobs);
            let ImageContent::Single(single) = &image.content else {
                panic!("an index");
            };
            let Layer::Blob { descriptor, .. } = &single.layers[0] else {
                panic!("a raw layer");
            };
            assert_eq!(descriptor.digest, Digest::of(&blob));
            let layers = std::slice::from_ref(descriptor);
            let manifest = single.build_manifest(1, layers).unwrap();
            imgsync_oci::Manifest::parse(&manifest.bytes, None).unwrap();
        }
    }
}

#[test]
fn several_images_are_told_apart_by_name() {
    let config = br#"{"rootfs":{"diff_ids":[]}}"#;
    let manifest = br#"[{"Config":"c.json","RepoTags":["a:v1"],"Layers":[]},
                        {"Config":"c.json","RepoTags":["b:v1","b:v2"],"Layers":null}]"#;
    let bytes = tarball(&[("c.json", config), ("manifest.json", manifest)]);
    let error = refused(&bytes);
    assert_eq!(
        error.to_string().matches("a:v1, b:v1, b:v2").count(),
        1,
        "{error}"
    );
    let contents = from_file(&bytes).unwrap();
    let selector = crate::image::ImageSelector::Named("b:v2".to_owned());
    let (image, _) = crate::transports::archive::docker_archive::read_image(
        &contents,
        &selector,
        &all_platforms(),
    )
    .unwrap();
    assert_eq!(crate::image::name::text(&image.name.unwrap()), "b:v2");
}

/// Layers that the target has are not stored, whether the name or the bytes give the digest.
#[test]
fn a_stream_keeps_what_is_needed_only() {
    let [podmans, dockers, wanted] =
        [1, 2, 3].map(|seed| compress::testing::sample((5 << 20) + seed));
    let ids = [&podmans, &dockers, &wanted].map(|it| Digest::of(it));
    let podmans_name = format!("{}.tar", ids[0].hex());
    let layers = [
        (&*podmans_name, &podmans[..]),
        ("v1-id/layer.tar", &dockers),
        ("other/layer.tar", &wanted),
    ];
    let bytes = docker_archive(&layers, &ids);
    let there = [ids[0].clone(), ids[1].clone()];
    let mut unneeded: SkipLayer = Box::new(move |digest, _| there.contains(digest));
    let contents = staging::stage_stream(
        &bytes[..],
        "standard input",
        &Spool::default(),
        &mut unneeded,
        None,
    )
    .unwrap();
    let (image, blobs) = detect_image(&contents, &all_platforms()).unwrap();
    let ImageContent::Single(single) = image.content else {
        panic!("an index");
    };
    for (place, kept) in [(0, false), (1, false), (2, true)] {
        let layer = &single.layers[place];
        let size = Some(layers[place].1.len() as u64);
        assert_eq!(
            *layer,
            Layer::Raw {
                diff_id: ids[place].clone(),
                size
            }
        );
        assert_eq!(blobs.get(layer.source_digest()).is_some(), kept);
    }
    assert_eq!(pack(&single.layers[2], &blobs).diff_id, ids[2]);
}

#[test]
fn reading_by_digest_ends_with_the_last_wanted_entry() {
    struct FailingReader;
    impl Read for FailingReader {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("read too far"))
        }
    }
    let bytes = std::fs::read(recorded("docker20-classic-store.tar")).unwrap();
    let inspected = std::fs::read(recorded("docker20-classic-store.inspect.json")).unwrap();
    let inspected: serde_json::Value = serde_json::from_slice(&inspected).unwrap();
    let config: Digest = inspected["Id"].as_str().unwrap().parse().unwrap();
    // The config and one layer. The rest of the archive is not read.
    let layer: Digest = inspected["RootFS"]["Layers"][0]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let wanted = HashSet::from([config, layer]);
    let spool = Spool::default();
    let half = bytes[..16 * 1024].chain(FailingReader);
    let picked = staging::stage_by_digest(
        half,
        "the export",
        &spool,
        wanted.clone(),
        false,
        &packing(),
    );
    let picked = picked.unwrap();
    for (digest, slice) in &picked {
        assert_eq!(Digest::of(&slice.read_all().unwrap()), *digest);
    }
    assert_eq!(picked.into_keys().collect::<HashSet<_>>(), wanted);
    let wanted = HashSet::from([Digest::of(b"elsewhere")]);
    let missing =
        staging::stage_by_digest(&bytes[..], "the export", &spool, wanted, false, &packing());
    let missing = missing.unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }), "{missing}");
}
