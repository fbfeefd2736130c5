//! Accepts the certificate of a server that is marked as a CA's (`CA:TRUE`) and is signed by a CA
//! that the user names. Private CAs often sign such certificates: `openssl x509 -extensions v3_ca`
//! makes them. Docker and curl accept them; the TLS library of this client does not.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::der::{BIT_STRING, SEQUENCE, read_value};

/// Returns whether one of these CAs has signed a certificate. The caller checks its dates and its
/// host name.
pub(super) fn is_signed_by(
    certificate: &CertificateDer<'_>,
    authorities: &[CertificateDer<'_>],
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else {
        return false;
    };
    let Some(signed) = SignedPart::parse(certificate) else {
        return false;
    };
    let has_signed = |authority: &EndEntityCert<'_>| {
        let mut supported = algorithms.all.iter();
        authority.subject() == parsed.issuer()
            && supported.any(|algorithm| {
                algorithm.signature_alg_id().as_ref() == signed.algorithm
                    && authority
                        .verify_signature(*algorithm, signed.content, signed.signature)
                        .is_ok()
            })
    };
    let mut authorities = authorities
        .iter()
        .filter_map(|authority| EndEntityCert::try_from(authority).ok());
    authorities.any(|authority| has_signed(&authority))
}

/// The parts of a certificate that are needed to verify its signature (RFC 5280, section 4.1).
struct SignedPart<'a> {
    /// The signed bytes.
    content: &'a [u8],
    /// The content of the `AlgorithmIdentifier`.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> SignedPart<'a> {
    fn parse(certificate: &'a [u8]) -> Option<Self> {
        let (certificate, []) = read_value(certificate, SEQUENCE)? else {
            return None;
        };
        let (content, rest) = read_value(certificate.content, SEQUENCE)?;
        let (algorithm, rest) = read_value(rest, SEQUENCE)?;
        let (bits, []) = read_value(rest, BIT_STRING)? else {
            return None;
        };
        // The first byte is the number of unused bits.
        let (0, signature) = bits
            .content
            .split_first()
            .map(|(unused, bits)| (*unused, bits))?
        else {
            return None;
        };
        Some(Self {
            content: content.whole,
            algorithm: algorithm.content,
            signature,
        })
    }
}
