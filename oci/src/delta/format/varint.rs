//! Unsigned integers of variable length (LEB128): seven bits in each byte, the lowest first, and the
//! highest bit set in all bytes but the last one.

use crate::delta::DeltaError;

/// Appends a number.
pub(in crate::delta) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Removes a number from the front of `bytes`.
pub(in crate::delta) fn take(bytes: &mut &[u8]) -> Result<u64, DeltaError> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if at == 9 && bits > 1 {
            break;
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Ok(value);
        }
    }
    Err(DeltaError::Invalid(
        "a number is cut short or has more than 64 bits".to_owned(),
    ))
}

/// Maps 0, -1, 1, -2, … to 0, 1, 2, 3, …
pub(in crate::delta) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Reverts [`zigzag`].
pub(in crate::delta) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_round_trip() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX / 2, u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let mut rest = &*bytes;
            assert_eq!(take(&mut rest).unwrap(), value);
            assert!(rest.is_empty());
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!([zigzag(0), zigzag(-1), zigzag(1)], [0, 1, 2]);
    }

    #[test]
    fn numbers_without_end_and_beyond_64_bits_are_errors() {
        for mut bytes in [&[][..], &[0x80], &[0xff; 9], &[0xff; 11]] {
            assert!(take(&mut bytes).is_err());
        }
        let mut too_large = [0xff; 10];
        too_large[9] = 2;
        assert!(take(&mut &too_large[..]).is_err());
    }
}
