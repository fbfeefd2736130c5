//! Decides whether the wanted layers are so large a part of an image that an export is quicker than a
//! push. Pure: it performs no I/O.

use std::collections::HashSet;

use imgsync_oci::Digest;

use super::LoopbackError;

/// The share of an image, in percent, up to which a push is quicker than an export: Docker
/// compresses some 30 MB a second, and exports some 220 MB a second of the whole image.
const MAX_WANTED_PERCENT: u64 = 15;

/// Checks that the wanted layers are not so large a part of the image that an export is quicker.
/// `steps` tells for each step of the build, the first one first, whether it made a layer, and `sizes`
/// its bytes.
pub(super) fn check_share(
    diff_ids: &[Digest],
    wanted: &HashSet<Digest>,
    steps: &[bool],
    sizes: &[u64],
) -> Result<(), LoopbackError> {
    let (wanted, total) = wanted_bytes(diff_ids, wanted, steps, sizes);
    if wanted.saturating_mul(100) > total.saturating_mul(MAX_WANTED_PERCENT) {
        return Err(LoopbackError::new("most of it is needed"));
    }
    Ok(())
}

/// Returns the bytes of the wanted layers and those of all layers. `sizes` has the bytes of each
/// step of the build. If the sizes cannot be assigned to layers, the wanted ones count as the
/// largest.
fn wanted_bytes(
    diff_ids: &[Digest],
    wanted: &HashSet<Digest>,
    steps: &[bool],
    sizes: &[u64],
) -> (u64, u64) {
    let sum = |sizes: &[u64]| sizes.iter().copied().fold(0, u64::saturating_add);
    let is_known = steps.len() == sizes.len();
    let has_layer = |position: usize| is_known && steps[position];
    let layers = sizes.iter().enumerate();
    let layers = layers.filter(|(position, size)| has_layer(*position) || !is_known && **size > 0);
    let mut layers: Vec<u64> = layers.map(|(_, size)| *size).collect();
    let wanted: Vec<u64> = if layers.len() == diff_ids.len() {
        let pairs = diff_ids.iter().zip(&layers);
        let wanted = pairs.filter(|(diff_id, _)| wanted.contains(*diff_id));
        wanted.map(|(_, size)| *size).collect()
    } else {
        layers.sort_unstable_by(|one, other| other.cmp(one));
        layers.iter().copied().take(wanted.len()).collect()
    };
    (sum(&wanted), sum(&layers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_the_wanted_layers() {
        let diff_ids: Vec<Digest> = (0..3u8).map(|n| Digest::of(&[n])).collect();
        let top = HashSet::from([diff_ids[2].clone()]);
        let bytes = |steps: &[bool], sizes: &[u64]| wanted_bytes(&diff_ids, &top, steps, sizes);
        // The config tells which steps made a layer. An empty layer has no bytes either.
        let steps = [true, false, true, true, false];
        assert_eq!(bytes(&steps, &[100, 0, 0, 5, 0]), (5, 105));
        // Without it, the steps with bytes did.
        assert_eq!(bytes(&[], &[100, 0, 20, 5, 0]), (5, 125));
        // One of the layers is empty, so nobody knows which size is whose.
        assert_eq!(bytes(&[], &[100, 0, 20, 0]), (100, 120));
        assert_eq!(bytes(&[], &[]), (0, 0));
        let all = diff_ids.iter().cloned().collect();
        let largest = wanted_bytes(&diff_ids, &all, &[], &[u64::MAX, 1]);
        assert_eq!(largest, (u64::MAX, u64::MAX));
    }
}
