use std::io::Write;

use bytes::Bytes;

use super::*;

fn spool() -> (tempfile::TempDir, Spool) {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::keeping(folder.path());
    (folder, spool)
}

fn draft(spool: &Spool, bytes: &[u8]) -> Draft {
    let mut draft = spool.draft().unwrap();
    draft.write_all(bytes).unwrap();
    draft
}

fn packed(spool: &Spool, layer: &[u8]) -> Digest {
    let mut draft = spool.draft().unwrap();
    let packed = compress::gzip(layer, &mut draft, 1).unwrap();
    draft.keep(Room::Packed, &packed.diff_id);
    packed.diff_id
}

fn files(spool: &Spool) -> usize {
    room::leftovers(spool).len()
}

#[test]
fn what_was_kept_is_found_and_only_while_it_is_whole() {
    let (_folder, spool) = spool();
    let digest = Digest::of(b"layer");
    assert!(spool.bytes(&digest).is_none());
    draft(&spool, b"layer").keep(Room::Bytes, &digest);
    assert_eq!(
        &spool.bytes(&digest).unwrap().bytes().unwrap()[..],
        b"layer"
    );
    std::fs::write(spool.path(Room::Bytes, &digest), b"lawyer").unwrap();
    assert!(spool.bytes(&digest).is_none());
    assert_eq!(files(&spool), 0, "what is damaged goes");

    let diff_id = packed(&spool, b"tar");
    let kept = spool.packed(&diff_id).unwrap();
    assert_eq!(Digest::of(&kept.bytes.bytes().unwrap()), kept.blob.digest);
    let path = spool.path(Room::Packed, &diff_id);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.pop();
    std::fs::write(&path, &bytes).unwrap();
    assert!(spool.packed(&diff_id).is_none());
    assert_eq!(files(&spool), 0);
}

#[test]
fn a_sound_layer_under_a_wrong_name_does_not_count() {
    let (_folder, spool) = spool();
    let diff_id = packed(&spool, b"tar");
    let other = Digest::of(b"another tar");
    let (from, to) = (
        spool.path(Room::Packed, &diff_id),
        spool.path(Room::Packed, &other),
    );
    std::fs::rename(from, to).unwrap();
    assert!(spool.packed(&other).is_none());
}

#[test]
fn what_somebody_uses_stays_and_old_leftovers_go() {
    let (folder, spool) = spool();
    let [used, old, new] = [b"used", b"old ", b"new "].map(|bytes| {
        let digest = Digest::of(bytes);
        drop(draft(&spool, bytes).keep(Room::Bytes, &digest));
        digest
    });
    let mut held = spool.bytes(&used).unwrap().reader().unwrap();
    let date = SystemTime::now() - LONGEST - Duration::from_secs(60);
    for digest in [&used, &old] {
        let file = File::options()
            .write(true)
            .open(spool.path(Room::Bytes, digest));
        file.unwrap().set_modified(date).unwrap();
    }
    // Half of something, whose writer was killed; and half of something whose writer lives.
    std::fs::write(folder.path().join(".draft-killed"), b"x").unwrap();
    let living = draft(&spool, b"y");
    std::fs::write(folder.path().join("somebody else's"), b"z").unwrap();

    let again = Spool::keeping(folder.path());
    assert!(again.path(Room::Bytes, &used).exists());
    assert!(!again.path(Room::Bytes, &old).exists());
    assert!(again.path(Room::Bytes, &new).exists());
    assert!(!folder.path().join(".draft-killed").exists());
    assert!(folder.path().join("somebody else's").exists());

    // Also what was taken away while it was in use can be read to its end, and kept again.
    again.remove(Room::Bytes, [&used]);
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut held, &mut bytes).unwrap();
    assert_eq!(bytes, b"used");
    living.keep(Room::Bytes, &Digest::of(b"y"));
    assert!(again.bytes(&Digest::of(b"y")).is_some());
}

#[test]
fn the_oldest_leftovers_make_way_and_what_is_missing_then_is_said() {
    let (_folder, spool) = spool();
    let digest = Digest::of(b"leftover");
    drop(draft(&spool, b"leftover").keep(Room::Bytes, &digest));
    let refused = || io::Error::from(io::ErrorKind::StorageFull);
    room::make_way(&spool, 5, 9, refused()).unwrap();
    assert_eq!(files(&spool), 0);
    let error = room::make_way(&spool, 5, 9, refused()).unwrap_err();
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
fn a_fleeting_spool_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::fleeting(folder.path());
    let digest = Digest::of(b"layer");
    draft(&spool, b"layer").keep(Room::Bytes, &digest);
    spool.keep_small(&Bytes::from_static(b"x"), imgsync_oci::Algorithm::Sha256);
    assert!(spool.bytes(&digest).is_none());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
