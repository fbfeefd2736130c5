use imgsync_oci::Tag;

use super::*;

fn evidence(name: &str, source: Option<EvidenceSource>) -> LayerEvidence {
    let digest = Digest::of(format!("{name}, packed").as_bytes());
    let blob = Descriptor::new(imgsync_oci::media::DOCKER_LAYER_GZIP, digest, 10);
    LayerEvidence {
        layer: Digest::of(name.as_bytes()),
        size: Some(100),
        candidate: source.map(|evidence| BlobCandidate { blob, evidence }),
        mount: None,
    }
}

#[test]
fn only_what_the_target_confirmed_is_left_out() {
    let facts = vec![
        evidence("a", Some(EvidenceSource::Cache)),
        evidence("b", Some(EvidenceSource::SameImage)),
        evidence("c", None),
        evidence("c", None),
    ];
    let first = facts[0].candidate.clone().unwrap();
    let confirmed = HashSet::from([first.blob.digest.clone()]);
    let plan = PushPlan::new(facts.clone(), &confirmed);
    let (read, send) = (Some(100), Some(10));
    let steps: Vec<BlobStep> = plan.steps.iter().map(|(_, step)| step.clone()).collect();
    assert_eq!(
        steps,
        [
            BlobStep::AlreadyPresent(first),
            BlobStep::Send {
                read,
                send,
                mount: None,
                is_packed: false,
                delta: None,
            },
            BlobStep::Send {
                read,
                send: None,
                mount: None,
                is_packed: false,
                delta: None,
            },
            BlobStep::Duplicate,
        ]
    );
    assert!(!plan.is_complete());
    let sums = PlanTotals {
        read: 200,
        send: 10,
        unpacked_layers: 1,
        saved: 10,
        ..PlanTotals::default()
    };
    assert_eq!(plan.totals(), sums);
    assert!(PushPlan::new(facts[..1].to_vec(), &confirmed).is_complete());
}

#[test]
fn claims_are_used_as_the_user_says() {
    let claim = || Some(EvidenceSource::Claim(Tag::latest()));
    let facts = vec![
        evidence("a", claim()),
        evidence("b", Some(EvidenceSource::SameImage)),
        evidence("a", claim()),
        evidence("c", Some(EvidenceSource::Verified)),
    ];
    let blobs = facts.iter().flat_map(|layer| layer.candidate.clone());
    let blobs: Vec<_> = blobs.collect();
    let confirmed: HashSet<_> = blobs.iter().map(|one| one.blob.digest.clone()).collect();
    let plan = |claims| PushPlan::with_claims(facts.clone(), &confirmed, claims);
    let steps = |plan: &PushPlan| -> Vec<BlobStep> {
        plan.steps.iter().map(|(_, step)| step.clone()).collect()
    };
    let present = |position: usize| BlobStep::AlreadyPresent(blobs[position].clone());
    let trust = ClaimPolicy {
        trust_registry: true,
        verify: None,
    };
    assert!(plan(trust).is_complete());

    let send = BlobStep::send_unknown(Some(100));
    let sent = [send.clone(), send.clone(), BlobStep::Duplicate, present(3)];
    assert_eq!(steps(&plan(ClaimPolicy::default())), sent);

    let mut verified = plan(ClaimPolicy {
        trust_registry: false,
        verify: Some(TransferRates::default()),
    });
    let verify = |position: usize| BlobStep::Verify {
        candidate: blobs[position].clone(),
        read: Some(100),
    };
    let expected = [verify(0), verify(1), verify(2), present(3)];
    assert_eq!(steps(&verified), expected);
    assert!(!verified.is_complete());
    assert_eq!(
        (verified.totals().verify, verified.totals().saved),
        (20, 10)
    );
    assert_eq!(verified.unverified().len(), 2);
    let mut refuted = verified.clone();
    refuted.settle(&HashSet::new());
    assert_eq!(steps(&refuted), sent);
    verified.settle(&HashSet::from([Digest::of(b"a")]));
    let found = BlobStep::AlreadyPresent(BlobCandidate {
        evidence: EvidenceSource::Verified,
        ..blobs[0].clone()
    });
    assert_eq!(
        steps(&verified),
        [found.clone(), send.clone(), found, present(3)]
    );
    // A user who trusts the registry need not trust a copy of the cache.
    let copied = vec![evidence("d", Some(EvidenceSource::UnsignedCache))];
    let blob = &copied[0].candidate.as_ref().unwrap().blob.digest;
    let confirmed = HashSet::from([blob.clone()]);
    let plan = PushPlan::with_claims(copied, &confirmed, trust);
    assert_eq!(steps(&plan), [send]);
}

