use std::io::Write;

use bytes::Bytes;
use futures::FutureExt;

use super::*;

fn spool() -> (tempfile::TempDir, Spool) {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::persistent(folder.path());
    (folder, spool)
}

fn draft(spool: &Spool, bytes: &[u8]) -> Draft {
    let mut draft = spool.create_draft().unwrap();
    draft.write_all(bytes).unwrap();
    draft
}

fn compressed(spool: &Spool, layer: &[u8]) -> Digest {
    let mut draft = spool.create_draft().unwrap();
    let digests = compress::gzip(layer, &mut draft, 1).unwrap();
    draft.persist(SpoolKind::Compressed, &digests.diff_id);
    digests.diff_id
}

fn files(spool: &Spool) -> usize {
    spool.list_leftovers().len()
}

#[test]
fn persisted_entries_are_found_only_while_intact() {
    let (_folder, spool) = spool();
    let digest = Digest::of(b"layer");
    assert!(spool.find_bytes(&digest).is_none());
    draft(&spool, b"layer").persist(SpoolKind::Bytes, &digest);
    assert_eq!(
        &spool.find_bytes(&digest).unwrap().read_all().unwrap()[..],
        b"layer"
    );
    std::fs::write(spool.path(SpoolKind::Bytes, &digest), b"lawyer").unwrap();
    assert!(spool.find_bytes(&digest).is_none());
    assert_eq!(files(&spool), 0, "a damaged entry is deleted");

    let diff_id = compressed(&spool, b"tar");
    let kept = spool.find_compressed(&diff_id).unwrap();
    assert_eq!(
        Digest::of(&kept.bytes.read_all().unwrap()),
        kept.blob.digest
    );
    let path = spool.path(SpoolKind::Compressed, &diff_id);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.pop();
    std::fs::write(&path, &bytes).unwrap();
    assert!(spool.find_compressed(&diff_id).is_none());
    assert_eq!(files(&spool), 0);
}

#[test]
fn an_intact_layer_under_a_wrong_name_is_ignored() {
    let (_folder, spool) = spool();
    let diff_id = compressed(&spool, b"tar");
    let other = Digest::of(b"another tar");
    let (from, to) = (
        spool.path(SpoolKind::Compressed, &diff_id),
        spool.path(SpoolKind::Compressed, &other),
    );
    std::fs::rename(from, to).unwrap();
    assert!(spool.find_compressed(&other).is_none());
}

#[test]
fn entries_in_use_stay_and_old_leftovers_are_removed() {
    let (folder, spool) = spool();
    let [used, old, new] = [b"used", b"old ", b"new "].map(|bytes| {
        let digest = Digest::of(bytes);
        drop(draft(&spool, bytes).persist(SpoolKind::Bytes, &digest));
        digest
    });
    let mut reader = spool.find_bytes(&used).unwrap().reader().unwrap();
    let date = SystemTime::now() - MAX_SPOOL_AGE - Duration::from_secs(60);
    for digest in [&used, &old] {
        let file = File::options()
            .write(true)
            .open(spool.path(SpoolKind::Bytes, digest));
        file.unwrap().set_modified(date).unwrap();
    }
    // One draft whose writer was killed, and one whose writer is still running.
    std::fs::write(folder.path().join(".draft-killed"), b"x").unwrap();
    let open_draft = draft(&spool, b"y");
    std::fs::write(folder.path().join("somebody else's"), b"z").unwrap();

    let again = Spool::persistent(folder.path());
    assert!(again.path(SpoolKind::Bytes, &used).exists());
    assert!(!again.path(SpoolKind::Bytes, &old).exists());
    assert!(again.path(SpoolKind::Bytes, &new).exists());
    assert!(!folder.path().join(".draft-killed").exists());
    assert!(folder.path().join("somebody else's").exists());

    // An entry that was removed while in use can be read to the end, and kept again.
    again.remove(SpoolKind::Bytes, [&used]);
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
    assert_eq!(bytes, b"used");
    open_draft.persist(SpoolKind::Bytes, &Digest::of(b"y"));
    assert!(again.find_bytes(&Digest::of(b"y")).is_some());
}

