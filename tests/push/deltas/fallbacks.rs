//! Tests when layers are sent whole.

use super::{DeltaFixture, small_pair};
use crate::support::Trigger;
use crate::support::prelude::*;

/// Returns the archives of an image before and after its layer was built again.
fn archives(fixture: &DeltaFixture) -> [PathBuf; 2] {
    let pair = small_pair();
    [
        fixture.archive("old", &[&pair.old]),
        fixture.archive("new", &[&pair.new]),
    ]
}

#[test]
fn layers_are_sent_whole_if_the_user_or_the_rate_asks_for_it() {
    let fixture = DeltaFixture::new();
    let [old, new] = archives(&fixture);
    fixture.push(&["--no-delta"], &old, "app:v1");
    assert!(fixture.spooled().is_empty());
    let pushed = fixture.push(&["--no-delta"], &new, "app:v2");
    assert!(pushed.deltas().is_empty() && pushed.sent() > 1_000_000);
    fixture.check_image("app:v2", &new);
    let requests = fixture.relay.requests();
    let asked = requests
        .iter()
        .find(|request| request.target.contains("_oci/ext"));
    assert!(asked.is_none(), "{asked:?}");
}

#[test]
fn fast_connections_and_servers_without_deltas_get_whole_layers() {
    let fixture = DeltaFixture::new();
    let pair = small_pair();
    let base = layer("base", noise(1, 12_000_000));
    let old = fixture.archive("old", &[&base, &pair.old]);
    let new = fixture.archive("new", &[&base, &pair.new]);
    let push = |image: &Path, tag: &str| {
        let mut command = DeltaFixture::command(&fixture.home);
        command.args(["push", "--verbose"]).arg(image);
        run(command.arg(fixture.remote(tag))).succeeded()
    };
    push(&old, "app:v1");
    record_fast_connection(&fixture.home);
    let whole = "no deltas are made, because the connection is fast";
    let mut command = DeltaFixture::command(&fixture.home);
    command.args(["push", "--dry-run"]).arg(&new);
    let plan = run(command.arg(fixture.remote("app:v2"))).succeeded();
    assert!(plan.stdout.contains(whole), "{plan}");
    let fast = push(&new, "app:v2");
    assert!(fast.stderr.contains(whole), "{fast}");

    let config = fixture.scratch.path("config.yml");
    let root = fixture.scratch.folder("other root");
    let text = format!(
        "version: 0.1\nhttp: {{addr: '127.0.0.1:0'}}\nstorage: {{filesystem: {{rootdirectory: \
         {root:?}}}}}\nimgsync: {{delta: {{enabled: false}}}}\n"
    );
    std::fs::write(&config, text).expect("a configuration file");
    let disabled = Server::start_configured(&config, &root);
    fixture.relay.forward_to(disabled.address());
    fixture.push(&[], &old, "app:v1");
    let pushed = fixture.push(&[], &new, "app:v2");
    assert!(pushed.deltas().is_empty(), "{}", pushed.outcome);
    check::at_registry(disabled.address(), "app:v2");
}

/// Replaces the rate that a push has recorded, which depends on the machine, by a fast one.
fn record_fast_connection(home: &Path) {
    let hosts = home.join("cache/imgsync/hosts");
    let files: Vec<_> = std::fs::read_dir(&hosts).expect("records").collect();
    let [Ok(file)] = &files[..] else {
        panic!("one registry: {files:?}");
    };
    let text = std::fs::read_to_string(file.path()).expect("a record");
    let mut record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let rate = &mut record["sent"]["value"];
    assert!(rate.as_u64() > Some(0), "{text}");
    *rate = 50_000_000.into();
    std::fs::write(file.path(), record.to_string()).expect("the record");
}

#[test]
fn the_registry_of_others_is_asked_for_nothing_new() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let fixture = DeltaFixture::new();
    let stock = StockRegistry::start(&fixture.scratch.folder("stock"));
    fixture.relay.forward_to(stock.address());
    let [old, new] = archives(&fixture);
    fixture.push(&[], &old, "app:v1");
    let pushed = fixture.push(&[], &new, "app:v2");
    assert!(pushed.deltas().is_empty() && pushed.sent() > 1_000_000);
    check::at_registry(stock.address(), "app:v2");
    let requests = fixture.relay.requests();
    let asked = requests
        .iter()
        .find(|request| request.target.contains("_oci/ext") || request.target.contains("/index"));
    assert!(asked.is_none(), "{asked:?}");
    assert!(fixture.spooled().is_empty(), "nothing is kept for others");
}

/// The blob that the delta is based on is deleted while the delta is sent.
#[test]
fn a_base_that_vanishes_costs_only_the_delta() {
    let fixture = DeltaFixture::new();
    let [old, new] = archives(&fixture);
    fixture.push(&[], &old, "app:v1");
    let server = fixture.server.address();
    let stored = check::at_registry(server, "app:v1");
    let base = stored.blobs.last().expect("a layer").0.clone();
    // The index was sent, and nothing of the delta.
    fixture.relay.run_at(
        Trigger::BytesReceived(fixture.relay.traffic().down + 5_000),
        move || {
            let target = format!("/v2/app/blobs/{base}");
            let deleted = http::send(server, "DELETE", &target, &[], b"");
            assert_eq!(deleted.status, 202, "{}", deleted.text());
        },
    );
    let other = fixture.scratch.folder("other");
    let pushed = fixture.push_as(&other, &[], &new, "app:v2");
    assert!(pushed.deltas().is_empty(), "{}", pushed.outcome);
    assert!(
        pushed.has_note("the layer is sent whole"),
        "{}",
        pushed.outcome
    );
    fixture.check_image("app:v2", &new);
}