#[test]
fn a_large_blob_is_verified_only_where_downloads_are_faster() {
    let rates = |sent, received| TransferRates { sent, received };
    let large = 100_000_000;
    assert!(rates(None, None).favour_download(large));
    assert!(rates(Some(1), None).favour_download(large));
    assert!(rates(Some(10), Some(20)).favour_download(large));
    assert!(!rates(Some(20), Some(10)).favour_download(large));
    assert!(rates(Some(20), Some(10)).favour_download(1000));
}

#[test]
fn layers_packed_by_an_earlier_run_are_sent_and_not_read() {
    let facts = vec![
        evidence("a", Some(EvidenceSource::Cache)),
        evidence("b", None),
    ];
    let first = facts[0].candidate.clone().unwrap();
    let confirmed = HashSet::from([first.blob.digest.clone()]);
    let mut plan = PushPlan::new(facts, &confirmed);
    plan.mark_packed(&Digest::of(b"a"), 30);
    plan.mark_packed(&Digest::of(b"b"), 40);
    assert_eq!(plan.steps[0].1, BlobStep::AlreadyPresent(first));
    let sums = PlanTotals {
        send: 40,
        saved: 10,
        ..PlanTotals::default()
    };
    assert_eq!(plan.totals(), sums);
}

#[test]
fn a_copy_mounts_and_leaves_out_what_others_send() {
    let from: Repository = "team/base".parse().unwrap();
    let sent = BlobStep::Send {
        read: Some(4),
        send: Some(4),
        mount: None,
        is_packed: false,
        delta: None,
    };
    let perhaps_mounted = BlobStep::Send {
        read: Some(5),
        send: Some(5),
        mount: Some(from.clone()),
        is_packed: false,
        delta: None,
    };
    let mounted = BlobStep::Mount { from, size: 20 };
    let other = BlobStep::SentByAnother { size: 300 };
    let totals = PlanTotals::of([&sent, &perhaps_mounted, &mounted, &other]);
    let expected = PlanTotals {
        read: 9,
        send: 9,
        mountable: 5,
        saved: 320,
        mounted: 20,
        ..PlanTotals::default()
    };
    assert_eq!(totals, expected);
}

#[test]
fn blobs_of_another_repository_are_mounted_or_would_be() {
    let from: Repository = "team/base".parse().unwrap();
    let mut layer = evidence("a", Some(EvidenceSource::Copy(from.clone())));
    layer.mount = Some(from.clone());
    let blob = layer.candidate.clone().unwrap().blob;
    let step = |confirmed: &[&Digest]| {
        let confirmed = confirmed.iter().copied().cloned().collect();
        let trusting = ClaimPolicy {
            trust_registry: true,
            ..ClaimPolicy::default()
        };
        let plan = PushPlan::with_claims(vec![layer.clone()], &confirmed, trusting);
        plan.steps[0].1.clone()
    };
    let would = BlobStep::Send {
        read: Some(100),
        send: None,
        mount: Some(from.clone()),
        is_packed: false,
        delta: None,
    };
    assert_eq!(step(&[]), would);
    let evidence = EvidenceSource::OtherRepository(from);
    let linked = BlobCandidate {
        blob: blob.clone(),
        evidence,
    };
    assert_eq!(step(&[&blob.digest]), BlobStep::AlreadyPresent(linked));
}
