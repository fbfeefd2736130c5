//! Tests of the room for uploads: the arithmetic against a model, and uploads on a simulated disk.

use std::collections::HashMap;

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Algorithm, Digest, Repository};

use super::ledger::{DiskRoom, Ledger};
use super::{SpaceShortage, default_reserve};
use crate::config::{QuotaConfig, SpaceConfig};
use crate::registry::cache::tests::{cache_blob, folder, image, push, push_blob};
use crate::registry::{ContentTarget, Error, Registry, UploadOwner, Walk};
use crate::store::testing::TestRng;
use crate::store::{DiskSpace, ObjectKey};

fn name(text: &str) -> Repository {
    text.parse().unwrap()
}

fn quota(patterns: &[&str], max_bytes: u64) -> QuotaConfig {
    QuotaConfig {
        repositories: patterns.iter().map(|text| text.parse().unwrap()).collect(),
        max_bytes,
    }
}

fn limits(reserve: u64, quotas: &[QuotaConfig]) -> SpaceConfig {
    SpaceConfig {
        reserve: Some(reserve),
        quotas: quotas.to_vec(),
    }
}

fn room(writable: u64) -> DiskRoom {
    DiskRoom {
        writable,
        free: writable + 10,
        reserve: 10,
    }
}

fn owner() -> UploadOwner {
    UploadOwner::User("alice".into())
}

/// Uploads bytes in chunks, and finishes the upload if all of them were accepted.
fn upload(registry: &Registry, repository: &str, chunks: &[&[u8]]) -> Result<(), Error> {
    let repository = name(repository);
    registry.check_upload_limit(&owner(), 1000)?;
    registry.check_upload_space(&repository, &owner(), None)?;
    let id = registry.start_upload(&repository, Algorithm::Sha256, &owner())?;
    let mut offset = 0;
    for chunk in chunks {
        let mut writer = registry.open_upload_writer(&repository, id, Some(offset))?;
        writer.claim(chunk.len() as u64)?;
        writer.write(chunk)?;
        writer.sync()?;
        offset += chunk.len() as u64;
    }
    let writer = registry.open_upload_writer(&repository, id, None)?;
    writer.commit(&Digest::of(&chunks.concat()))
}

fn used(registry: &Registry, repository: &str) -> u64 {
    registry.update_quota_usage().unwrap();
    let full = registry
        .space
        .ledger()
        .check_quotas(&name(repository), u64::MAX);
    match full {
        Err(SpaceShortage::Quota { used, .. }) => used,
        other => panic!("{other:?}"),
    }
}

fn assert_quota_is_used_up(result: Result<(), Error>) {
    assert!(
        matches!(
            &result,
            Err(Error::NoSpace {
                shortage: SpaceShortage::Quota { .. },
                ..
            })
        ),
        "{result:?}"
    );
}

fn assert_disk_is_full(result: Result<(), Error>) {
    let error = result.unwrap_err();
    assert!(error.is_disk_full(), "{error}");
}

#[test]
fn the_reserve_is_a_part_of_a_small_disk() {
    let reserve = |total| default_reserve(DiskSpace { free: 0, total });
    assert_eq!(reserve(2000), 100);
    assert_eq!(reserve(1_000_000_000_000), 512_000_000);
}

/// The bytes of the sessions of a model, each with its claimed end and its written bytes.
type ModelSessions = HashMap<usize, (usize, u64, u64)>;

#[test]
fn claims_never_exceed_the_disk_or_a_quota() {
    let repositories = ["a/x", "a/y", "b"].map(name);
    let quotas = [quota(&["a/*"], 70), quota(&["**"], 100)];
    for seed in 0..300 {
        let mut random = TestRng(seed + 1);
        let mut ledger = Ledger::default();
        ledger.set_configs(&quotas);
        let configs = ledger.configs();
        let ids: Vec<UploadId> = (0..6).map(|_| UploadId::random()).collect();
        let mut sessions = ModelSessions::new();
        let (mut stored, capacity) = ([0_u64; 3], 90_u64);
        for _ in 0..80 {
            let session = random.below(ids.len());
            let on_disk: u64 = sessions.values().map(|(_, _, written)| written).sum();
            let free = capacity.saturating_sub(on_disk + stored.iter().sum::<u64>());
            match random.below(5) {
                0 | 1 => {
                    let (repository, end, written) = *sessions
                        .entry(session)
                        .or_insert_with(|| (random.below(3), 0, 0));
                    let wanted = end + random.below(40) as u64;
                    let claimed =
                        ledger.claim(&repositories[repository], ids[session], wanted, &room(free));
                    if claimed.is_ok() {
                        sessions.insert(session, (repository, wanted, written));
                    } else {
                        ledger.open(&repositories[repository], ids[session], written);
                    }
                }
                2 => {
                    if let Some((_, end, written)) = sessions.get_mut(&session) {
                        *written = *written + random.below((*end - *written) as usize + 1) as u64;
                        ledger.set_written(ids[session], *written);
                    }
                }
                3 => {
                    if let Some((_, end, written)) = sessions.get_mut(&session) {
                        *end = *written;
                        ledger.settle(ids[session], *written);
                    }
                }
                _ => {
                    if let Some((repository, _, written)) = sessions.remove(&session) {
                        let is_finished = random.below(2) == 0;
                        if is_finished {
                            stored[repository] += written;
                            let indexes: &[usize] = if repository < 2 { &[0, 1] } else { &[1] };
                            ledger.add_stored(&configs, indexes, written);
                        }
                        ledger.remove(ids[session]);
                    }
                }
            }
            let unwritten: u64 = sessions
                .values()
                .map(|(_, end, written)| end - written)
                .sum();
            let on_disk: u64 = sessions.values().map(|(_, _, written)| written).sum();
            assert_eq!(ledger.unwritten(), unwritten, "seed {seed}");
            let total = on_disk + stored.iter().sum::<u64>() + unwritten;
            assert!(total <= capacity, "seed {seed}: {total}");
            for (index, limit, members) in [(0, 70, 0..2), (1, 100, 0..3)] {
                let claimed = sessions.values().filter(|(of, _, _)| members.contains(of));
                let used = claimed.map(|(_, end, _)| end).sum::<u64>()
                    + members.clone().map(|member| stored[member]).sum::<u64>();
                assert!(used <= limit, "seed {seed}: quota {index} has {used}");
                let fits = |bytes| ledger.check_quotas(&repositories[0], bytes).is_ok();
                if index == 1 {
                    assert!(!fits(limit - used + 1), "seed {seed}");
                }
            }
        }
    }
}

