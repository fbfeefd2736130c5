//! Runs the growth benchmark of `examples/bench` with tiny sizes.

#[allow(dead_code, reason = "only the part without the command line is used")]
#[path = "../../../examples/bench/growth/main.rs"]
mod benchmark;

#[test]
fn the_growth_benchmark_measures_every_row() {
    let words = "tags=3,101 repositories=3 referrers=5 blobs=50 pushes=5 pushbytes=100000 patches=6 \
                 patchbytes=300000 settle=0";
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let mut rows = Vec::new();
    benchmark::print_table(&words, |row| rows.push(row.to_owned()));
    let cells = |row: &String| row.trim_matches('|').split('|').count();
    assert!(rows.iter().all(|row| cells(row) == 3), "{rows:#?}");
    let has = |name: &str| rows.iter().any(|row| row.starts_with(&format!("| {name}")));
    for name in [
        "3 tags: all pages",
        "101 tags: first referrers request",
        "3 repositories: mount without from",
        "5 referrers: first list",
        "50 blobs: collection without a server",
        "1 pushes",
        "5 pushes",
        "6 PATCHes of 0.286 MiB at a time: memory",
    ] {
        assert!(has(name), "{name}: {rows:#?}");
    }
}
