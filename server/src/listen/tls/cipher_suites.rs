//! Cipher suites by the names that the stock registry's configuration has for them: Go's.

use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use super::error::TlsError;

/// Those of `supported` that are named; all where nothing is. As in Go, the suites of TLS 1.3 stay
/// where only those of 1.2 are named.
///
/// # Errors
/// [`Error::NoSuite`] where none of the names is known.
pub(super) fn select_suites(
    names: &[String],
    supported: Vec<SupportedCipherSuite>,
) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    if names.is_empty() {
        return Ok(supported);
    }
    let is_named = |suite: &SupportedCipherSuite| names.iter().any(|name| has_name(suite, name));
    for name in names {
        if !supported.iter().any(|suite| has_name(suite, name)) {
            tracing::warn!("http.tls.ciphersuites: {name} is not supported, and left out");
        }
    }
    if !supported.iter().any(is_named) {
        return Err(TlsError::NoSuite);
    }
    let names_1_3 = supported
        .iter()
        .any(|suite| is_1_3(suite) && is_named(suite));
    let chosen = supported.into_iter().filter(|suite| match is_1_3(suite) {
        true => !names_1_3 || is_named(suite),
        false => is_named(suite),
    });
    Ok(chosen.collect())
}

fn is_1_3(suite: &SupportedCipherSuite) -> bool {
    let version: &SupportedProtocolVersion = suite.version();
    version.version == rustls::ProtocolVersion::TLSv1_3
}

fn has_name(suite: &SupportedCipherSuite, name: &str) -> bool {
    // The library names 1.3's suites for the version; before Go 1.14 two had no hash at their end.
    let own = format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1);
    own == name || (name.ends_with("_POLY1305") && own == format!("{name}_SHA256"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen_of(names: &[&str]) -> Result<Vec<String>, TlsError> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let supported = rustls::crypto::aws_lc_rs::default_provider().cipher_suites;
        let suites = select_suites(&names, supported)?;
        Ok(suites
            .iter()
            .map(|suite| format!("{:?}", suite.suite()))
            .collect())
    }

    #[test]
    fn go_names() {
        assert_eq!(chosen_of(&[]).unwrap().len(), 9);
        // All that Go lists as secure.
        for name in [
            "TLS_AES_128_GCM_SHA256",
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        ] {
            assert!(chosen_of(&[name]).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_named_counts_per_version() {
        let rsa = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384";
        let old = "TLS_RSA_WITH_AES_128_CBC_SHA";
        let suites = chosen_of(&[rsa, old]).unwrap();
        assert_eq!(suites.len(), 4);
        assert!(suites.contains(&rsa.to_owned()));
        let suites = chosen_of(&["TLS_AES_128_GCM_SHA256", rsa]).unwrap();
        assert_eq!(suites, ["TLS13_AES_128_GCM_SHA256", rsa]);
        assert!(matches!(
            chosen_of(&[old, "nonsense"]),
            Err(TlsError::NoSuite)
        ));
    }
}
