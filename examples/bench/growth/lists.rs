//! Measures lists, pulls and mounts on generated folders. Each function measures one server on one
//! folder, and returns rows of the table.

use std::path::Path;

use imgsync_oci::Digest;
use reqwest::Method;

use super::client::{Pages, TimedClient};
use super::table::{Row, mebibytes, row, seconds};
use super::{Kind, Server};

/// The requested size of a page.
const PAGE: usize = 100;

/// Measures a repository with `count` tags.
pub(super) fn measure_tags(kind: Kind, root: &Path, repository: &str, count: usize) -> Vec<Row> {
    let row = |name: &str, value| row(format!("{count} tags: {name}"), value);
    let Some(server) = kind.start(root) else {
        return Vec::new();
    };
    let client = TimedClient::new(server.address());
    let list = format!("/v2/{repository}/tags/list?n={PAGE}");
    let first = client.get_pages(&list, "tags").expect("a list");
    assert_eq!(first.count, count);
    let pull = format!("/v2/{repository}/manifests/v{}", count / 2);
    let pulled = client.get(&pull);
    assert_eq!(pulled.status, 200);
    let mut rows = vec![
        row("first page of 100", first_page(&first)),
        row("all pages of 100", seconds(first.all)),
        row("pull by tag", seconds(pulled.time)),
        row("peak memory", mebibytes(server.peak_memory())),
    ];
    drop(server);

    let unknown = Digest::of(b"no such manifest");
    let referrers = format!("/v2/{repository}/referrers/{unknown}");
    let server = kind.start(root).expect("a server");
    let times = referrers_times(&server, &referrers);
    rows.push(row("first referrers request", times.0));
    rows.push(row("next referrers request", times.1));
    rows.push(row(
        "peak memory, referrers",
        mebibytes(server.peak_memory()),
    ));
    drop(server);
    let server = kind.start(root).expect("a server");
    let times = referrers_times(&server, &referrers);
    rows.push(row("first referrers request after a restart", times.0));
    rows
}

/// Measures a manifest with `count` referrers.
pub(super) fn measure_referrers(
    kind: Kind,
    root: &Path,
    repository: &str,
    subject: &Digest,
    count: usize,
) -> Vec<Row> {
    let row = |name: &str, value| row(format!("{count} referrers: {name}"), value);
    let list = format!("/v2/{repository}/referrers/{subject}");
    let Some(server) = kind.start(root) else {
        return Vec::new();
    };
    let times = referrers_times(&server, &list);
    if let Some(pages) = TimedClient::new(server.address()).get_pages(&list, "manifests") {
        assert_eq!(pages.count, count);
    }
    let mut rows = vec![
        row("first list", times.0),
        row("next list", times.1),
        row("peak memory", mebibytes(server.peak_memory())),
    ];
    drop(server);
    let server = kind.start(root).expect("a server");
    let times = referrers_times(&server, &list);
    rows.push(row("first list after a restart", times.0));
    rows
}

/// Measures `count` repositories. `only` is a blob that one of them has.
pub(super) fn measure_repositories(
    kind: Kind,
    root: &Path,
    only: &Digest,
    count: usize,
) -> Vec<Row> {
    let row = |name: &str, value| row(format!("{count} repositories: {name}"), value);
    let Some(server) = kind.start(root) else {
        return Vec::new();
    };
    let client = TimedClient::new(server.address());
    let list = format!("/v2/_catalog?n={PAGE}");
    let catalog = client.get_pages(&list, "repositories").expect("a list");
    // The mounts of the server before may have added repositories.
    assert!(catalog.count >= count, "{} of {count}", catalog.count);
    let mount = |repository: &str, digest: &Digest| {
        let target = format!("/v2/{repository}/blobs/uploads/?mount={digest}");
        let answer = client.send(Method::POST, &target);
        match answer.status {
            201 => seconds(answer.time),
            202 => format!("{}, not mounted", seconds(answer.time)),
            status => panic!("{target}: {status}"),
        }
    };
    let unknown = Digest::of(b"no such blob");
    vec![
        row("first page of 100", first_page(&catalog)),
        row("all pages of 100", seconds(catalog.all)),
        row("mount without from", mount("mounted/first", only)),
        row("another mount without from", mount("mounted/second", only)),
        row("mount of an unknown blob", mount("mounted/third", &unknown)),
        row("peak memory", mebibytes(server.peak_memory())),
    ]
}

fn first_page(pages: &Pages) -> String {
    let time = seconds(pages.first);
    if pages.first_count > PAGE {
        return format!("{time}, {} entries", pages.first_count);
    }
    time
}

/// Returns the times of the first and of the second list of referrers; `-` if the server has no such
/// lists.
fn referrers_times(server: &Server, list: &str) -> (String, String) {
    let client = TimedClient::new(server.address());
    let time = || {
        let pages = client.get_pages(list, "manifests");
        pages.map_or_else(|| "-".to_owned(), |pages| seconds(pages.all))
    };
    (time(), time())
}
