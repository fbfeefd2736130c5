//! Tells digests apart by a part of their hash, so that large sets of digests need less memory.

use imgsync_oci::Digest;

/// Returns the first 128 bits of the hash in a digest, enough to tell digests apart.
pub(super) fn digest_prefix(digest: &Digest) -> u128 {
    // Two numbers of 64 bits are parsed faster than one of 128 bits.
    let hex = digest.hex();
    let [high, low] = [hex.get(..16), hex.get(16..32)].map(|half| {
        let half = u64::from_str_radix(half.unwrap_or_default(), 16);
        u128::from(half.unwrap_or_default())
    });
    high << 64 | low
}
