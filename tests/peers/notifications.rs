//! Compares the events of the server with those of a stock registry for the same operations.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::fake::{FakeServer, Request, status};
use crate::support::prelude::*;

/// Returns the lines with the receiver of events in a configuration file.
fn endpoint(receiver: &FakeServer) -> String {
    format!(
        "notifications:\n  endpoints:\n    - name: test\n      url: http://{}/events\n      \
         headers: {{Authorization: [Bearer x]}}\n",
        receiver.address()
    )
}

fn event(request: &Request) -> Value {
    let mut envelope: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(request.authorization(), "Bearer x");
    assert_eq!(envelope["events"].as_array().unwrap().len(), 1);
    envelope["events"][0].take()
}

/// Returns an event as lines of names and values, without what differs from run to run.
fn comparable(event: &Value, address: SocketAddr) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = vec![(String::new(), event)];
    while let Some((path, value)) = rest.pop() {
        if let Value::Object(object) = value {
            rest.extend(
                object
                    .iter()
                    .map(|(key, value)| (format!("{path}.{key}"), value)),
            );
            continue;
        }
        let text = value.to_string().replace(&address.to_string(), "ADDRESS");
        let varies = [
            ".id",
            ".timestamp",
            ".request.id",
            ".request.addr",
            ".source.addr",
        ];
        let varies = varies.contains(&path.as_str()) || path == ".source.instanceID";
        fields.insert(path, if varies { "…".to_owned() } else { text });
    }
    fields
}

/// Pushes an image, mounts a blob, pulls and deletes, with the same requests at any registry.
fn operate(address: SocketAddr) {
    let url = |path: &str| format!("http://{address}{path}");
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--fail",
            "--noproxy",
            "*",
            "-A",
            "test/1",
            "-D",
            "-",
            "-o",
        ]);
        must(command.arg("/dev/null").args(arguments))
    };
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    let (content_type, accept) = (
        format!("content-type: {media_type}"),
        format!("accept: {media_type}"),
    );
    let blob = "{}";
    let blob_digest = digest(blob.as_bytes());
    let head = curl(&["-X", "POST", &url("/v2/team/app/blobs/uploads/")]);
    let location = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("location")
            .then(|| value.trim().to_owned())
    });
    let location = location.unwrap();
    let location = if location.starts_with('/') {
        url(&location)
    } else {
        location
    };
    let separator = if location.contains('?') { '&' } else { '?' };
    let binary = "content-type: application/octet-stream";
    let finish = format!("{location}{separator}digest={blob_digest}");
    curl(&["-X", "PUT", "-H", binary, "--data-binary", blob, &finish]);
    let mount = format!("/v2/other/blobs/uploads/?mount={blob_digest}&from=team/app");
    curl(&["-X", "POST", &url(&mount)]);
    let descriptor = |media_type: &str| serde_json::json!({"mediaType": media_type, "size": blob.len(), "digest": blob_digest});
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor("application/vnd.docker.container.image.v1+json"),
        "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip")],
    })
    .to_string();
    let manifest_digest = digest(manifest.as_bytes());
    let by_digest = url(&format!("/v2/team/app/manifests/{manifest_digest}"));
    let tagged = url("/v2/team/app/manifests/v1");
    let blob_url = url(&format!("/v2/team/app/blobs/{blob_digest}"));
    for target in [&tagged, &by_digest] {
        curl(&[
            "-X",
            "PUT",
            "-H",
            &content_type,
            "--data-binary",
            &manifest,
            target,
        ]);
    }
    curl(&["-H", &accept, &tagged]);
    curl(&["-I", "-H", &accept, &tagged]);
    let known = format!("if-none-match: \"{manifest_digest}\"");
    curl(&["-H", &accept, "-H", &known, &tagged]);
    curl(&["-H", &accept, &by_digest]);
    curl(&[&blob_url]);
    curl(&["-I", &blob_url]);
    curl(&["-r", "0-0", &blob_url]);
    let known = format!("if-none-match: \"{blob_digest}\"");
    curl(&["-H", &known, &blob_url]);
    curl(&["-X", "DELETE", &by_digest]);
    curl(&["-X", "DELETE", &blob_url]);
}

#[test]
fn events_have_the_fields_and_the_order_of_a_stock_registry() {
    if !programs_available(&["docker-registry", "curl"]) {
        return;
    }
    let scratch = Scratch::new();
    let receivers = [(), ()].map(|()| FakeServer::start(|_| status(200)));
    let stock_root = scratch.folder("stock");
    let delete = ", delete: {enabled: true}";
    let stock = StockRegistry::start_configured(&stock_root, delete, "", &endpoint(&receivers[0]));
    let root = scratch.folder("root");
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}{delete}}}\n\
         http: {{addr: '127.0.0.1:0'}}\n{}",
        endpoint(&receivers[1])
    );
    std::fs::write(scratch.path("config.yml"), config).unwrap();
    let server = Server::start_configured(&scratch.path("config.yml"), &root);
    let addresses = [stock.address(), server.address()];
    addresses.into_iter().for_each(operate);
    let is_last = |request: &Request| {
        let event = event(request);
        let target = event["target"]["digest"] == digest(b"{}").as_str();
        event["action"] == "delete" && target
    };
    let [expected, found] = [0, 1].map(|index| {
        let receiver = &receivers[index];
        wait_until("all events arrive", || {
            receiver.requests().iter().any(is_last).then_some(())
        });
        let requests = receiver.requests();
        let events = requests.iter().map(event);
        let events = events.map(|event| comparable(&event, addresses[index]));
        events.collect::<Vec<_>>()
    });
    assert_eq!(found.len(), 14);
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "event {index}");
    }
    assert_eq!(found.len(), expected.len());
}
