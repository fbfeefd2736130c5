//! Pulls an image and verifies it: the digest of every blob, and the diffID of every layer.

use std::io::Read;

use futures::StreamExt;
use imgsync_oci::client::{Client, UrlScheme};
use imgsync_oci::{Descriptor, Digest, Hasher, Manifest, Reference, Registry, Repository};

use crate::Error;

/// Pulls an image, verifies it, and returns a description of it.
pub(crate) fn pull_and_verify(
    registry: &str,
    repository: &str,
    tag: &str,
) -> Result<String, Error> {
    let registry: Registry = registry.parse()?;
    let repository: Repository = repository.parse()?;
    let reference: Reference = tag.parse()?;
    let client = Client::new(&registry, UrlScheme::Http)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let manifest = client.fetch_manifest(&repository, &reference).await?;
        let manifest = manifest.ok_or("the registry does not have the manifest")?;
        let (_, parsed) = Manifest::parse(&manifest.bytes, manifest.media_type.as_deref())?;
        let Manifest::Image { config, layers, .. } = parsed else {
            return Err("not a single image".into());
        };
        let config = fetch(&client, &repository, &config).await?;
        let config: serde_json::Value = serde_json::from_slice(&config)?;
        let mut bytes = 0;
        for (position, layer) in layers.iter().enumerate() {
            let blob = fetch(&client, &repository, layer).await?;
            bytes += blob.len();
            let expected = &config["rootfs"]["diff_ids"][position];
            let diff_id = compute_diff_id(&blob)?;
            if expected.as_str() != Some(&diff_id.to_string()) {
                return Err(format!("layer {position} is {diff_id}, not {expected}").into());
            }
        }
        let layers = layers.len();
        Ok(format!(
            "{layers} layers with {bytes} bytes, all digests and diffIDs are correct"
        ))
    })
}

async fn fetch(
    client: &Client,
    repository: &Repository,
    blob: &Descriptor,
) -> Result<Vec<u8>, Error> {
    let pieces = client.blob(repository, &blob.digest, 0).await?;
    let mut pieces =
        Box::pin(pieces.ok_or_else(|| format!("the registry does not have {}", blob.digest))?);
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece?);
    }
    if Digest::of(&bytes) != blob.digest || bytes.len() as u64 != blob.size {
        return Err(format!("the registry sent other content for {}", blob.digest).into());
    }
    Ok(bytes)
}

fn compute_diff_id(blob: &[u8]) -> Result<Digest, Error> {
    let mut hasher = Hasher::new(imgsync_oci::Algorithm::Sha256);
    let mut reader = flate2::read::MultiGzDecoder::new(blob);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}
