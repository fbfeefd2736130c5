//! The section `http.tls`.

use super::super::reader::ConfigReader;
use super::super::scalars::parse_path;
use super::super::tree::ValueOrigin;
use super::super::types::{TlsConfig, TlsVersion};

/// Builds the TLS settings; `Some(None)` when the section sets nothing.
pub(super) fn build_tls(reader: &mut ConfigReader<'_>) -> Option<Option<TlsConfig>> {
    let certificate = reader.optional("http.tls.certificate", parse_path);
    let key = reader.optional("http.tls.key", parse_path);
    let min_version = reader.optional("http.tls.minimumtls", parse_tls_version);
    let cipher_suites = reader.list("http.tls.ciphersuites", &[], |text| Ok(text.to_owned()));
    let (min_version, cipher_suites) = (min_version?, cipher_suites?);
    if let Some(origin) = reader.origin("http.tls.minimumtls")
        && min_version.is_some_and(|(_, is_replacement)| is_replacement)
    {
        let text = "not supported: TLS 1.2 is the oldest supported version and is used instead";
        reader
            .diagnostics
            .warning(&origin, "http.tls.minimumtls", text);
    }
    let missing_key = match (certificate?, key?) {
        (Some(certificate), Some(key)) => {
            return Some(Some(TlsConfig {
                certificate,
                key,
                min_version: min_version.map_or(TlsVersion::V1_2, |(version, _)| version),
                cipher_suites,
            }));
        }
        (None, None) if min_version.is_none() && cipher_suites.is_empty() => return Some(None),
        (Some(_), None) => "http.tls.key",
        (None, _) => "http.tls.certificate",
    };
    let origin = reader.origin("http.tls").unwrap_or(ValueOrigin::Default);
    let text = "must be set when another key of http.tls is set";
    reader.diagnostics.error(&origin, missing_key, text);
    None
}

/// Parses a TLS version. The flag is true when it replaces an older, unsupported version.
fn parse_tls_version(text: &str) -> Result<(TlsVersion, bool), String> {
    match text {
        "tls1.0" | "tls1.1" => Ok((TlsVersion::V1_2, true)),
        "tls1.2" => Ok((TlsVersion::V1_2, false)),
        "tls1.3" => Ok((TlsVersion::V1_3, false)),
        _ => Err(format!("must be tls1.2 or tls1.3, not {text:?}")),
    }
}
