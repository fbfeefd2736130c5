//! The address of a listening socket: `host:port`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use imgsync_oci::ParseError;

/// A host name or IP address, and a port. Port 0 means any free port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The host; an IPv6 address without brackets. Empty means all addresses of the machine.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Returns whether only clients on this machine can connect.
    pub fn is_loopback(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for HostPort {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let invalid = || ParseError::new("address (HOST:PORT, for example 127.0.0.1:5000)", text);
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = match port {
            "http" => 80,
            "https" => 443,
            _ if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().map_err(|_| invalid())?
            }
            _ => return Err(invalid()),
        };
        let host = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(host) => host,
            None if host.contains([':', '/', ' ']) => return Err(invalid()),
            None => host,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_printed() {
        for (text, host, is_loopback) in [
            ("127.0.0.1:5000", "127.0.0.1", true),
            ("[::1]:0", "::1", true),
            ("localhost:5000", "localhost", true),
            ("0.0.0.0:5000", "0.0.0.0", false),
            (":5000", "", false),
            ("[::]:5000", "::", false),
            ("registry.example.com:443", "registry.example.com", false),
        ] {
            let address: HostPort = text.parse().unwrap();
            assert_eq!(
                (address.host.as_str(), address.is_loopback()),
                (host, is_loopback)
            );
            assert_eq!(address.to_string(), text);
        }
        assert_eq!(":https".parse::<HostPort>().unwrap().port, 443);
        for bad in [
            "",
            "5000",
            "host",
            "host:",
            "host:+1",
            "host:65536",
            "::1:5000",
            "http://host:5000",
        ] {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
    }
}
