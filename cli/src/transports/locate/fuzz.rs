//! A fuzz target: image archives.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::LazyLock;

use imgsync_oci::{Algorithm, Digest};

use super::open_files::{read_entries, read_stream};
use super::{SkipLayer, detect_image};
use crate::compress;
use crate::image::{Error, Image, ImageBlobs, ImageContent, Layer, Platforms};
use crate::spool::Spool;
use crate::transports::archive::tar_header::{self, TAR_BLOCK_BYTES, TAR_END};
use crate::transports::archive::tar_reader::entry_key;
use crate::transports::files::{FileContent, SourceFiles};

/// The first line of an input that lists files in place of being an archive.
const LIST_MARK: &[u8] = b"files\n";
/// The line between two files of a list.
const SEPARATOR: &[u8] = b"\n%%\n";
/// The most bytes of a compressed input, because it may be thousands of times larger when it is
/// decompressed.
const MAX_COMPRESSED_BYTES: usize = 1024;

static SPOOL: LazyLock<Spool> = LazyLock::new(Spool::default);

/// An input is an archive, whose checksums are corrected, or a list of files (see [`archive_of`]).
/// An accepted archive is what the `tar` crate reads. An accepted image is complete, and each of
/// its parts has its digest.
pub fn archives(data: &[u8]) {
    let archive = match data.strip_prefix(LIST_MARK) {
        Some(list) => archive_of(list),
        None => with_checksums(data.to_vec()),
    };
    let is_tar = archive.get(257..262) == Some(b"ustar");
    if !is_tar && archive.len() > MAX_COMPRESSED_BYTES {
        return;
    }
    let mut keep_all: SkipLayer = Box::new(|_, _| false);
    let streamed = read_stream(&*archive, "the archive", &SPOOL, &mut keep_all);
    let in_place = open(&archive);
    if let Ok(files) = &in_place {
        check_entries(files, &archive);
    }
    let platforms = Platforms::default();
    let streamed = streamed.and_then(|files| detect_image(&files, &platforms));
    if let Ok((image, blobs)) = &streamed {
        check_image(image, blobs);
    }
    if is_tar {
        // A stream is read to its end, so everything in it is verified.
        let in_place = in_place.and_then(|files| detect_image(&files, &platforms));
        match (&streamed, &in_place) {
            (Ok((streamed, _)), Ok((in_place, _))) => {
                assert_eq!(streamed.content.digests(), in_place.content.digests());
            }
            (Ok(_), Err(error)) => panic!("accepted as a stream only: {error}"),
            (Err(_), _) => {}
        }
    }
}

fn open(archive: &[u8]) -> Result<SourceFiles, Error> {
    let opened = tempfile::tempfile().and_then(|mut file: File| {
        file.write_all(archive)?;
        std::io::Seek::rewind(&mut file)?;
        Ok(file)
    });
    match opened {
        Ok(file) => read_entries(file, archive.len() as u64, "the archive"),
        Err(error) => panic!("no temporary file: {error}"),
    }
}

/// Compares the files with those that the `tar` crate finds.
fn check_entries(files: &SourceFiles, archive: &[u8]) {
    let read = |(name, content): (&str, &FileContent)| match content {
        FileContent::Available(slice) => (name.to_owned(), slice.read_all().ok()),
        FileContent::Skipped { .. } => panic!("{name} was skipped"),
    };
    let mut found: HashMap<String, _> = files.files().map(read).collect();
    let mut other = tar::Archive::new(archive);
    let Ok(entries) = other.entries() else {
        panic!("the tar crate reads no entries");
    };
    for entry in entries {
        let Ok(mut entry) = entry else {
            return;
        };
        match entry.header().entry_type().as_byte() {
            b'0' | b'7' | 0 => {}
            // Go, which Docker is written in, and GNU tar read extension headers with a damaged
            // version field, and so do we. The tar crate takes them for files.
            b'x' | b'g' | b'L' | b'K' => return,
            _ => continue,
        }
        let name = entry.path_bytes();
        if name.ends_with(b"/") {
            continue;
        }
        let Some(key) = entry_key(&name) else {
            panic!("{} is unsafe", name.escape_ascii());
        };
        let mut bytes = Vec::new();
        let content = entry.read_to_end(&mut bytes).ok().map(|_| bytes.into());
        assert_eq!(found.remove(&key), Some(content), "{key}");
    }
    assert!(found.is_empty(), "only we find {:?}", found.keys());
}

