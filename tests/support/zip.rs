//! Writes zip files as build tools do.

use std::io::Write;

use super::layer_pairs::text;

/// How the members of a zip file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZipStyle {
    /// Deflated, with the sizes after each member.
    Streamed,
    /// Deflated, with the sizes before each member.
    Sized,
    /// Not compressed.
    Stored,
}

/// Returns a zip file with `count` members. The new one has new times and one changed member.
pub fn zip(is_new: bool, style: ZipStyle, count: u64) -> Vec<u8> {
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for number in 0..count {
        let seed = if is_new && number == count / 3 {
            u64::MAX
        } else {
            number
        };
        // The member of a folder is empty.
        let is_folder = number % 50 == 10;
        let len = if is_folder {
            0
        } else {
            1_000 + 10 * number as usize
        };
        let content = text(seed, len);
        let body = match style {
            _ if is_folder => Vec::new(),
            ZipStyle::Stored => content.clone(),
            ZipStyle::Streamed | ZipStyle::Sized => deflate(&content),
        };
        let name = format!("com/example/Class{number}.class");
        let mut sizes = Vec::new();
        sizes.extend((number as u32 ^ 0xdead_beef).to_le_bytes());
        sizes.extend((body.len() as u32).to_le_bytes());
        sizes.extend((content.len() as u32).to_le_bytes());
        let is_streamed = style == ZipStyle::Streamed && !is_folder;
        let mut fields = vec![20, 0, if is_streamed { 8 } else { 0 }, 0];
        let is_stored = style == ZipStyle::Stored || is_folder;
        fields.extend([if is_stored { 0 } else { 8 }, 0]);
        let time = if is_new { 0x5a21_7654_u32 } else { 0x5931_0102 };
        fields.extend((time + number as u32 / 7).to_le_bytes());
        let offset = zip.len() as u32;
        zip.extend(b"PK\x03\x04");
        zip.extend(&fields);
        zip.extend(if is_streamed { &[0; 12][..] } else { &sizes });
        zip.extend((name.len() as u16).to_le_bytes());
        zip.extend([0, 0]);
        zip.extend(name.as_bytes());
        zip.extend(body);
        if is_streamed {
            zip.extend(b"PK\x07\x08");
            zip.extend(&sizes);
        }
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&fields);
        directory.extend(&sizes);
        directory.extend((name.len() as u16).to_le_bytes());
        directory.extend([0; 12]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, len) = (zip.len() as u32, directory.len() as u32);
    zip.extend(directory);
    zip.extend(b"PK\x05\x06\0\0\0\0");
    zip.extend((count as u16).to_le_bytes());
    zip.extend((count as u16).to_le_bytes());
    zip.extend(len.to_le_bytes());
    zip.extend(start.to_le_bytes());
    zip.extend([0, 0]);
    zip
}

fn deflate(content: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
    encoder.write_all(content).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}