#[test]
fn an_upload_that_does_not_fit_leaves_no_bytes() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    registry.store.simulate_disk(100_000);
    registry.set_space_limits(&limits(10_000, &[]), None);
    upload(&registry, "a", &[&[1; 30_000], &[2; 20_000]]).unwrap();
    assert_disk_is_full(upload(&registry, "a", &[&[3; 20_000], &[4; 41_000]]));
    assert!(registry.store.list_uploads().unwrap().is_empty());
    assert_eq!(registry.claimed_bytes(), 0);
    // A smaller one fits.
    upload(&registry, "a", &[&[5; 39_000]]).unwrap();
    assert_disk_is_full(upload(&registry, "a", &[&[6; 2000]]));
    // The manifest of blobs that were accepted may use the reserve.
    let (manifest, config) = image("one", &[]);
    registry.set_space_limits(&limits(0, &[]), None);
    push_blob(&registry, &name("a"), &config);
    registry.set_space_limits(&limits(10_000, &[]), None);
    push(&registry, &name("a"), "v1", &manifest).unwrap();
}

#[test]
fn a_refused_upload_takes_the_others_of_its_push_along() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    registry.store.simulate_disk(100_000);
    registry.set_space_limits(&limits(10_000, &[]), None);
    let (pushed, other) = (name("a"), name("b"));
    registry.check_upload_limit(&owner(), 1000).unwrap();
    let start = |repository| {
        registry
            .start_upload(repository, Algorithm::Sha256, &owner())
            .unwrap()
    };
    let open = |repository, id| registry.open_upload_writer(repository, id, None);
    let [idle, busy, elsewhere] = [start(&pushed), start(&pushed), start(&other)];
    for (repository, id) in [(&pushed, idle), (&other, elsewhere)] {
        let mut writer = open(repository, id).unwrap();
        writer.write(&[1; 1000]).unwrap();
        writer.sync().unwrap();
    }
    let mut writing = open(&pushed, busy).unwrap();
    writing.claim(5000).unwrap();
    writing.write(&[2; 1000]).unwrap();
    let mut too_large = open(&pushed, start(&pushed)).unwrap();
    assert_disk_is_full(too_large.claim(200_000));
    drop(too_large);
    assert!(matches!(open(&pushed, idle), Err(Error::UploadUnknown(_))));
    assert_disk_is_full(writing.write(&[2; 1000]));
    drop(writing);
    assert!(matches!(open(&pushed, busy), Err(Error::UploadUnknown(_))));
    assert!(open(&other, elsewhere).is_ok());
    assert_eq!(registry.claimed_bytes(), 0);
}

#[test]
fn uploads_that_run_at_the_same_time_share_the_free_space() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    registry.store.simulate_disk(100_000);
    registry.set_space_limits(&limits(10_000, &[]), None);
    let (a, b) = (name("a"), name("b"));
    let open = |repository: &Repository| {
        let id = registry.start_upload(repository, Algorithm::Sha256, &UploadOwner::Unknown);
        registry
            .open_upload_writer(repository, id.unwrap(), None)
            .unwrap()
    };
    let (mut first, mut second) = (open(&a), open(&b));
    first.claim(60_000).unwrap();
    assert_disk_is_full(second.claim(40_000));
    drop(second);
    // Bytes that the first one has not sent are free again when its request ends.
    drop(first);
    open(&b).claim(40_000).unwrap();
}

