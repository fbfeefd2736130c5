//! The statements of a certificate: its names, its issuer and its dates (RFC 5280, section 4.1).
//!
//! This module verifies nothing; it is for messages. Start reading at [`CertificateInfo::parse`].

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::der::{
    DerValue, GENERALIZED_TIME, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, UTC_TIME, read_any,
    read_value, values,
};

/// The most names of a certificate that are read.
const MAX_NAMES: usize = 100;
/// The context-specific tags of the fields of a certificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// The tags of names in `subjectAltName` (RFC 5280, section 4.2.1.6).
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
/// Object identifiers: `subjectAltName`, and the attributes of a name from the most specific one.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const NAME_ATTRIBUTES: [&[u8]; 3] = [
    &[0x55, 0x04, 0x03], // commonName
    &[0x55, 0x04, 0x0b], // organizationalUnitName
    &[0x55, 0x04, 0x0a], // organizationName
];

/// The fields of a certificate that explain why it is accepted or not. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The name of the owner: the common name, or else that of the organization.
    pub subject: String,
    /// The name of the CA that signed the certificate.
    pub issuer: String,
    /// Whether the certificate names itself as its CA.
    pub is_self_signed: bool,
    /// The start of the validity.
    pub not_before: SystemTime,
    /// The end of the validity.
    pub not_after: SystemTime,
    /// The host names and addresses for which the certificate is valid.
    pub names: Vec<String>,
}

impl CertificateInfo {
    /// Reads a certificate in DER; `None` if it is malformed.
    pub fn parse(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = read_value(certificate, SEQUENCE)?;
        let (signed, _) = read_value(certificate.content, SEQUENCE)?;
        let mut fields = values(signed.content)
            .filter(|field| field.tag != VERSION)
            // The serial number and the algorithm.
            .skip(2);
        let issuer = fields.next()?;
        let validity = fields.next()?;
        let subject = fields.next()?;
        let mut times = values(validity.content);
        let extensions = fields.find(|field| field.tag == EXTENSIONS);
        Some(Self {
            subject: name_text(subject.content),
            issuer: name_text(issuer.content),
            is_self_signed: subject.content == issuer.content,
            not_before: parse_time(times.next()?)?,
            not_after: parse_time(times.next()?)?,
            names: extensions.map_or_else(Vec::new, |extensions| alt_names(extensions.content)),
        })
    }
}

/// A fuzz target: the certificate of a server. The dates and names that are read come from it, and
/// bytes behind it change nothing.
#[cfg(any(test, fuzzing))]
pub fn fuzz_certificates(data: &[u8]) {
    let Some(info) = CertificateInfo::parse(data) else {
        return;
    };
    assert!(info.names.len() <= MAX_NAMES);
    // Each invalid byte becomes a character of three bytes.
    let len: usize = info.names.iter().map(String::len).sum();
    assert!(len <= data.len() * 3, "{len} bytes of names");
    assert!(info.subject.len().max(info.issuer.len()) <= data.len() * 3);
    assert_eq!(
        CertificateInfo::parse(&[data, b"more"].concat()),
        Some(info)
    );
}

/// Returns the most specific attribute of a name.
fn name_text(name: &[u8]) -> String {
    let attributes: Vec<_> = values(name)
        .filter(|set| set.tag == SET)
        .flat_map(|set| values(set.content))
        .filter_map(|attribute| {
            let (kind, rest) = read_value(attribute.content, OBJECT_IDENTIFIER)?;
            Some((kind.content, read_any(rest)?.0.content))
        })
        .collect();
    let of_kind = |kind: &&[u8]| attributes.iter().find(|(found, _)| found == kind);
    let found = NAME_ATTRIBUTES.iter().find_map(of_kind);
    found.map_or_else(
        || "(no name)".to_owned(),
        |(_, text)| String::from_utf8_lossy(text).into_owned(),
    )
}

/// Returns the names in `subjectAltName`, of the field with the extensions.
fn alt_names(extensions: &[u8]) -> Vec<String> {
    let Some((extensions, _)) = read_value(extensions, SEQUENCE) else {
        return Vec::new();
    };
    let names = values(extensions.content).find_map(|extension| {
        let (kind, _) = read_value(extension.content, OBJECT_IDENTIFIER)?;
        let mut parts = values(extension.content).filter(|part| part.tag == OCTET_STRING);
        let content = parts.next().filter(|_| kind.content == SUBJECT_ALT_NAME)?;
        Some(read_value(content.content, SEQUENCE)?.0.content)
    });
    let names = values(names.unwrap_or_default()).filter_map(|name| match name.tag {
        DNS_NAME => Some(String::from_utf8_lossy(name.content).into_owned()),
        IP_ADDRESS => ip_address(name.content),
        _ => None,
    });
    names.take(MAX_NAMES).collect()
}

