//! Tests of the walk over an image's graph.

use std::collections::HashMap;

use super::*;
use crate::manifest::Children;
use crate::{Descriptor, Digest, media};

/// The edges of a graph: the name of each manifest, with the manifests and the blobs that it lists.
type Edges<'a> = [(&'a str, &'a [&'a str], &'a [&'a str])];

fn descriptor(name: &str) -> Descriptor {
    Descriptor::new(media::OCI_MANIFEST, Digest::of(name.as_bytes()), 1)
}

fn visits(edges: &Edges<'_>) -> HashMap<Digest, Visit<String>> {
    let list = |names: &[&str]| names.iter().map(|name| descriptor(name)).collect();
    let visit = |(name, manifests, blobs): &(&str, &[&str], &[&str])| {
        let visit = Visit {
            children: Children {
                blobs: list(blobs),
                manifests: list(manifests),
            },
            bytes: 10,
            value: (*name).to_owned(),
        };
        (Digest::of(name.as_bytes()), visit)
    };
    edges.iter().map(visit).collect()
}

fn limits() -> GraphLimits {
    GraphLimits {
        max_depth: 2,
        max_manifests: 5,
        max_bytes: 50,
        max_descriptors: 12,
    }
}

fn names(nodes: &[GraphNode<String>]) -> String {
    let names: Vec<_> = nodes.iter().map(|node| node.value.as_str()).collect();
    names.join(" ")
}

/// Walks the graph below `roots`. A manifest that is not in `edges` is missing.
fn walked(roots: &[&str], edges: &Edges<'_>) -> Result<Vec<GraphNode<String>>, GraphLimitError> {
    let visits = visits(edges);
    let mut graph = GraphWalk::new(limits());
    roots
        .iter()
        .for_each(|root| graph.add_root(descriptor(root)));
    let fetch = |pending: &PendingManifest| {
        Ok::<_, std::convert::Infallible>(visits.get(&pending.descriptor().digest).cloned())
    };
    match walk(&mut graph, fetch) {
        Ok(()) => Ok(graph.finish()),
        Err(WalkError::Limit(error)) => Err(error),
        Err(WalkError::Fetch(never)) => match never {},
    }
}

const DIAMOND: &Edges<'_> = &[
    ("root", &["a", "b", "missing"], &[]),
    ("a", &["shared"], &["config-a", "layer"]),
    ("b", &["shared"], &["config-b", "layer"]),
    ("shared", &[], &["layer", "config"]),
];

#[test]
fn children_come_first_and_everything_once() {
    let nodes = walked(&["root"], DIAMOND).unwrap();
    assert_eq!(names(&nodes), "shared a b root");
    let blobs: Vec<Vec<Descriptor>> = nodes.into_iter().map(|node| node.blobs).collect();
    let list = |names: &[&str]| {
        names
            .iter()
            .map(|name| descriptor(name))
            .collect::<Vec<_>>()
    };
    let expected = [
        list(&["layer", "config"]),
        list(&["config-a"]),
        list(&["config-b"]),
        Vec::new(),
    ];
    assert_eq!(blobs, expected);
}

#[test]
fn several_roots_come_in_their_order() {
    let nodes = walked(&["b", "root", "b"], DIAMOND).unwrap();
    assert_eq!(names(&nodes), "shared b a root");
}

#[test]
fn manifests_are_fetched_parents_first_in_the_order_of_their_index() {
    let visits = visits(DIAMOND);
    let mut graph = GraphWalk::new(limits());
    graph.add_root(descriptor("root"));
    let mut order = Vec::new();
    walk(&mut graph, |pending| {
        let visit = visits.get(&pending.descriptor().digest).cloned();
        order.extend(
            visit
                .as_ref()
                .map(|visit| (visit.value.clone(), pending.depth())),
        );
        Ok::<_, ()>(visit)
    })
    .unwrap();
    let expected = [("root", 0), ("a", 1), ("shared", 2), ("b", 1)];
    assert_eq!(
        order,
        expected.map(|(name, depth)| (name.to_owned(), depth))
    );
}

