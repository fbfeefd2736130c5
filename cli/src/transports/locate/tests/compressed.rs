//! Archives that are compressed as a whole.

use super::recorded::{EXPECTED, expected, summary};
use super::*;
use crate::transports::locate::{detect_image, open_files_skipping, read_stream};

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

fn halves(bytes: &[u8], pack: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    [pack(first), pack(second)].concat()
}

/// Reads the archive as a file and as a stream, and checks that both fail in the same way.
fn both(bytes: &[u8]) -> [Result<SourceFiles, Error>; 2] {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    std::fs::write(&path, bytes).unwrap();
    let spool = Spool::default();
    [
        open_files_skipping((&path, "the archive"), &spool, &mut skip_nothing(), None),
        read_stream(bytes, "standard input", &spool, &mut skip_nothing()),
    ]
}

fn refused(bytes: &[u8]) -> Error {
    let [file, stream] = both(bytes).map(|read| {
        read.and_then(|it| detect_image(&it, &all_platforms()))
            .unwrap_err()
    });
    assert_eq!(
        std::mem::discriminant(&file),
        std::mem::discriminant(&stream),
        "{file} but {stream}"
    );
    file
}

#[test]
fn every_archive_is_the_same_image_however_it_is_compressed() {
    for (file, name, origin, layers) in EXPECTED {
        let bytes = std::fs::read(recorded(file)).unwrap();
        // pzstd writes a skippable frame first.
        let skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd".to_vec();
        for packed in [
            bytes.clone(),
            gzipped(&bytes),
            halves(&bytes, gzipped),
            zstandard(&bytes),
            halves(&bytes, zstandard),
            [skipped, zstandard(&bytes)].concat(),
        ] {
            for read in both(&packed) {
                let (image, blobs) = detect_image(&read.unwrap(), &all_platforms()).unwrap();
                assert_eq!(summary(&image), expected(name, origin, layers), "{file}");
                check(&image, &blobs);
            }
        }
    }
}

/// Also if the tar is complete and only the end of the compressed stream is missing.
#[test]
fn a_compressed_archive_cut_anywhere_is_no_image() {
    let bytes = std::fs::read(recorded(EXPECTED[0].0)).unwrap();
    for packed in [gzipped(&bytes), zstandard(&bytes)] {
        let end = packed.len();
        for cut in (4..end).filter(|cut| cut % 13 == 0 || *cut > end - 40) {
            let error = refused(&packed[..cut]);
            assert!(matches!(error, Error::Truncated { .. }), "{cut}: {error}");
        }
    }
}

#[test]
fn a_compressed_archive_is_followed_by_nothing() {
    let bytes = std::fs::read(recorded(EXPECTED[0].0)).unwrap();
    for (packed, kind) in [(gzipped(&bytes), "gzip"), (zstandard(&bytes), "zstd")] {
        for tail in [&b"more than ten bytes of it"[..], &[0; 512]] {
            let error = refused(&[&packed[..], tail].concat());
            assert!(matches!(error, Error::Malformed { .. }), "{error}");
            assert!(error.to_string().contains(kind), "{error}");
        }
    }
}

#[test]
fn a_flipped_bit_is_noticed() {
    let bytes = std::fs::read(recorded(EXPECTED[0].0)).unwrap();
    let mut packed = gzipped(&bytes);
    // Only the checksum is damaged.
    let place = packed.len() - 6;
    packed[place] ^= 1;
    assert!(matches!(refused(&packed), Error::Malformed { .. }));
}

#[test]
fn what_needs_too_much_memory_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&[7; 5000]).unwrap();
    let error = refused(&encoder.finish().unwrap());
    assert!(error.to_string().contains("64 MiB"), "{error}");
}

#[test]
fn nested_and_unsupported_compression_is_named() {
    let bytes = gzipped(&std::fs::read(recorded(EXPECTED[0].0)).unwrap());
    for (packed, expected) in [
        (b"\xfd7zXZ\0 and so on".to_vec(), "xz"),
        (b"BZh9 and so on".to_vec(), "bzip2"),
        (gzipped(&bytes), "gzip"),
    ] {
        let error = refused(&packed);
        let Error::CompressedArchive { kind, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*kind, expected);
        assert!(error.hint().unwrap().contains(expected));
    }
}

/// An error of the input is not reported as damage.
#[test]
fn a_failing_input_is_told_from_a_damaged_one() {
    struct FailingReader;
    impl Read for FailingReader {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the line is gone"))
        }
    }
    let bytes = std::fs::read(recorded(EXPECTED[0].0)).unwrap();
    for packed in [gzipped(&bytes), zstandard(&bytes)] {
        let input = packed[..500].chain(FailingReader);
        let error = read_stream(
            input,
            "standard input",
            &Spool::default(),
            &mut skip_nothing(),
        )
        .unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error}");
        assert!(error.to_string().contains("the line is gone"), "{error}");
    }
}
