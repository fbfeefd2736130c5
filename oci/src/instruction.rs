//! The instruction of a Dockerfile, from what builders write into the history of a config.
//!
//! BuildKit, Docker's older builder and buildah write it in several ways. Start reading at
//! [`dockerfile_instruction`].

use std::borrow::Cow;

const SHELL: &str = "/bin/sh -c ";

/// Returns an instruction as a Dockerfile has it: `RUN make` instead of `/bin/sh -c make`. `created_by`
/// is the field of that name in the history of a config (OCI image-spec, "history").
pub fn dockerfile_instruction(created_by: &str) -> Cow<'_, str> {
    let text = created_by.trim();
    let text = text.strip_suffix("# buildkit").unwrap_or(text).trim_end();
    // Docker's older builder.
    let older = text.strip_prefix(SHELL);
    if let Some(instruction) = older.and_then(|rest| rest.trim_start().strip_prefix("#(nop)")) {
        return Cow::Borrowed(instruction.trim());
    }
    // The arguments of a build come before the shell: `|1 VERSION=2 /bin/sh -c make`.
    let command = older.or_else(|| {
        let (before, command) = text.split_once(SHELL)?;
        let before = before.strip_prefix("RUN ").unwrap_or(before);
        (before.is_empty() || before.starts_with('|')).then_some(command)
    });
    command.map_or(Cow::Borrowed(text), |command| {
        Cow::Owned(format!("RUN {}", command.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_of_every_builder_are_read() {
        for (created_by, expected) in [
            ("COPY app /app # buildkit", "COPY app /app"),
            ("RUN /bin/sh -c make all # buildkit", "RUN make all"),
            ("RUN |1 VERSION=2 /bin/sh -c make # buildkit", "RUN make"),
            ("/bin/sh -c #(nop)  CMD [\"sh\"]", "CMD [\"sh\"]"),
            ("/bin/sh -c apt-get update", "RUN apt-get update"),
            ("|1 VERSION=2 /bin/sh -c make", "RUN make"),
            ("COPY /bin/sh -c /x", "COPY /bin/sh -c /x"),
            ("", ""),
        ] {
            assert_eq!(dockerfile_instruction(created_by), expected, "{created_by}");
        }
    }
}
