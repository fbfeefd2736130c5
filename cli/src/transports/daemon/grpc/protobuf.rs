//! Writes and reads the wire format of protobuf, as far as the services use it: varints and
//! fields with a length.
//!
//! This module knows no message. Start reading at [`FieldReader`].

use bytes::Bytes;

/// The bits of a tag that are the wire type.
const WIRE_TYPE_BITS: u64 = 3;
/// The most bytes of a varint: 64 bits, seven in each byte.
const MAX_VARINT_BYTES: usize = 10;

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const WITH_LENGTH: u64 = 2;
const FIXED_32: u64 = 5;

/// Appends a number, unless it is 0, which is what a missing field means.
pub(in crate::transports::daemon) fn write_number(message: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        write_varint(message, field << WIRE_TYPE_BITS | VARINT);
        write_varint(message, value);
    }
}

/// Appends a string, bytes or a message.
pub(in crate::transports::daemon) fn write_bytes(message: &mut Vec<u8>, field: u64, value: &[u8]) {
    write_varint(message, field << WIRE_TYPE_BITS | WITH_LENGTH);
    write_varint(message, value.len() as u64);
    message.extend_from_slice(value);
}

fn write_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::transports::daemon) enum FieldValue {
    /// A number.
    Number(u64),
    /// A string, bytes or a message.
    Bytes(Bytes),
    /// A number of a fixed size, which no message here has.
    Fixed,
}

/// The message is not in the wire format.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::transports::daemon) struct MalformedMessage;

/// Reads the fields of a message in their order. Values share the memory of the message.
#[derive(Debug)]
pub(in crate::transports::daemon) struct FieldReader(Bytes);

impl FieldReader {
    /// Returns a reader of a whole message.
    pub(in crate::transports::daemon) fn new(message: Bytes) -> Self {
        Self(message)
    }

    /// Returns the number and the value of the next field; `None` at the end.
    ///
    /// # Errors
    /// Returns an error if the message ends in the middle of a field, or has a field of another
    /// type.
    pub(in crate::transports::daemon) fn next(
        &mut self,
    ) -> Result<Option<(u64, FieldValue)>, MalformedMessage> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.read_varint()?;
        let value = match tag & ((1 << WIRE_TYPE_BITS) - 1) {
            VARINT => FieldValue::Number(self.read_varint()?),
            FIXED_64 => self.take(8).map(|_| FieldValue::Fixed)?,
            WITH_LENGTH => {
                let len = self.read_varint()?;
                FieldValue::Bytes(self.take(len)?)
            }
            FIXED_32 => self.take(4).map(|_| FieldValue::Fixed)?,
            _ => return Err(MalformedMessage),
        };
        Ok(Some((tag >> WIRE_TYPE_BITS, value)))
    }

    fn take(&mut self, len: u64) -> Result<Bytes, MalformedMessage> {
        match usize::try_from(len) {
            Ok(len) if len <= self.0.len() => Ok(self.0.split_to(len)),
            _ => Err(MalformedMessage),
        }
    }

    fn read_varint(&mut self) -> Result<u64, MalformedMessage> {
        let mut value = 0;
        for position in 0..MAX_VARINT_BYTES {
            let byte = *self.0.get(position).ok_or(MalformedMessage)?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if position == MAX_VARINT_BYTES - 1 && bits > 1 {
                return Err(MalformedMessage);
            }
            value |= bits << (7 * position);
            if byte < 0x80 {
                let _ = self.0.split_to(position + 1);
                return Ok(value);
            }
        }
        Err(MalformedMessage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(message: &[u8]) -> Result<Vec<(u64, FieldValue)>, MalformedMessage> {
        let mut reader = FieldReader::new(Bytes::copy_from_slice(message));
        let mut fields = Vec::new();
        while let Some(field) = reader.next()? {
            fields.push(field);
        }
        Ok(fields)
    }

    fn bytes(value: &[u8]) -> FieldValue {
        FieldValue::Bytes(Bytes::copy_from_slice(value))
    }

    #[test]
    fn what_is_written_is_read() {
        let mut message = Vec::new();
        write_bytes(&mut message, 1, b"sha256:00");
        write_number(&mut message, 2, 0);
        for value in [1, 127, 128, 300, u64::MAX] {
            write_number(&mut message, 3, value);
        }
        write_bytes(&mut message, 200, &[7; 200]);
        let mut expected = vec![(1, bytes(b"sha256:00"))];
        expected.extend([1, 127, 128, 300, u64::MAX].map(|value| (3, FieldValue::Number(value))));
        expected.push((200, bytes(&[7; 200])));
        assert_eq!(fields(&message).unwrap(), expected);
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let mut message = Vec::new();
        write_number(&mut message, 1, 150);
        write_bytes(&mut message, 2, b"testing");
        assert_eq!(message, b"\x08\x96\x01\x12\x07testing");
    }

    #[test]
    fn fields_of_fixed_size_are_skipped() {
        let read = fields(b"\x09abcdefgh\x15abcd\x08\x05").unwrap();
        assert_eq!(
            read,
            [
                (1, FieldValue::Fixed),
                (2, FieldValue::Fixed),
                (1, FieldValue::Number(5))
            ]
        );
    }

    #[test]
    fn malformed_messages_are_refused() {
        let long = [&[0x08][..], &[0xff; 9], &[0x02]].concat();
        for message in [
            // Truncated: a tag, a number, a length, bytes, a fixed number.
            &b"\x80"[..],
            b"\x08",
            b"\x08\x80",
            b"\x12",
            b"\x12\x05abc",
            b"\x15ab",
            // A length that does not fit into memory.
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            // A number of more than 64 bits, and one that does not end.
            &long,
            &[0xff; 20],
            // Groups, and a wire type that does not exist.
            b"\x0b",
            b"\x0c",
            b"\x0f",
        ] {
            assert_eq!(fields(message), Err(MalformedMessage), "{message:?}");
        }
    }
}
