//! Makes the checks from the host name to the certificate.

use std::time::SystemTime;

use imgsync_oci::client::{ChainRecorder, Client, Error, ProbeResponse, UrlScheme};

use super::certificate::{self, CertificateObservation};
use super::connection::{self, ConnectionObservation};
use super::finding::{DoctorCheck, Finding};
use super::name::{self, NameObservation};
use super::scheme::{self, SchemeObservation};
use super::{ConnectedServer, DoctorSettings, Examination, REGISTRY_CHECKS};
use crate::exit::Failure;
use crate::login::ConnectionChoice;

impl Examination<'_> {
    /// Checks everything up to the certificate; `None` if no server answers.
    pub(super) async fn examine_connection(&mut self) -> Result<Option<ConnectedServer>, Failure> {
        let DoctorSettings {
            registry, access, ..
        } = self.settings;
        let choice = access.choose_connection(registry, self.report).await?;
        let recorder = ChainRecorder::default();
        // Certificates are verified here even if a push does not, to tell what would be found.
        let tls = choice.tls.clone().with_recorder(&recorder);
        let client = Client::with_tls(registry, choice.scheme, &tls)?;
        let host = client.base_url().host_str().unwrap_or_default();
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = client
            .base_url()
            .port_or_known_default()
            .unwrap_or_default();
        let proxy = client.proxy();
        let addresses = name::resolve(&host).await;
        self.add(name::judge(&NameObservation {
            host: &host,
            proxy: proxy.as_deref(),
            addresses: &addresses,
        }));
        let later = [
            &[DoctorCheck::Scheme, DoctorCheck::Certificate][..],
            &REGISTRY_CHECKS,
        ]
        .concat();
        if addresses.is_err() && proxy.is_none() {
            let all = [&[DoctorCheck::Connection][..], &later].concat();
            self.skip(&all, "the host has no address");
            return Ok(None);
        }
        let response = client.probe().await;
        let unreachable = response
            .as_ref()
            .err()
            .filter(|error| connection::is_unreachable(error));
        let is_open_directly = unreachable.is_some()
            && proxy.is_some()
            && connection::is_open_directly(&host, port).await;
        self.add(connection::judge(&ConnectionObservation {
            host: &host,
            port,
            proxy: proxy.as_deref(),
            error: response.as_ref().err(),
            is_open_directly,
        }));
        if unreachable.is_some() {
            self.skip(&later, "there is no connection");
            return Ok(None);
        }
        self.examine_scheme(choice, &recorder, response).await
    }

    /// Checks the scheme and the certificate; `None` if there is no response at all.
    async fn examine_scheme(
        &mut self,
        choice: ConnectionChoice,
        recorder: &ChainRecorder,
        response: Result<ProbeResponse, Error>,
    ) -> Result<Option<ConnectedServer>, Failure> {
        let registry = &self.settings.registry;
        let mut other = None;
        if scheme::suggests_other(choice.scheme, response.as_ref()) {
            other = self
                .probe_unverified(&choice, other_scheme(choice.scheme))
                .await?;
        }
        let observed = SchemeObservation {
            registry,
            scheme: choice.scheme,
            reason: choice.reason,
            response: response.as_ref(),
            speaks_other: other.is_some(),
        };
        let mut is_usable = scheme::is_usable(&observed);
        self.add(scheme::judge(&observed));
        let spoken = match &other {
            Some(_) => other_scheme(choice.scheme),
            None => choice.scheme,
        };
        let error = response.as_ref().err();
        if spoken == UrlScheme::Http {
            self.skip(&[DoctorCheck::Certificate], "plain HTTP has no certificate");
        } else if choice.scheme == UrlScheme::Http {
            self.skip(&[DoctorCheck::Certificate], "plain HTTP was expected");
        } else {
            let finding = certificate::judge(&CertificateObservation {
                registry,
                chain: &recorder.chain(),
                error,
                verifies: choice.reason.verifies(),
                now: SystemTime::now(),
            });
            is_usable &= !finding.is_fault();
            self.add(finding);
        }
        let response = match (response, other) {
            (_, Some(other)) => other,
            (Ok(response), None) => response,
            // A registry behind a certificate that is not accepted can be asked without a login.
            (Err(error), None) => match self.probe_unverified(&choice, choice.scheme).await? {
                Some(response) => response,
                None => {
                    let remedy = ["see the log of the registry, or of the proxy in front of it"];
                    let finding = Finding::fault(DoctorCheck::Registry, error.to_string());
                    self.add(finding.with_remedy(remedy));
                    self.skip(&REGISTRY_CHECKS[1..], "there is no response");
                    return Ok(None);
                }
            },
        };
        Ok(Some(ConnectedServer {
            response,
            responded_at: SystemTime::now(),
            choice: is_usable.then_some(choice),
        }))
    }

    /// Sends a request without login and without verification; `None` if there is no response.
    async fn probe_unverified(
        &self,
        choice: &ConnectionChoice,
        scheme: UrlScheme,
    ) -> Result<Option<ProbeResponse>, Failure> {
        let tls = choice.tls.clone().without_verification();
        let client = Client::with_tls(&self.settings.registry, scheme, &tls)?;
        Ok(client.probe().await.ok())
    }
}

fn other_scheme(scheme: UrlScheme) -> UrlScheme {
    match scheme {
        UrlScheme::Http => UrlScheme::Https,
        UrlScheme::Https => UrlScheme::Http,
    }
}
