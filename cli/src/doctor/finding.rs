//! The result of a check: a verdict, the observation, and the remedy.
//!
//! This module does no I/O. Start reading at [`Finding`].

use serde_json::{Value, json};

use crate::exit::FailureKind;
use crate::text::sanitize;

/// The checks, in the order in which they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoctorCheck {
    /// The host name has an address.
    Name,
    /// A connection can be opened.
    Connection,
    /// HTTP or HTTPS is spoken, as expected.
    Scheme,
    /// The certificate is valid, and stays so.
    Certificate,
    /// A registry answers.
    Registry,
    /// The login is accepted.
    Login,
    /// The login may pull from the repository.
    Pull,
    /// The login may push to the repository.
    Push,
    /// The URL of an upload session can be used.
    Location,
    /// Large requests are accepted.
    RequestSize,
    /// Broken transfers can be continued.
    Resume,
    /// The clocks of both sides agree.
    Clock,
}

impl DoctorCheck {
    /// Returns the name for the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Connection => "connection",
            Self::Scheme => "scheme",
            Self::Certificate => "certificate",
            Self::Registry => "registry",
            Self::Login => "login",
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Location => "location",
            Self::RequestSize => "request-size",
            Self::Resume => "resume",
            Self::Clock => "clock",
        }
    }

    /// Returns the kind of failure of a push because of a fault in this check.
    fn failure_kind(self) -> FailureKind {
        match self {
            Self::Name | Self::Connection | Self::Scheme | Self::Certificate => {
                FailureKind::Network
            }
            Self::Login | Self::Pull | Self::Push => FailureKind::Authentication,
            Self::Registry | Self::Location | Self::RequestSize | Self::Resume | Self::Clock => {
                FailureKind::Target
            }
        }
    }
}

/// The verdict of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A push works, as far as this check tells.
    Ok,
    /// A push with imgsync works, and something should be mended.
    Warning,
    /// A push fails.
    Fault,
    /// The check was not made.
    NotChecked,
}

impl Verdict {
    /// Returns the words for the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
            Self::NotChecked => "not checked",
        }
    }
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub check: DoctorCheck,
    /// The verdict.
    pub verdict: Verdict,
    /// The observation, or the reason why the check was not made.
    pub what: String,
    /// The remedy, line by line. Lines of a configuration file are lines of their own.
    pub remedy: Vec<String>,
}

impl Finding {
    /// Creates the result of a check without a problem.
    pub(super) fn ok(check: DoctorCheck, what: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, what)
    }

    /// Creates the result of a check that a push with imgsync gets over.
    pub(super) fn warning(check: DoctorCheck, what: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warning, what)
    }

    /// Creates the result of a check because of which a push fails.
    pub(super) fn fault(check: DoctorCheck, what: impl Into<String>) -> Self {
        Self::new(check, Verdict::Fault, what)
    }

    /// Creates the result of a check that was not made.
    pub(super) fn not_checked(check: DoctorCheck, why: impl Into<String>) -> Self {
        Self::new(check, Verdict::NotChecked, why)
    }

    pub(super) fn new(check: DoctorCheck, verdict: Verdict, what: impl Into<String>) -> Self {
        Self {
            check,
            verdict,
            what: what.into(),
            remedy: Vec::new(),
        }
    }

    /// Adds lines to the remedy.
    pub(super) fn with_remedy<T: Into<String>>(
        mut self,
        lines: impl IntoIterator<Item = T>,
    ) -> Self {
        self.remedy.extend(lines.into_iter().map(Into::into));
        self
    }

    /// Returns whether a push fails because of this.
    pub fn is_fault(&self) -> bool {
        self.verdict == Verdict::Fault
    }

    /// Returns the JSON event.
    pub fn to_json(&self) -> Value {
        let remedy: Vec<_> = self.remedy.iter().map(|line| sanitize(line)).collect();
        json!({
            "event": "check",
            "check": self.check.name(),
            "verdict": self.verdict.name(),
            "what": sanitize(&self.what),
            "remedy": remedy,
        })
    }
}

/// Returns the lines for people: one for the verdict, and the indented remedy. Several results have
/// the same text, which is then below the names of the checks.
pub fn lines(findings: &[Finding]) -> Vec<String> {
    let Some(first) = findings.first() else {
        return Vec::new();
    };
    let (verdict, what) = (first.verdict.name(), sanitize(&first.what));
    let indented = |line: &str| format!("    {}", sanitize(line));
    let remedy = first.remedy.iter().map(|line| indented(line));
    if let [finding] = findings {
        let check = finding.check.name();
        let line = format!("{verdict:<11}  {check:<12}  {what}");
        return std::iter::once(line).chain(remedy).collect();
    }
    let checks: Vec<_> = findings.iter().map(|found| found.check.name()).collect();
    let line = format!("{verdict:<11}  {}", checks.join(", "));
    [line, indented(&what)].into_iter().chain(remedy).collect()
}

/// Returns the exit code for all results: that of a push that fails at the first fault, or 0.
pub fn exit_code(findings: &[Finding]) -> u8 {
    let first = findings.iter().find(|finding| finding.is_fault());
    first.map_or(0, |finding| finding.check.failure_kind().exit_code())
}

/// Returns how many results there are of each verdict: `1 fault, 2 warnings, 6 ok, 3 not checked`.
pub fn summary(findings: &[Finding]) -> String {
    let count = |verdict| {
        let same = findings.iter().filter(|finding| finding.verdict == verdict);
        same.count()
    };
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let (faults, warnings) = (count(Verdict::Fault), count(Verdict::Warning));
    format!(
        "{faults} fault{}, {warnings} warning{}, {} ok, {} not checked",
        plural(faults),
        plural(warnings),
        count(Verdict::Ok),
        count(Verdict::NotChecked)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_is_safe_and_aligned() {
        let finding =
            Finding::fault(DoctorCheck::Scheme, "a\x1b[2J").with_remedy(["first", "second\nline"]);
        assert_eq!(
            lines(std::slice::from_ref(&finding)),
            [
                "fault        scheme        a\u{fffd}[2J",
                "    first",
                "    second line"
            ]
        );
        let skipped = [DoctorCheck::Pull, DoctorCheck::RequestSize]
            .map(|check| Finding::not_checked(check, "no login"));
        assert_eq!(
            lines(&skipped),
            ["not checked  pull, request-size", "    no login"]
        );
        let event = finding.to_json().to_string();
        assert_eq!(
            event,
            "{\"event\":\"check\",\"check\":\"scheme\",\"verdict\":\"fault\",\"what\":\"a\u{fffd}[2J\",\
             \"remedy\":[\"first\",\"second line\"]}"
        );
    }

    #[test]
    fn the_first_fault_determines_the_exit_code() {
        let warning = Finding::warning(DoctorCheck::Name, "");
        let login = Finding::fault(DoctorCheck::Login, "");
        let location = Finding::fault(DoctorCheck::Location, "");
        assert_eq!(exit_code(&[]), 0);
        assert_eq!(exit_code(std::slice::from_ref(&warning)), 0);
        let findings = [warning, login, location];
        assert_eq!(exit_code(&findings), 5);
        assert_eq!(exit_code(&findings[2..]), 4);
        assert_eq!(
            summary(&findings),
            "2 faults, 1 warning, 0 ok, 0 not checked"
        );
    }
}
