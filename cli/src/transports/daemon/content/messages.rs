//! The messages of containerd's content service (`containerd.services.content.v1`), as far as
//! reading needs them.

use bytes::Bytes;
use imgsync_oci::Digest;

use crate::transports::daemon::grpc::{
    FieldReader, FieldValue, MalformedMessage, write_bytes, write_number,
};

/// The label with the diffID of a compressed layer, which the engine computed when it unpacked the
/// layer.
const DIFF_ID_LABEL: &[u8] = b"containerd.io/uncompressed";

/// A blob in the content store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContentInfo {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// The diffID of a compressed layer, as the engine computed it.
    pub(super) diff_id: Option<Digest>,
}

/// A part of a blob.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReadResponse {
    pub(super) offset: u64,
    pub(super) data: Bytes,
}

/// Returns the request for those of the blobs that the store has.
pub(super) fn list_request<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> Vec<u8> {
    let mut message = Vec::new();
    for digest in digests {
        write_bytes(&mut message, 1, format!("digest=={digest}").as_bytes());
    }
    message
}

/// Returns the request for the bytes of a blob from `offset` to its end.
pub(super) fn read_request(digest: &Digest, offset: u64) -> Vec<u8> {
    let mut message = Vec::new();
    write_bytes(&mut message, 1, digest.to_string().as_bytes());
    write_number(&mut message, 2, offset);
    message
}

/// Parses one message of the response to a list request. Blobs without a valid digest are left out.
///
/// # Errors
/// Returns an error if the message is not in the wire format.
pub(super) fn parse_list_response(message: Bytes) -> Result<Vec<ContentInfo>, MalformedMessage> {
    let mut infos = Vec::new();
    let mut fields = FieldReader::new(message);
    while let Some(field) = fields.next()? {
        if let (1, FieldValue::Bytes(info)) = field {
            infos.extend(parse_info(info)?);
        }
    }
    Ok(infos)
}

fn parse_info(message: Bytes) -> Result<Option<ContentInfo>, MalformedMessage> {
    let (mut digest, mut size, mut diff_id) = (None, 0, None);
    let mut fields = FieldReader::new(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, FieldValue::Bytes(text)) => digest = parse_digest(&text),
            (2, FieldValue::Number(number)) => size = number,
            (5, FieldValue::Bytes(label)) => diff_id = diff_id.or(parse_diff_id(label)?),
            _ => {}
        }
    }
    Ok(digest.map(|digest| ContentInfo {
        digest,
        size,
        diff_id,
    }))
}

/// Returns the diffID, if the entry of the label map is the one with the diffID.
fn parse_diff_id(entry: Bytes) -> Result<Option<Digest>, MalformedMessage> {
    let (mut key, mut value) = (Bytes::new(), Bytes::new());
    let mut fields = FieldReader::new(entry);
    while let Some(field) = fields.next()? {
        match field {
            (1, FieldValue::Bytes(text)) => key = text,
            (2, FieldValue::Bytes(text)) => value = text,
            _ => {}
        }
    }
    Ok(parse_digest(&value).filter(|_| key == DIFF_ID_LABEL))
}

fn parse_digest(text: &[u8]) -> Option<Digest> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Parses one message of the response to a read request.
///
/// # Errors
/// Returns an error if the message is not in the wire format.
pub(super) fn parse_read_response(message: Bytes) -> Result<ReadResponse, MalformedMessage> {
    let mut response = ReadResponse {
        offset: 0,
        data: Bytes::new(),
    };
    let mut fields = FieldReader::new(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, FieldValue::Number(offset)) => response.offset = offset,
            (2, FieldValue::Bytes(data)) => response.data = data,
            _ => {}
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(key: &str, value: &str) -> Vec<u8> {
        let mut entry = Vec::new();
        write_bytes(&mut entry, 1, key.as_bytes());
        write_bytes(&mut entry, 2, value.as_bytes());
        entry
    }

    fn info(digest: &str, size: u64, labels: &[Vec<u8>]) -> Vec<u8> {
        let mut info = Vec::new();
        write_bytes(&mut info, 1, digest.as_bytes());
        write_number(&mut info, 2, size);
        // The times, which are not used.
        write_bytes(&mut info, 3, b"\x08\x01");
        labels
            .iter()
            .for_each(|label| write_bytes(&mut info, 5, label));
        info
    }

    #[test]
    fn a_list_has_sizes_and_diff_ids() {
        let (blob, diff_id) = (Digest::of(b"blob"), Digest::of(b"tar"));
        let labels = [
            label(
                "containerd.io/gc.ref.content.0",
                &Digest::of(b"x").to_string(),
            ),
            label("containerd.io/uncompressed", &diff_id.to_string()),
        ];
        let mut response = Vec::new();
        write_bytes(&mut response, 1, &info(&blob.to_string(), 7, &labels));
        write_bytes(&mut response, 1, &info("no digest", 7, &[]));
        write_bytes(
            &mut response,
            1,
            &info(&diff_id.to_string(), 0, &labels[..1]),
        );
        let expected = |digest: &Digest, size, diff_id| ContentInfo {
            digest: digest.clone(),
            size,
            diff_id,
        };
        assert_eq!(
            parse_list_response(response.into()).unwrap(),
            [
                expected(&blob, 7, Some(diff_id.clone())),
                expected(&diff_id, 0, None)
            ]
        );
    }

    #[test]
    fn an_offset_of_zero_is_absent() {
        assert_eq!(
            parse_read_response(Bytes::from_static(b"\x12\x02ab")).unwrap(),
            ReadResponse {
                offset: 0,
                data: Bytes::from_static(b"ab"),
            }
        );
        let later = parse_read_response(Bytes::from_static(b"\x08\x96\x01\x12\x01a")).unwrap();
        assert_eq!(later.offset, 150);
    }

    #[test]
    fn damage_inside_a_nested_message_is_refused() {
        let mut response = Vec::new();
        write_bytes(&mut response, 1, b"\x0a\x50short");
        assert_eq!(parse_list_response(response.into()), Err(MalformedMessage));
        let mut nested = Vec::new();
        write_bytes(&mut nested, 1, &info("x", 1, &[b"\x0a\x50short".to_vec()]));
        assert_eq!(parse_list_response(nested.into()), Err(MalformedMessage));
    }
}
