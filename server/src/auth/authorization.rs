//! Parses the `Authorization` header (RFC 9110, section 11.6.2): the Basic and Bearer schemes.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Base64 with or without padding: some clients leave it out.
const BASE64_PADDING_OPTIONAL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A name and a password that are not yet verified.
pub(super) struct BasicCredentials {
    pub(super) user: String,
    pub(super) password: Box<[u8]>,
}

/// The credentials in a header.
pub(super) enum Authorization<'a> {
    /// A name and a password (RFC 7617).
    Basic(BasicCredentials),
    /// A token (RFC 6750).
    Bearer(&'a str),
}

impl<'a> Authorization<'a> {
    /// Parses the value of a header; `None` if the scheme is unknown or the value is malformed.
    pub(super) fn parse(header: &'a [u8]) -> Option<Self> {
        let (scheme, value) = std::str::from_utf8(header).ok()?.trim().split_once(' ')?;
        let value = value.trim_start();
        if scheme.eq_ignore_ascii_case("basic") {
            let bytes = BASE64_PADDING_OPTIONAL.decode(value).ok()?;
            let colon = bytes.iter().position(|byte| *byte == b':')?;
            Some(Self::Basic(BasicCredentials {
                user: std::str::from_utf8(&bytes[..colon]).ok()?.to_owned(),
                password: bytes[colon + 1..].into(),
            }))
        } else if scheme.eq_ignore_ascii_case("bearer") {
            Some(Self::Bearer(value))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(header: &str) -> Option<(String, String)> {
        match Authorization::parse(header.as_bytes())? {
            Authorization::Basic(BasicCredentials { user, password }) => {
                Some((user, String::from_utf8(password.into()).unwrap()))
            }
            Authorization::Bearer(_) => None,
        }
    }

    #[test]
    fn names_and_passwords() {
        let expected = Some(("alice".to_owned(), "a:b ü".to_owned()));
        for header in [
            "Basic YWxpY2U6YTpiIMO8",
            "basic  YWxpY2U6YTpiIMO8",
            "BASIC YWxpY2U6YTpiIMO8 ",
        ] {
            assert_eq!(login(header), expected, "{header}");
        }
        let empty = Some((String::new(), String::new()));
        assert_eq!(
            (login("Basic Og=="), login("Basic Og")),
            (empty.clone(), empty)
        );
    }

    #[test]
    fn malformed_headers_are_rejected() {
        for bad in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Basic YWxpY2U=",
            "Basic /zpw",
            "Digest x",
        ] {
            assert!(Authorization::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(Authorization::parse(b"Basic \xff").is_none());
        let bearer = Authorization::parse(b"Bearer a.b");
        assert!(matches!(bearer, Some(Authorization::Bearer("a.b"))));
    }
}