#[test]
fn a_quota_counts_shared_blobs_once_and_no_cached_ones() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let quotas = [quota(&["team/**"], 100_000), quota(&["**"], 200_000)];
    push_blob(&registry, &name("team/old"), &[1; 1000]);
    cache_blob(&registry, &name("team/cached"), &[9; 5000], 1000);
    registry.set_space_limits(&limits(0, &quotas), None);
    assert_eq!(used(&registry, "team/a"), 1000);
    upload(&registry, "team/a", &[&[2; 500]]).unwrap();
    // One blob again, elsewhere in the quota, by upload and by mount, and outside of it.
    upload(&registry, "team/b", &[&[2; 500]]).unwrap();
    let blob = Digest::of(&[2; 500]);
    assert!(
        registry
            .mount(&name("team/c"), &name("team/a"), &blob)
            .unwrap()
    );
    assert!(
        registry
            .mount(&name("other"), &name("team/a"), &blob)
            .unwrap()
    );
    assert_eq!(
        (used(&registry, "team/a"), used(&registry, "other")),
        (1500, 1500)
    );
    upload(&registry, "other", &[&[3; 300]]).unwrap();
    assert_eq!(
        (used(&registry, "team/a"), used(&registry, "other")),
        (1500, 1800)
    );
    // A walk finds the same.
    let again = Registry::open(root.path());
    assert!(again.is_err(), "the first registry still has the folder");
    drop(registry);
    let registry = Registry::open(root.path()).unwrap();
    registry.set_space_limits(&limits(0, &quotas), None);
    assert_eq!(
        (used(&registry, "team/a"), used(&registry, "other")),
        (1500, 1800)
    );
}

#[test]
fn a_quota_stays_exact_if_content_is_linked_again() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    registry.set_space_limits(&limits(0, &[quota(&["team/**"], 100_000)]), None);
    let assert_exact = |step: &str| {
        let counted = used(&registry, "team/a");
        registry.discard_count();
        assert_eq!(counted, used(&registry, "team/a"), "{step}");
    };
    assert_exact("nothing");
    let (manifest, config) = image("one", &[]);
    for repository in ["team/a", "team/b"] {
        push_blob(&registry, &name(repository), &config);
        push(&registry, &name(repository), "v1", &manifest).unwrap();
        assert_exact(repository);
    }
    // Another repository of the quota has the blob only in its cache.
    cache_blob(&registry, &name("team/cached"), &[9; 5000], 1000);
    upload(&registry, "team/c", &[&[9; 5000]]).unwrap();
    assert_exact("cached");
    // A blob that was lost counts again when it is pushed again.
    let lost = Digest::of(&config);
    registry.store.delete(ObjectKey::Blob(&lost)).unwrap();
    registry.discard_count();
    used(&registry, "team/a");
    push_blob(&registry, &name("team/a"), &config);
    assert_exact("lost");
    let (tag, walk) = ("v1".parse().unwrap(), Walk::unbounded());
    let digest = Digest::of(&manifest).to_string().parse().unwrap();
    registry
        .delete_manifest(&name("team/b"), &digest, &walk)
        .unwrap();
    used(&registry, "team/a");
    registry
        .restore(&ContentTarget::Tag(name("team/b"), tag))
        .unwrap();
    assert_exact("restored");
}

#[test]
fn an_upload_beyond_a_quota_is_refused_until_something_is_deleted() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    registry.set_space_limits(&limits(0, &[quota(&["team/**"], 10_000)]), None);
    upload(&registry, "team/a", &[&[1; 6000]]).unwrap();
    assert_quota_is_used_up(upload(&registry, "team/b", &[&[2; 3000], &[3; 2000]]));
    assert!(registry.store.list_uploads().unwrap().is_empty());
    upload(&registry, "other", &[&[2; 50_000]]).unwrap();
    let large = Digest::of(&[2; 50_000]);
    let mounted = registry.mount(&name("team/b"), &name("other"), &large);
    assert_quota_is_used_up(mounted.map(drop));
    registry
        .delete_blob(&name("team/a"), &Digest::of(&[1; 6000]))
        .unwrap();
    upload(&registry, "team/b", &[&[2; 3000], &[3; 2000]]).unwrap();
    assert_eq!(used(&registry, "team/a"), 5000);
}

#[test]
fn a_refusal_says_what_to_do_and_what_untagged_images_hold() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    registry.store.simulate_disk(100_000);
    registry.set_space_limits(&limits(10_000, &[]), None);
    let refusal = || {
        let refused = upload(&registry, "a", &[&[1; 95_000]]);
        refused.unwrap_err().to_string()
    };
    let expected = "the disk of the registry is full: 5.0 kB more are needed; 100.0 kB are free, and \
                    10.0 kB must stay free (imgsync.space.reserve); remove images that nobody needs: \
                    imgsync-server garbage-collect --purge REPOSITORY:TAG";
    assert_eq!(refusal(), expected);
    registry.set_untagged_bytes(Some(7000));
    let untagged = "; images without a tag hold 7.0 kB, which \"untagged: 168h\" in \
                    imgsync.retention removes";
    assert_eq!(refusal(), format!("{expected}{untagged}"));
}
