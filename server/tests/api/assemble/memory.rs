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

/// The most headers that a layer can have, none of which compresses, and patch frames as large as they
/// can be.
#[tokio::test]
async fn the_memory_for_a_hostile_base_is_bounded() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let (old, new) = (noisy_layer(false), noisy_layer(true));
    let idle = server.peak_resident_kib();
    let base = server.push_blob("a", &gzip(&old)).await;
    let path = index_path("a", &base);
    // The headers are too large for an index, which is found out when they are all in memory.
    loop {
        let status = server.get(&path).await.status();
        if status == 404 {
            break;
        }
        assert_eq!(status, 202);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let indexed = server.peak_resident_kib();
    let bases = vec![EncodeBase::Decoded(decoded(&old))];
    let mut assembly = Assembly::of(vec![base], bases, &new);
    let frames = assembly.delta.len();
    assert!(frames > 26 << 20 && frames < 28 << 20, "{frames}");
    assembly.upload(&server, "a").await;
    assert_eq!(assembly.post(&server, "a").await.status(), 202);
    assembly.assert_held(&assembly.wait(&server, "a").await);
    let peak = server.peak_resident_kib();
    println!("peaks: {idle} KiB idle, {indexed} KiB with the index, {peak} KiB in all");
    assert!(peak < 150 * 1024, "{idle} {indexed} {peak} KiB");
}

/// Returns a layer with 64,000 headers of random bytes, and a file that changes a little everywhere.
fn noisy_layer(is_new: bool) -> Vec<u8> {
    let mut tar = Vec::new();
    for number in 0..64_000 {
        tar.extend(noisy_header(&bytes::noise(number, 512), 0));
    }
    // Patched against the old bytes, although that does not help.
    let content = bytes::noise(u64::MAX - u64::from(is_new), 26 << 20);
    tar.extend(noisy_header(&bytes::noise(64_000, 512), content.len()));
    tar.extend(content);
    tar
}

/// Returns a header with a valid checksum, and otherwise these bytes.
fn noisy_header(noise: &[u8], size: usize) -> Vec<u8> {
    let mut block = noise.to_vec();
    block[124..148].copy_from_slice(format!("{size:011o}\0{:011o}\0", 1_700_000_000).as_bytes());
    block[148..156].fill(b' ');
    block[156] = b'0';
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
