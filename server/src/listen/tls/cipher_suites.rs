//! Selects cipher suites by Go's names, which the stock registry's configuration uses.

use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use super::error::TlsError;

/// Returns the suites of `supported` that `names` lists; all of them when `names` is empty. As in
/// Go, all suites of TLS 1.3 stay when only suites of TLS 1.2 are listed.
///
/// # Errors
/// [`TlsError::NoSuite`] when none of the names is supported.
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
            tracing::warn!("http.tls.ciphersuites: {name} is not supported, ignored");
        }
    }
    if !supported.iter().any(is_named) {
        return Err(TlsError::NoSuite);
    }
    let names_1_3 = supported
        .iter()
        .any(|suite| is_1_3(suite) && is_named(suite));
    let selected = supported
        .into_iter()
        .filter(|suite| is_named(suite) || (is_1_3(suite) && !names_1_3));
    Ok(selected.collect())
}

fn is_1_3(suite: &SupportedCipherSuite) -> bool {
    let version: &SupportedProtocolVersion = suite.version();
    version.version == rustls::ProtocolVersion::TLSv1_3
}

fn has_name(suite: &SupportedCipherSuite, name: &str) -> bool {
    // rustls prefixes the suites of TLS 1.3 with the version, and before Go 1.14 two names lacked
    // the hash.
    let go_name = format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1);
    go_name == name || (name.ends_with("_POLY1305") && go_name == format!("{name}_SHA256"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected_names(names: &[&str]) -> Result<Vec<String>, TlsError> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let supported = rustls::crypto::aws_lc_rs::default_provider().cipher_suites;
        let suites = select_suites(&names, supported)?;
        Ok(suites
            .iter()
            .map(|suite| format!("{:?}", suite.suite()))
            .collect())
    }

    #[test]
    fn every_secure_suite_of_go_is_supported() {
        assert_eq!(selected_names(&[]).unwrap().len(), 9);
        // Every suite that Go lists as secure.
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
            assert!(selected_names(&[name]).is_ok(), "{name}");
        }
    }

    #[test]
    fn names_select_suites_per_tls_version() {
        let rsa = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384";
        let old = "TLS_RSA_WITH_AES_128_CBC_SHA";
        let suites = selected_names(&[rsa, old]).unwrap();
        assert_eq!(suites.len(), 4);
        assert!(suites.contains(&rsa.to_owned()));
        let suites = selected_names(&["TLS_AES_128_GCM_SHA256", rsa]).unwrap();
        assert_eq!(suites, ["TLS13_AES_128_GCM_SHA256", rsa]);
        assert!(matches!(
            selected_names(&[old, "nonsense"]),
            Err(TlsError::NoSuite)
        ));
    }
}
