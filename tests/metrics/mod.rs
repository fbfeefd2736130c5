//! Tests the metrics of the server with Prometheus, and beside those of the stock registry.

mod dashboard;
mod stock_names;

use crate::support::prelude::*;

/// Returns the path of a file of the example.
fn example(name: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    top.join("examples/monitoring").join(name)
}

/// Starts a server with metrics, and returns it with its debug address.
fn start(scratch: &Scratch) -> (Server, SocketAddr) {
    let root = scratch.folder("root");
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: '127.0.0.1:0', debug: {{addr: '127.0.0.1:0', prometheus: {{enabled: true}}}}}}\n"
    );
    std::fs::write(scratch.path("config.yml"), config).unwrap();
    let server = Server::start_configured(&scratch.path("config.yml"), &root);
    let log = server.log();
    let (_, rest) = log.split_once("health check at http://").unwrap();
    let (address, _) = rest.split_once("/debug/health").unwrap();
    let address = address.parse().unwrap();
    (server, address)
}

/// Sends one request of each kind that both registries count.
fn send_requests(address: SocketAddr) {
    let image = Image::new(vec![layer("hello", b"world".to_vec())]);
    let repository = crate::support::seed::RemoteRepository {
        address,
        repository: "team/app",
    };
    repository.push_image(Some("v1"), &image);
    let blob = digest(&image.compressed()[0]);
    for target in [
        "/v2/",
        "/v2/_catalog",
        "/v2/team/app/tags/list",
        "/v2/team/app/manifests/v1",
        "/v2/team/app/manifests/none",
        &format!("/v2/team/app/blobs/{blob}"),
    ] {
        http::get(address, target);
    }
}

/// Returns the names and labels of all time series, without their values.
fn series(metrics: &str) -> BTreeSet<String> {
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let names = lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()));
    names.collect()
}
