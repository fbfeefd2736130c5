//! Makes the checks of a repository: the permissions, and uploads.

use imgsync_oci::Repository;
use imgsync_oci::client::Client;

use super::access::{self, LoginInUse};
use super::finding::{DoctorCheck, Finding};
use super::location::{self, LocationObservation};
use super::{Examination, UPLOAD_CHECKS, request_size, resume, trial};
use crate::exit::{Failure, FailureKind};

impl Examination<'_> {
    /// Checks the permissions, and how uploads work.
    pub(super) async fn examine_repository(
        &mut self,
        client: &Client,
        repository: &Repository,
        login: LoginInUse<'_>,
    ) -> Result<(), Failure> {
        let registry = &self.settings.registry;
        let tags = client.for_reading().list_tags(repository, None).await;
        let exists = tags.as_ref().map(Option::is_some);
        self.add(access::judge_pull(repository, login, exists));
        let permitted = client.check_push(repository).await;
        let push = access::judge_push(registry, repository, login, permitted.as_ref().copied());
        if push.is_fault() {
            self.add(push);
            self.skip(UPLOAD_CHECKS, "pushes are not accepted");
            return Ok(());
        }
        let announced = request_size::announce(client, repository).await;
        if !self.settings.writes {
            self.add(push);
            let why = "needs an upload: pass --write";
            self.skip(&[DoctorCheck::Location], why);
            self.add(match &announced {
                Ok(announced) => request_size::judge(registry, announced, None),
                Err(error) => Finding::not_checked(DoctorCheck::RequestSize, error.to_string()),
            });
            self.skip(&[DoctorCheck::Resume], why);
            return Ok(());
        }
        let announced = announced.unwrap_or_default();
        self.try_uploads(client, repository, login, &announced)
            .await
    }

    /// Uploads something, and judges what that has shown.
    async fn try_uploads(
        &mut self,
        client: &Client,
        repository: &Repository,
        login: LoginInUse<'_>,
        announced: &request_size::AnnouncedSizes,
    ) -> Result<(), Failure> {
        let registry = &self.settings.registry;
        let blob = trial::random_blob().ok_or_else(|| {
            Failure::new(FailureKind::Source, "this machine has no random numbers")
        })?;
        let refused = announced.refused.as_ref().map(|(size, _)| *size);
        let trial = trial::run(client, repository, &blob, refused).await;
        let opened = trial.as_ref().map(|_| ());
        self.add(access::judge_push(registry, repository, login, opened));
        let Ok(trial) = trial else {
            self.skip(UPLOAD_CHECKS, "the registry opens no upload session");
            return Ok(());
        };
        self.add(location::judge(&LocationObservation {
            base: client.base_url(),
            stated: &trial.stated_location,
            upload: trial.resume.upload(),
        }));
        self.add(request_size::judge(
            registry,
            announced,
            trial.sizes.as_ref(),
        ));
        self.add(resume::judge(&trial.resume));
        for leftover in &trial.leftovers {
            self.report.note(leftover);
        }
        Ok(())
    }
}