#[test]
fn the_order_does_not_depend_on_the_order_of_adding() {
    let visits = visits(DIAMOND);
    let mut graph = GraphWalk::new(limits());
    graph.add_root(descriptor("root"));
    let mut pending = Vec::new();
    loop {
        pending.extend(std::iter::from_fn(|| graph.next()));
        if pending.is_empty() {
            break;
        }
        // The manifest that was queued last is added first.
        let last = pending.remove(pending.len() - 1);
        if let Some(visit) = visits.get(&last.descriptor().digest) {
            graph.add(&last, visit.clone()).unwrap();
        }
    }
    assert_eq!(names(&graph.finish()), "shared a b root");
}

#[tokio::test]
async fn a_concurrent_walk_has_the_same_order_and_limits_its_fetches() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let (visits, running) = (visits(DIAMOND), AtomicUsize::new(0));
    for concurrency in [0, 1, 2, 8] {
        let mut graph = GraphWalk::new(limits());
        graph.add_root(descriptor("root"));
        let fetch = async |pending: PendingManifest| {
            assert!(running.fetch_add(1, Ordering::Relaxed) < concurrency.max(1));
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::Relaxed);
            Ok::<_, ()>(visits.get(&pending.descriptor().digest).cloned())
        };
        walk_concurrently(&mut graph, concurrency, fetch)
            .await
            .unwrap();
        assert_eq!(names(&graph.finish()), "shared a b root");
    }
}

#[tokio::test]
async fn a_failed_fetch_ends_the_walk() {
    let fail = |_: &PendingManifest| Err::<Option<Visit<()>>, _>("gone");
    let mut graph = GraphWalk::new(limits());
    graph.add_root(descriptor("root"));
    assert_eq!(walk(&mut graph, fail), Err(WalkError::Fetch("gone")));
    let mut graph = GraphWalk::new(limits());
    graph.add_root(descriptor("root"));
    let fail = async |_| Err::<Option<Visit<()>>, _>("gone");
    let ended = walk_concurrently(&mut graph, 4, fail).await;
    assert_eq!(ended, Err(WalkError::Fetch("gone")));
}

#[test]
fn each_limit_is_enforced() {
    let nested: &Edges<'_> = &[
        ("0", &["1"], &[]),
        ("1", &["2"], &[]),
        ("2", &["3"], &["blob"]),
        ("3", &[], &[]),
    ];
    let digest = Digest::of(b"2");
    let too_deep = GraphLimitError::TooDeep { digest, limit: 2 };
    assert_eq!(walked(&["0"], nested), Err(too_deep));
    assert_eq!(names(&walked(&["0"], &nested[..2]).unwrap()), "1 0");

    let wide: &Edges<'_> = &[
        ("root", &["1", "2", "3", "4", "5"], &[]),
        ("1", &[], &[]),
        ("2", &[], &[]),
        ("3", &[], &[]),
        ("4", &[], &[]),
        ("5", &[], &[]),
    ];
    let too_many = GraphLimitError::TooManyManifests { limit: 5 };
    assert_eq!(walked(&["root"], wide), Err(too_many));
    assert!(walked(&["root"], &wide[..5]).is_ok());

    let blobs: &[&str] = &["x"; 13];
    let too_many = GraphLimitError::TooManyDescriptors { limit: 12 };
    assert_eq!(walked(&["root"], &[("root", &[], blobs)]), Err(too_many));
    assert!(walked(&["root"], &[("root", &[], &blobs[1..])]).is_ok());

    let mut graph = GraphWalk::new(limits());
    graph.add_root(descriptor("root"));
    let root = graph.next().unwrap();
    let mut visit = visits(DIAMOND).remove(&Digest::of(b"a")).unwrap();
    visit.bytes = 51;
    let too_large = GraphLimitError::TooManyBytes { limit: 50 };
    assert_eq!(graph.add(&root, visit.clone()), Err(too_large));
    visit.bytes = 50;
    assert_eq!(graph.add(&root, visit), Ok(()));
}

#[test]
fn a_walk_can_continue_after_a_limit_error() {
    let nested: &Edges<'_> = &[
        ("0", &["1", "last"], &[]),
        ("1", &["2"], &[]),
        ("2", &["3"], &["blob"]),
        ("3", &[], &[]),
        ("last", &[], &[]),
    ];
    let visits = visits(nested);
    let mut graph = GraphWalk::new(limits());
    graph.add_root(descriptor("0"));
    while let Some(pending) = graph.next() {
        let _ = graph.add(&pending, visits[&pending.descriptor().digest].clone());
    }
    assert_eq!(names(&graph.finish()), "2 1 last 0");
}
