//! Deterministic test data, and digests.

use std::fmt::Write;
use std::io::Read;

use sha2::{Digest, Sha256};

/// Returns the SHA-256 digest of `bytes` as `sha256:…`.
pub fn digest(bytes: &[u8]) -> String {
    DigestBuilder::default().add(bytes).digest()
}

/// Computes a digest step by step.
#[derive(Clone, Default)]
pub struct DigestBuilder(Sha256);

impl DigestBuilder {
    /// Adds bytes.
    pub fn add(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    /// Returns the digest of all added bytes as `sha256:…`.
    pub fn digest(self) -> String {
        let mut text = "sha256:".to_owned();
        for byte in self.0.finalize() {
            write!(text, "{byte:02x}").expect("writing to memory");
        }
        text
    }
}

/// A generator of bytes that do not compress. The same seed gives the same bytes.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        // xorshift needs a state other than 0.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Fills `bytes` with the next bytes of the sequence.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let word = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }
}

/// Returns `size` bytes that do not compress.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    Noise::new(seed).fill(&mut bytes);
    bytes
}

/// Returns `size` bytes that compress to about half: noise and text in turn.
pub fn mixed(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = noise(seed, size);
    for piece in bytes.chunks_mut(4096).skip(1).step_by(2) {
        for (byte, letter) in piece.iter_mut().zip(b"imgsync \n".iter().cycle()) {
            *byte = *letter;
        }
    }
    bytes
}

/// Returns the tar of a layer: decompresses gzip and zstd, and keeps a raw layer.
pub fn unpacked(blob: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    if blob.starts_with(&[0x1F, 0x8B]) {
        let mut decoder = flate2::read::MultiGzDecoder::new(blob);
        decoder.read_to_end(&mut tar).expect("a good gzip stream");
    } else if blob.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        tar = zstd::decode_all(blob).expect("a good zstd stream");
    } else {
        tar.extend_from_slice(blob);
    }
    tar
}
