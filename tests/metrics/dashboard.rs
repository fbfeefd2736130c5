//! Prometheus reads the metrics, and the queries of the dashboard and of the alerts find something.

use std::io::Write as _;

use serde_json::Value;

use super::{example, send_requests, start};
use crate::support::prelude::*;
use crate::support::process::Process;

/// Queries that find nothing here, because there is no upstream, no refused login and no collection.
const WITHOUT_DATA: [&str; 5] = [
    "imgsync_collection_last",
    "imgsync_upstream",
    "imgsync_logins_refused",
    "registry_proxy_hits_total",
    "code=~\"4..|5..\"",
];

#[test]
fn the_text_format_is_valid() {
    if !programs_available(&["promtool"]) {
        return;
    }
    let scratch = Scratch::new();
    let (server, debug) = start(&scratch);
    send_requests(server.address());
    let metrics = http::get(debug, "/metrics");
    assert_eq!(metrics.status, 200);
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let checking = promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut checking = checking.spawn().unwrap();
    let mut input = checking.stdin.take().unwrap();
    input.write_all(&metrics.body).unwrap();
    drop(input);
    let output = checking.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_queries_of_the_dashboard_find_something() {
    if !programs_available(&["prometheus", "promtool"]) {
        return;
    }
    must(
        Command::new("promtool")
            .args(["check", "rules"])
            .arg(example("alerts.yml")),
    );
    must(
        Command::new("promtool")
            .args(["check", "config"])
            .arg(example("prometheus.yml")),
    );
    let scratch = Scratch::new();
    let (server, debug) = start(&scratch);
    let prometheus = Prometheus::start(&scratch, debug);
    for query in queries() {
        let is_empty = WITHOUT_DATA.iter().any(|part| query.contains(part));
        // Rates need two measurements with requests between them.
        wait_until(&format!("a result of {query}"), || {
            send_requests(server.address());
            let found = prometheus.query(&query);
            (is_empty || !found.is_empty()).then_some(())
        });
    }
}

/// Returns the queries of all panels, for any server and with a short interval.
fn queries() -> Vec<String> {
    let dashboard = std::fs::read(example("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_slice(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    let queries: Vec<_> = queries
        .map(|query| {
            query
                .replace("$instance", ".*")
                .replace("$__rate_interval", "10s")
        })
        .collect();
    assert!(queries.len() > 20, "{queries:?}");
    queries
}

/// A Prometheus that reads the metrics every second, killed on drop.
struct Prometheus {
    _process: Process,
    address: SocketAddr,
}

impl Prometheus {
    fn start(scratch: &Scratch, debug: SocketAddr) -> Self {
        let config = std::fs::read_to_string(example("prometheus.yml")).unwrap();
        let config = config
            .replace("127.0.0.1:5001\"", &format!("{debug}\""))
            .replace("scrape_interval: 15s", "scrape_interval: 1s")
            .replace("rule_files: [alerts.yml]\n", "");
        assert!(config.contains(&format!("\"{debug}\"")), "{config}");
        let file = scratch.path("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        let data = scratch.path("prometheus");
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg("--web.listen-address=127.0.0.1:0");
        let mut process = Process::start("prometheus", &mut command, scratch.root());
        let address = process.wait_for("the address of Prometheus", |text| {
            let line = text.lines().find(|line| line.contains("Listening on"))?;
            let (_, address) = line.split_once("address=")?;
            address.split(' ').next()?.parse().ok()
        });
        Self {
            _process: process,
            address,
        }
    }

    /// Returns the result of a query.
    fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let response = http::get(self.address, &format!("/api/v1/query?query={encoded}"));
        let answer = response.json();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }
}
