//! Parses extended headers: records `<length> <key>=<value>\n`, whose length includes itself
//! (POSIX.1-2008, pax, "pax Extended Header").

use super::ExtendedHeader;

/// Parses the name, link and size of an entry.
///
/// # Errors
/// Returns a message if a record is invalid, or if the file is sparse, because its bytes are not
/// those of a layer.
pub(super) fn read(mut records: &[u8], extension: &mut ExtendedHeader) -> Result<(), String> {
    while !records.is_empty() {
        let (key, value, rest) = record(records).ok_or("a broken extended header")?;
        match key {
            b"path" => extension.name = Some(value.to_vec()),
            b"linkpath" => extension.link = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value)
                    .ok()
                    .and_then(|size| size.parse().ok());
                extension.size = Some(size.ok_or("a broken size in an extended header")?);
            }
            key if key.starts_with(b"GNU.sparse.") => return Err("a sparse file".to_owned()),
            _ => {}
        }
        records = rest;
    }
    Ok(())
}

fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|byte| *byte == b' ')?;
    let len: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let (record, rest) = records.split_at_checked(len)?;
    let pair = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    Some((&pair[..equals], &pair[equals + 1..], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_by_their_length() {
        let mut extension = ExtendedHeader::default();
        // A value may contain newlines, so only the length determines its end.
        let records = b"22 comment=two\nlines!\n16 path=a/b/c/d\n12 size=123\n";
        read(records, &mut extension).unwrap();
        assert_eq!(extension.name.as_deref(), Some(&b"a/b/c/d"[..]));
        assert_eq!(extension.size, Some(123));
    }

    #[test]
    fn broken_records_are_refused() {
        for records in [
            &b"x"[..],
            b"99 path=a\n",
            b"0 path=a\n",
            b"3 path=a\n",
            b"10 path=aa",
            b"9 path a\n",
            b"13 size=-123\n",
            b"25 GNU.sparse.major=1234\n",
        ] {
            assert!(
                read(records, &mut ExtendedHeader::default()).is_err(),
                "{records:?}"
            );
        }
    }
}
