//! Writes sample images: archives in the format of `docker save`, with four layers. Only the last
//! layer depends on the version.

use std::io::Write;
use std::path::Path;

use imgsync_oci::Digest;
use serde_json::json;

use crate::Error;

const MIB: usize = 1024 * 1024;

/// Writes a version of the sample image to `path`.
pub(crate) fn write(path: &Path, version: u64) -> Result<(), Error> {
    let layers = [
        layer("usr/lib/system", &content(1, 12 * MIB))?,
        layer("usr/lib/runtime", &content(2, 6 * MIB))?,
        layer("app/dependencies", &content(3, 3 * MIB))?,
        layer("app/program", &content(100 + version, MIB))?,
    ];
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let made_by = |instruction: &str| json!({ "created_by": instruction });
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Cmd": ["/app/program"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": [
            made_by("ADD system /usr"),
            made_by("RUN install-runtime"),
            made_by("COPY dependencies /app"),
            made_by("COPY program /app"),
        ],
    })
    .to_string();
    let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let names: Vec<String> = diff_ids
        .iter()
        .map(|id| format!("{}.tar", id.hex()))
        .collect();
    let manifest = json!([{
        "Config": config_name,
        "RepoTags": [format!("quickstart/app:v{version}")],
        "Layers": names,
    }])
    .to_string();

    let mut archive = tar::Builder::new(std::fs::File::create(path)?);
    for (name, bytes) in names.iter().zip(&layers) {
        append(&mut archive, name, bytes)?;
    }
    append(&mut archive, &config_name, config.as_bytes())?;
    append(&mut archive, "manifest.json", manifest.as_bytes())?;
    archive.into_inner()?.flush()?;
    Ok(())
}

/// Returns a layer with one file, as a tar archive.
fn layer(name: &str, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, name, bytes)?;
    Ok(archive.into_inner()?)
}

fn append<W: Write>(archive: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    archive.append_data(&mut header, name, bytes)?;
    Ok(())
}

/// Returns bytes that compress about as well as programs do: random bytes mixed with repeated ones.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 16);
    while bytes.len() < len {
        // xorshift64: a sample needs no library for random numbers.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes()[..6]);
        bytes.extend_from_slice(b"imgsync.");
    }
    bytes.truncate(len);
    bytes
}
