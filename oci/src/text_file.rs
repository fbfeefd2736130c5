//! Decodes configuration files as editors write them: UTF-8 with or without a byte order mark, and
//! UTF-16 with one, which PowerShell writes.

/// Returns the content of a text file in UTF-8 and without a byte order mark. A file in another
/// encoding is returned unchanged.
pub fn decode_text_file(bytes: Vec<u8>) -> Vec<u8> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, _) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().copied().map(unit).collect();
        String::from_utf16_lossy(&units).into_bytes()
    };
    match &*bytes {
        [0xef, 0xbb, 0xbf, text @ ..] => text.to_vec(),
        [0xff, 0xfe, text @ ..] => utf16(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => utf16(text, u16::from_be_bytes),
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_with_a_byte_order_mark() {
        let text = "realm: \u{79c1}\u{1f433}\n";
        let utf16 = |swap: fn(u16) -> [u8; 2]| -> Vec<u8> {
            let units = std::iter::once(0xfeff).chain(text.encode_utf16());
            units.flat_map(swap).collect()
        };
        for file in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
        ] {
            assert_eq!(decode_text_file(file), text.as_bytes());
        }
        for other in [&b""[..], b"\xff", b"\xef\xbb", b"\x80x"] {
            assert_eq!(decode_text_file(other.to_vec()), other);
        }
    }
}
