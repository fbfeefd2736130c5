//! Runs `imgsync doctor`: examines a registry, and prints a verdict for each check.

use std::sync::Arc;

use crate::args::{DoctorArgs, WithScheme};
use crate::doctor::{self, DoctorSettings, Finding};
use crate::exit::Failure;
use crate::login::RegistryAccess;
use crate::report::Report;
use crate::text::format_json;

/// Prints the verdicts, and returns the exit code.
///
/// # Errors
/// Fails if the options or the files that they name are invalid.
pub(super) async fn doctor(args: DoctorArgs, report: &Arc<dyn Report>) -> Result<u8, Failure> {
    let WithScheme { scheme, name } = args.remote;
    let registry = name.registry;
    let repository = match name.name {
        Some((repository, _)) => {
            let full = registry.full_repository(repository);
            Some(full.map_err(Failure::usage)?)
        }
        None => None,
    };
    if args.write && repository.is_none() {
        let hint = format!("write imgsync doctor {registry}/NAME --write");
        let what = "--write needs a repository to upload to";
        return Err(Failure::usage(what).with_hint(hint));
    }
    let settings = DoctorSettings {
        registry,
        repository,
        access: RegistryAccess::parse(args.access)?.with_scheme(scheme)?,
        writes: args.write,
    };
    let is_json = args.json;
    let show = |findings: &[Finding]| {
        if is_json {
            let events = findings.iter().map(Finding::to_json);
            events.for_each(|event| report.output().print(&format_json(&event)));
        } else {
            report.output().print(&doctor::lines(findings).join("\n"));
        }
    };
    let findings = doctor::examine(&settings, report, &show).await?;
    if !is_json {
        report.output().print(&doctor::summary(&findings));
    }
    Ok(doctor::exit_code(&findings))
}
