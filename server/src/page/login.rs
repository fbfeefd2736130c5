//! The form to log in.

use maud::html;

use super::layout::Frame;

/// The form to log in.
#[derive(Debug)]
pub(crate) struct LoginView {
    /// The page to show after the login.
    pub(crate) next: String,
    pub(crate) problem: Option<LoginProblem>,
}

/// Why a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginProblem {
    Wrong,
    Busy,
}

impl LoginView {
    /// Renders the form.
    pub(crate) fn render(&self, frame: &Frame) -> String {
        let texts = frame.texts();
        let problem = self.problem.map(|problem| match problem {
            LoginProblem::Wrong => texts.login_wrong,
            LoginProblem::Busy => texts.login_busy,
        });
        let view = html! {
            form.login method="post" action="login" {
                h1 { (texts.log_in) }
                p.lead { (texts.login_needed) }
                @if let Some(problem) = problem {
                    div.notice.bad #problem role="alert" { (problem) }
                }
                input type="hidden" name="next" value=(self.next);
                label for="user" { (texts.user) }
                input #user name="user" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus
                    aria-describedby=[problem.map(|_| "problem")];
                label for="password" { (texts.password) }
                input #password name="password" type="password" autocomplete="current-password" required
                    aria-describedby=[problem.map(|_| "problem")];
                button.primary type="submit" { (texts.log_in) }
            }
        };
        frame.page(texts.log_in, None, &view)
    }
}