#[test]
fn the_oldest_leftovers_are_removed_and_then_a_full_disk_is_reported() {
    let (_folder, spool) = spool();
    let digest = Digest::of(b"leftover");
    drop(draft(&spool, b"leftover").persist(SpoolKind::Bytes, &digest));
    let write_error = || io::Error::from(io::ErrorKind::StorageFull);
    spool.make_space(5, 9, write_error()).unwrap();
    assert_eq!(files(&spool), 0);
    let error = spool.make_space(5, 9, write_error()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let text = error.to_string();
    assert!(text.contains("9 B or more are needed"), "{text}");
    assert!(
        text.contains(&spool.folder().display().to_string()),
        "{text}"
    );
    spool.reserve(1).unwrap();
    let error = spool.reserve(u64::MAX).unwrap_err().to_string();
    assert!(error.contains("18446.7 PB or more"), "{error}");
}

#[test]
fn a_temporary_spool_persists_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::temporary(folder.path());
    let digest = Digest::of(b"layer");
    draft(&spool, b"layer").persist(SpoolKind::Bytes, &digest);
    spool.persist_small(&Bytes::from_static(b"x"), imgsync_oci::Algorithm::Sha256);
    assert!(spool.find_bytes(&digest).is_none());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_layer_is_read_while_it_is_written() {
    let (_folder, spool) = spool();
    let tar = compress::testing::sample(2_500_000);
    let mut layer = spool.create_layer().unwrap();
    let mut growing = layer.growing().unwrap();
    layer.write_all(b"some bytes").unwrap();
    let Growth::Written(written) = growing.wait_for(5).await else {
        panic!("the layer is not complete");
    };
    let mut first = vec![0; written as usize];
    let mut reader = growing.bytes().reader().unwrap();
    io::Read::read_exact(&mut reader, &mut first).unwrap();
    assert_eq!(first, b"some bytes");
    // Nobody waits for a layer that is given up: who writes it reports why.
    drop(layer);
    assert!(growing.wait_for(5).now_or_never().is_some());
    assert!(growing.wait_for(11).now_or_never().is_none());

    let mut layer = spool.create_layer().unwrap();
    let mut growing = layer.growing().unwrap();
    let digests = layer.compress(&tar[..], 2).unwrap();
    assert!(growing.wait_for(u64::MAX).now_or_never().is_none());
    layer.complete(&digests);
    let complete = growing.complete().await;
    let kept = spool.find_compressed(&digests.diff_id).unwrap();
    assert_eq!(complete.blob, kept.blob);
    let bytes = complete.bytes.read_all().unwrap();
    assert_eq!(bytes, kept.bytes.read_all().unwrap());
}

fn age(spool: &Spool, kind: SpoolKind, digest: &Digest, seconds: u64) {
    let file = File::open(spool.path(kind, digest)).unwrap();
    let time = SystemTime::now() - Duration::from_secs(seconds);
    file.set_modified(time).unwrap();
}

/// Adds a layer of one MiB that is `seconds` old.
fn aged_layer(spool: &Spool, name: &str, seconds: u64) -> Digest {
    let diff_id = Digest::of(name.as_bytes());
    draft(spool, &[0; 1024 * 1024]).persist(SpoolKind::Compressed, &diff_id);
    age(spool, SpoolKind::Compressed, &diff_id, seconds);
    diff_id
}

#[test]
fn kept_layers_are_bounded_and_the_oldest_go_first() {
    const MIB: u64 = 1024 * 1024;
    let (_folder, spool) = spool();
    let names = [("a", 40), ("b", 30), ("c", 20), ("d", 10)];
    let layers = names.map(|(name, seconds)| aged_layer(&spool, name, seconds));
    let kept = |spool: &Spool| {
        let is_kept = |layer: &&Digest| spool.entry_size(SpoolKind::Compressed, layer).is_some();
        let kept = layers.iter().filter(is_kept);
        kept.map(|layer| layer.short().to_owned())
            .collect::<Vec<_>>()
    };
    let expected = |positions: &[usize]| {
        let kept = positions.iter().map(|position| &layers[*position]);
        kept.map(|layer| layer.short().to_owned())
            .collect::<Vec<_>>()
    };
    spool.keep_layers(&[], 4 * MIB);
    assert_eq!(kept(&spool), expected(&[0, 1, 2, 3]));
    // The layers of the image that was pushed now are the newest.
    spool.keep_layers(&layers[..1], 3 * MIB);
    assert_eq!(kept(&spool), expected(&[0, 2, 3]));
    // One that another push reads stays.
    let open = spool.open_compressed(&layers[2]).unwrap();
    age(&spool, SpoolKind::Compressed, &layers[2], 60);
    spool.keep_layers(&[], MIB);
    assert_eq!(kept(&spool), expected(&[2]));
    drop(open);
    spool.keep_layers(&[], MIB - 1);
    assert_eq!(files(&spool), 0);
}

#[test]
fn small_layers_of_a_pushed_image_are_not_kept() {
    let (_folder, spool) = spool();
    let (mine, other) = (compressed(&spool, b"tar"), compressed(&spool, b"other"));
    spool.keep_layers(std::slice::from_ref(&mine), u64::MAX);
    assert!(spool.open_compressed(&mine).is_none());
    assert!(spool.open_compressed(&other).is_some());
}

#[test]
fn a_delta_is_found_by_its_layer_and_its_bases() {
    let (_folder, spool) = spool();
    let [layer, one, two] = [b"layer", b"one  ", b"two  "].map(|text| Digest::of(text));
    let (only, both, swapped) = (
        [one.clone()],
        [one.clone(), two.clone()],
        [two, one.clone()],
    );
    draft(&spool, b"delta").persist_delta(&layer, &both);
    let found = spool.open_delta(&layer, &both).unwrap();
    assert_eq!(&found.read_all().unwrap()[..], b"delta");
    for others in [&swapped[..], &only, &[]] {
        assert!(spool.open_delta(&layer, others).is_none());
    }
    assert!(spool.open_delta(&one, &both).is_none());
    spool.remove_deltas(&only);
    assert!(spool.open_delta(&layer, &both).is_some());
    spool.remove_deltas(std::slice::from_ref(&layer));
    assert!(spool.open_delta(&layer, &both).is_none());
}