fn check_image(image: &Image, blobs: &ImageBlobs) {
    for digest in image.content.digests() {
        let Some(slice) = blobs.get(&digest) else {
            continue;
        };
        let Ok(bytes) = slice.read_all() else {
            panic!("{digest} cannot be read");
        };
        // An uncompressed layer of `docker save` is verified when it is compressed.
        let is_raw = matches!(&image.content, ImageContent::Single(single)
            if single.layers.iter().any(|layer| matches!(layer, Layer::Raw { .. })));
        if !is_raw {
            assert_eq!(Digest::of_with(digest.algorithm(), &bytes), digest);
        }
    }
    let ImageContent::Single(single) = &image.content else {
        return;
    };
    if let Some(config) = &single.config.bytes {
        let digest = &single.config.digest;
        assert_eq!(Digest::of_with(digest.algorithm(), config), *digest);
    }
    for layer in &single.layers {
        let foreign = matches!(layer, Layer::Blob { descriptor, .. } if descriptor.is_foreign());
        let slice = blobs.get(layer.source_digest());
        assert!(foreign || slice.is_some(), "{layer:?} has no bytes");
        if let Some(slice) = slice {
            assert_eq!(layer.size(), Some(slice.len()));
        }
    }
}

/// Corrects the checksums of an archive, so that its headers are read in spite of a change.
fn with_checksums(mut archive: Vec<u8>) -> Vec<u8> {
    let block = TAR_BLOCK_BYTES as usize;
    let mut position = 0;
    while let Some(bytes) = archive.get_mut(position..position + block) {
        if bytes.iter().all(|byte| *byte == 0) {
            break;
        }
        let mut header = tar::Header::from_byte_slice(bytes).clone();
        header.set_cksum();
        bytes.copy_from_slice(header.as_bytes());
        let size = header
            .entry_size()
            .ok()
            .and_then(|size| usize::try_from(size).ok());
        let next = size.and_then(|size| size.checked_next_multiple_of(block));
        match next.and_then(|len| len.checked_add(position + block)) {
            Some(next) => position = next,
            None => break,
        }
    }
    archive
}

/// Builds an archive from a list of files, so that a change of one file does not make the digests
/// of the others wrong. The first line of a file is its name. In the name and in the content, `$1`
/// is the hex digest of the first file, `@1` the digest before compression, and `#1` its size. A
/// content that begins with `gzip:` is compressed.
fn archive_of(list: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut known: Vec<[String; 3]> = Vec::new();
    for file in split(list, SEPARATOR) {
        let end = file.iter().position(|byte| *byte == b'\n');
        let (name, content) = file.split_at(end.unwrap_or(file.len()));
        let content = expand(content.get(1..).unwrap_or_default(), &known);
        let (stored, plain) = match content.strip_prefix(b"gzip:") {
            Some(plain) => (gzip(plain), plain.to_vec()),
            None => (content.clone(), content),
        };
        let hex = |bytes: &[u8]| Digest::of_with(Algorithm::Sha256, bytes).hex().to_owned();
        known.push([hex(&stored), hex(&plain), stored.len().to_string()]);
        let name = expand(name, &known);
        archive.extend(tar_header::file(&String::from_utf8_lossy(&name), &stored));
    }
    archive.extend_from_slice(&TAR_END);
    archive
}

/// Replaces the references to files.
fn expand(text: &[u8], known: &[[String; 3]]) -> Vec<u8> {
    let mut expanded = Vec::new();
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let kind = b"$@#".iter().position(|mark| mark == first);
        let digits = behind
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let number = std::str::from_utf8(&behind[..digits]).unwrap_or_default();
        let file = number
            .parse::<usize>()
            .ok()
            .and_then(|number| known.get(number.checked_sub(1)?));
        match (kind, file) {
            (Some(kind), Some(file)) => {
                expanded.extend_from_slice(file[kind].as_bytes());
                rest = &behind[digits..];
            }
            _ => {
                expanded.push(*first);
                rest = behind;
            }
        }
    }
    expanded
}

fn split<'a>(mut text: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(end) = text
        .windows(separator.len())
        .position(|part| part == separator)
    {
        parts.push(&text[..end]);
        text = &text[end + separator.len()..];
    }
    parts.push(text);
    parts
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    match compress::gzip(bytes, &mut compressed, 1) {
        Ok(_) => compressed,
        Err(error) => panic!("{error}"),
    }
}
