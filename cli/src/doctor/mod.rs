//! Examines a registry and what is between it and the user, and says what to change so that a push
//! works. Each check is an observation and a function that judges it.
//!
//! Without [`DoctorSettings::writes`], this module sends no request that could change anything.
//! Start reading at [`examine`].

mod access;
mod certificate;
mod clock;
mod connection;
mod connection_checks;
mod finding;
mod location;
mod name;
mod registry;
mod repository_checks;
mod request_size;
mod resume;
mod scheme;
#[cfg(test)]
mod testing;
mod trial;

use std::sync::Arc;
use std::time::SystemTime;

use imgsync_oci::client::{Client, ProbeResponse};
use imgsync_oci::{Registry, Repository};

use crate::exit::{Failure, FailureKind};
use crate::login::{ConnectionChoice, FoundLogin, RegistryAccess};
use crate::report::Report;
use access::{LoginInUse, LoginObservation};
use registry::RegistryObservation;

pub use finding::{DoctorCheck, Finding, Verdict, exit_code, lines, summary};

/// The registry to examine, and how.
#[derive(Debug, Clone)]
pub struct DoctorSettings {
    /// The registry.
    pub registry: Registry,
    /// The repository whose permissions are checked.
    pub repository: Option<Repository>,
    /// How to connect and log in.
    pub access: RegistryAccess,
    /// Whether something may be uploaded.
    pub writes: bool,
}

/// Called with results as soon as they are known. Several at once have the same text.
pub type ShowFindings<'a> = &'a (dyn Fn(&[Finding]) + Sync);

/// Makes all checks, and returns their results.
///
/// # Errors
/// Fails if the options or the files that they name are invalid. Everything else is a result.
pub async fn examine(
    settings: &DoctorSettings,
    report: &Arc<dyn Report>,
    show: ShowFindings<'_>,
) -> Result<Vec<Finding>, Failure> {
    let mut examination = Examination {
        settings,
        report,
        show,
        findings: Vec::new(),
    };
    if let Some(connected) = examination.examine_connection().await? {
        examination.examine_registry(connected).await?;
    }
    Ok(examination.findings)
}

struct Examination<'a> {
    settings: &'a DoctorSettings,
    report: &'a Arc<dyn Report>,
    show: ShowFindings<'a>,
    findings: Vec<Finding>,
}

/// A server that answers.
struct ConnectedServer {
    /// Its response to a request without login.
    response: ProbeResponse,
    /// When the response arrived.
    responded_at: SystemTime,
    /// How a push connects; `None` if that fails.
    choice: Option<ConnectionChoice>,
}

/// The checks that need a registry.
const REGISTRY_CHECKS: [DoctorCheck; 8] = [
    DoctorCheck::Registry,
    DoctorCheck::Login,
    DoctorCheck::Pull,
    DoctorCheck::Push,
    DoctorCheck::Location,
    DoctorCheck::RequestSize,
    DoctorCheck::Resume,
    DoctorCheck::Clock,
];
/// The checks that need a repository.
const REPOSITORY_CHECKS: [DoctorCheck; 5] = [
    DoctorCheck::Pull,
    DoctorCheck::Push,
    DoctorCheck::Location,
    DoctorCheck::RequestSize,
    DoctorCheck::Resume,
];
/// The checks that need the right to push.
const UPLOAD_CHECKS: &[DoctorCheck] = REPOSITORY_CHECKS.split_at(2).1;

impl Examination<'_> {
    fn add(&mut self, finding: Finding) {
        self.add_all(vec![finding]);
    }

    fn skip(&mut self, checks: &[DoctorCheck], why: &str) {
        let skipped = checks.iter().map(|check| Finding::not_checked(*check, why));
        self.add_all(skipped.collect());
    }

    fn add_all(&mut self, findings: Vec<Finding>) {
        (self.show)(&findings);
        self.findings.extend(findings);
    }

    /// Checks the registry and the login, and then the repository.
    async fn examine_registry(&mut self, connected: ConnectedServer) -> Result<(), Failure> {
        let ConnectedServer {
            response,
            responded_at,
            choice,
        } = connected;
        let registry = &self.settings.registry;
        let is_registry = registry::is_registry(&response);
        let clock = clock::judge(response.date, responded_at);
        let mut observed = RegistryObservation {
            registry,
            response: &response,
            has_extension: None,
        };
        let Some(choice) = choice.filter(|_| is_registry) else {
            self.add(registry::judge(&observed));
            let why = if is_registry {
                "a push does not use this connection"
            } else {
                "there is no registry"
            };
            let later = [&[DoctorCheck::Login][..], &REPOSITORY_CHECKS].concat();
            self.skip(&later, why);
            self.add(clock);
            return Ok(());
        };
        let (client, login, unreadable) = self.log_in(choice).await?;
        let checked = client.check().await;
        observed.has_extension = match &checked {
            Ok(()) => client.has_extension().await.ok(),
            Err(_) => None,
        };
        self.add(registry::judge(&observed));
        let in_use = match &login {
            Some(login) => LoginInUse::Found {
                account: login.credentials.account(),
                place: &login.place,
            },
            None => LoginInUse::Anonymous,
        };
        let finding = match &unreadable {
            Some(failure) => access::judge_unreadable(failure, checked.is_err()),
            None => access::judge_login(&LoginObservation {
                registry,
                base: client.base_url(),
                login: in_use,
                was_asked: client.has_logged_in(),
                result: checked.as_ref().copied(),
            }),
        };
        // Without a login, a repository may still be open to everybody.
        let is_refused = finding.is_fault() && login.is_some();
        self.add(finding);
        match &self.settings.repository {
            _ if is_refused => self.skip(&REPOSITORY_CHECKS, "the login is not accepted"),
            None => {
                let why = format!("name a repository: imgsync doctor {registry}/NAME");
                self.skip(&REPOSITORY_CHECKS, &why);
            }
            Some(repository) => {
                self.examine_repository(&client, repository, in_use).await?;
            }
        }
        self.add(clock);
        Ok(())
    }

    /// Returns the client of a push, its login, and the reason if stored logins cannot be read.
    async fn log_in(
        &self,
        choice: ConnectionChoice,
    ) -> Result<(Client, Option<FoundLogin>, Option<Failure>), Failure> {
        let DoctorSettings {
            registry,
            repository,
            access,
            ..
        } = self.settings;
        let (login, unreadable) = match access.find_login(registry, repository.as_ref()).await {
            Ok(login) => (login, None),
            Err(failure) if failure.kind == FailureKind::Authentication => (None, Some(failure)),
            Err(failure) => return Err(failure),
        };
        let credentials = login.as_ref().map(|login| login.credentials.clone());
        let connect =
            RegistryAccess::connect_chosen(choice, registry, credentials, true, self.report);
        let client = connect.await?;
        // An error is a result here, so it is not waited for until it passes.
        Ok((client.with_max_attempts(2), login, unreadable))
    }
}
