//! The digests of a layer that others have packed.

use std::io::{self, Read};

use imgsync_oci::media::Compression;

use super::{CompressError, CountingHasher, LayerDigests, decompress};

const READ_BUFFER_BYTES: usize = 128 * 1024;

/// Reads a packed layer to its end and yields its digests and sizes, holding no more of it than
/// buffers. A layer that is not compressed has one digest for both.
///
/// # Errors
/// [`Error::Source`] where reading fails; [`Error::Damaged`] where the bytes are cut short, are
/// not what `compression` says, go on after the last gzip member or zstd frame, or want a zstd
/// window above 64 MiB.
pub fn compute_layer_digests(
    reader: impl Read,
    compression: Compression,
) -> Result<LayerDigests, CompressError> {
    let mut packed = HashingReader {
        inner: reader,
        counter: CountingHasher::new(),
        has_failed: false,
    };
    let raw = decompress(&mut packed, compression).and_then(drain);
    let raw = raw.and_then(|raw| {
        if packed.counter.size == 0 && compression != Compression::None {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(raw)
    });
    match raw {
        Ok(raw) => Ok(LayerDigests {
            diff_id: raw.hasher.finish(),
            digest: packed.counter.hasher.finish(),
            raw_size: raw.size,
            size: packed.counter.size,
        }),
        Err(error) if packed.has_failed => Err(CompressError::Read(error)),
        Err(source) => Err(CompressError::Damaged {
            kind: match compression {
                Compression::None => "tar",
                Compression::Gzip => "gzip",
                Compression::Zstd => "zstd",
            },
            source,
        }),
    }
}

/// Hashes and counts everything that comes.
fn drain(mut reader: impl Read) -> io::Result<CountingHasher> {
    let mut tally = CountingHasher::new();
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(tally),
            Ok(len) => tally.update(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The packed side: hashes what passes, and remembers whether it was reading that failed.
struct HashingReader<R> {
    inner: R,
    counter: CountingHasher,
    has_failed: bool,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(len) => {
                self.counter.update(&buffer[..len]);
                Ok(len)
            }
            Err(error) => {
                self.has_failed = error.kind() != io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::*;
    use crate::compress::gzip;
    use imgsync_oci::Digest;

    fn gzipped(input: &[u8]) -> Vec<u8> {
        let mut blob = Vec::new();
        gzip(input, &mut blob, 2).unwrap();
        blob
    }

    fn zstandard(input: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(input, 3).unwrap()
    }

    #[test]
    fn both_digests_of_each_kind() {
        let input = sample(2_500_000);
        // Two frames, as parallel and seekable zstd writers make.
        let frames = [zstandard(&input[..1000]), zstandard(&input[1000..])].concat();
        for (compression, blob) in [
            (Compression::None, input.clone()),
            (Compression::Gzip, gzipped(&input)),
            (Compression::Zstd, zstandard(&input)),
            (Compression::Zstd, frames),
        ] {
            let packed = compute_layer_digests(&blob[..], compression).unwrap();
            assert_eq!(packed.diff_id, Digest::of(&input), "{compression:?}");
            assert_eq!(packed.digest, Digest::of(&blob), "{compression:?}");
            assert_eq!(packed.raw_size, input.len() as u64);
            assert_eq!(packed.size, blob.len() as u64);
        }
    }

    #[test]
    fn what_is_cut_short_anywhere_is_refused() {
        // Members of 1 MiB, so that cuts fall before, at the border of, and behind a member; a cut
        // exactly at a border leaves a whole gzip file, which only its digest tells from the full.
        let input = sample(1024 * 1024 + 300);
        let blob = gzipped(&input);
        let border = gzipped(&input[..1024 * 1024]).len();
        for cut in (0..40).chain(border - 30..blob.len()).chain([border / 2]) {
            let result = compute_layer_digests(&blob[..cut], Compression::Gzip);
            if cut == border {
                assert_ne!(result.unwrap().diff_id, Digest::of(&input));
            } else {
                assert!(
                    matches!(result, Err(CompressError::Damaged { .. })),
                    "gzip cut at {cut}"
                );
            }
        }
        let blob = zstandard(&input[..5000]);
        for cut in 0..blob.len() {
            let result = compute_layer_digests(&blob[..cut], Compression::Zstd);
            assert!(
                matches!(result, Err(CompressError::Damaged { .. })),
                "zstd cut at {cut}"
            );
        }
    }

    #[test]
    fn what_goes_on_after_the_end_is_refused() {
        let input = sample(3000);
        for tail in [
            &b"x"[..],
            b"more than ten bytes of it",
            &[0; 512],
            b"\x1f\x8b",
        ] {
            for (compression, blob) in [
                (Compression::Gzip, gzipped(&input)),
                (Compression::Zstd, zstandard(&input)),
            ] {
                let result = compute_layer_digests(&[&blob[..], tail].concat()[..], compression);
                assert!(
                    matches!(result, Err(CompressError::Damaged { .. })),
                    "{compression:?} then {tail:?}"
                );
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_refused() {
        let input = sample(200_000);
        let mut blob = gzipped(&input);
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
        let result = compute_layer_digests(&blob[..], Compression::Gzip);
        assert!(matches!(
            result,
            Err(CompressError::Damaged { kind: "gzip", .. })
        ));
    }

    #[test]
    fn a_giant_window_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        io::Write::write_all(&mut encoder, &sample(1000)).unwrap();
        let blob = encoder.finish().unwrap();
        let result = compute_layer_digests(&blob[..], Compression::Zstd);
        assert!(matches!(
            result,
            Err(CompressError::Damaged { kind: "zstd", .. })
        ));
    }

    #[test]
    fn a_failing_source_is_told_from_damage() {
        struct FailingReader;
        impl Read for FailingReader {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let input = sample(3000);
        for (compression, blob) in [
            (Compression::None, input.clone()),
            (Compression::Gzip, gzipped(&input)),
            (Compression::Zstd, zstandard(&input)),
        ] {
            let result = compute_layer_digests(blob[..50].chain(FailingReader), compression);
            assert!(
                matches!(result, Err(CompressError::Read(_))),
                "{compression:?}"
            );
        }
    }
}
