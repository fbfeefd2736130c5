//! The memory of the server while it assembles a large layer.

use super::*;

/// The memory does not grow with the layer. `IMGSYNC_TESTS_ASSEMBLY_MB` sets the size of the layer.
#[tokio::test]
async fn the_memory_of_an_assembly_is_bounded() {
    let megabytes = std::env::var("IMGSYNC_TESTS_ASSEMBLY_MB").ok();
    let megabytes = megabytes.map_or(100, |count| count.parse().unwrap());
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let (old, new) = (layer(false, megabytes), layer(true, megabytes));
    let base = server.push_blob("a", &gzip(&old)).await;
    let bases = vec![EncodeBase::Index(index(&server, "a", &base).await)];
    let mut assembly = Assembly::of(vec![base], bases, &new);
    assembly.upload(&server, "a").await;
    assert_eq!(assembly.post(&server, "a").await.status(), 202);
    assembly.assert_held(&assembly.wait(&server, "a").await);
    let peak = server.peak_resident_kib();
    println!("{megabytes} MB: a peak of {peak} KiB");
    assert!(peak < 150 * 1024, "{peak} KiB");
}

/// Returns a layer of many files, of which the new one has another.
fn layer(is_new: bool, megabytes: u64) -> Vec<u8> {
    let mut tar = layer_pairs::TarWriter::new(is_new);
    for number in 0..megabytes * 50 {
        let is_changed = is_new && number == 7;
        let content = bytes::noise(if is_changed { u64::MAX } else { number }, 20_000);
        tar.file(&format!("usr/lib/package/file{number}"), &content);
    }
    tar.finish()
}