fn ip_address(bytes: &[u8]) -> Option<String> {
    let address = match *bytes {
        [a, b, c, d] => IpAddr::from([a, b, c, d]),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(address.to_string())
}

/// Reads a time in UTC: `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280, section 4.1.2.5).
fn parse_time(value: DerValue<'_>) -> Option<SystemTime> {
    let text = std::str::from_utf8(value.content).ok()?.strip_suffix('Z')?;
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let year_digits = match (value.tag, text.len()) {
        (UTC_TIME, 12) => 2,
        (GENERALIZED_TIME, 14) => 4,
        _ => return None,
    };
    let (year, rest) = text.split_at_checked(year_digits).filter(|_| is_digits)?;
    let year: i64 = year.parse().ok()?;
    let year = match value.tag {
        UTC_TIME if year < 50 => year + 2000,
        UTC_TIME => year + 1900,
        _ => year,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let days = days_since_1970(year, two(0)?, two(2)?);
    let seconds = days * 86_400 + two(4)? * 3600 + two(6)? * 60 + two(8)?;
    let epoch = SystemTime::UNIX_EPOCH;
    match u64::try_from(seconds) {
        Ok(seconds) => epoch.checked_add(Duration::from_secs(seconds)),
        Err(_) => epoch.checked_sub(Duration::from_secs(seconds.unsigned_abs())),
    }
}

/// Returns the number of days of a date in the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    /// Created by `openssl req -x509 -newkey ec -subj "/O=Example/CN=Registry" -addext
    /// subjectAltName=DNS:registry.example.com,DNS:*.example.org,IP:192.0.2.7,IP:2001:db8::1`.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIB6DCCAY+gAwIBAgIUTbwnjIntQIfTzwztTnvMEVVARIYwCgYIKoZIzj0EAwIw\n\
        JTEQMA4GA1UECgwHRXhhbXBsZTERMA8GA1UEAwwIUmVnaXN0cnkwHhcNMjYxMTMw\n\
        MjAwMjIyWhcNMjYxMjEwMjAwMjIyWjAlMRAwDgYDVQQKDAdFeGFtcGxlMREwDwYD\n\
        VQQDDAhSZWdpc3RyeTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAk8Xfqq95hQ\n\
        p1k7Mu6E8c7tVj7cfG57+9gsnLxSqQrJ/9Ib7s1Q9qImpBfp47gHwZbpaXkBQm43\n\
        4vB3qGto85ujgZwwgZkwHQYDVR0OBBYEFIyWOYZneDlTVYJGlwSNbLg6u8bMMB8G\n\
        A1UdIwQYMBaAFIyWOYZneDlTVYJGlwSNbLg6u8bMMA8GA1UdEwEB/wQFMAMBAf8w\n\
        RgYDVR0RBD8wPYIUcmVnaXN0cnkuZXhhbXBsZS5jb22CDSouZXhhbXBsZS5vcmeH\n\
        BMAAAgeHECABDbgAAAAAAAAAAAAAAAEwCgYIKoZIzj0EAwIDRwAwRAIgK2yaQuBh\n\
        j2LS8yPoD3LRqHYM+r5Ntvw0BBgXS4W869YCICL3hJvtsyMJuAAUMw6auqL/sIjd\n\
        uD8xEXT7cYH2UNyb\n\
        -----END CERTIFICATE-----";

    fn time(tag: u8, text: &str) -> Option<u64> {
        let content = text.as_bytes();
        let value = DerValue {
            tag,
            whole: content,
            content,
        };
        let time = parse_time(value)?.duration_since(SystemTime::UNIX_EPOCH);
        Some(time.ok()?.as_secs())
    }

    #[test]
    fn times_in_both_forms() {
        assert_eq!(time(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, "240229123456Z"), Some(1_709_210_096));
        assert_eq!(
            time(GENERALIZED_TIME, "20240229123456Z"),
            Some(1_709_210_096)
        );
        assert_eq!(
            time(GENERALIZED_TIME, "20500101000000Z"),
            Some(2_524_608_000)
        );
        for (tag, bad) in [
            (UTC_TIME, "240229123456"),
            (UTC_TIME, "2402291234Z"),
            (UTC_TIME, "20240229123456Z"),
            (GENERALIZED_TIME, "2024022912345xZ"),
            (SEQUENCE, "240229123456Z"),
        ] {
            assert_eq!(time(tag, bad), None, "{bad}");
        }
    }

    #[test]
    fn the_fields_of_a_certificate() {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let info = CertificateInfo::parse(&certificate).unwrap();
        assert_eq!((&*info.subject, &*info.issuer), ("Registry", "Registry"));
        assert!(info.is_self_signed);
        let names = [
            "registry.example.com",
            "*.example.org",
            "192.0.2.7",
            "2001:db8::1",
        ];
        assert_eq!(info.names, names);
        let lifetime = info.not_after.duration_since(info.not_before).unwrap();
        assert_eq!(lifetime, Duration::from_secs(10 * 86_400));
    }

    #[test]
    fn damaged_certificates_are_no_certificates() {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        for len in 0..certificate.len() {
            assert_eq!(CertificateInfo::parse(&certificate[..len]), None);
        }
        for at in 0..certificate.len() {
            let mut damaged = certificate.to_vec();
            damaged[at] ^= 0xff;
            // Only that it returns.
            let _ = CertificateInfo::parse(&damaged);
        }
    }
}
