//! The instructions of a Dockerfile that made the layers of an image, as its config tells.
//!
//! Start reading at [`layer_instructions`].

use imgsync_oci::dockerfile_instruction;
use serde::Deserialize;

/// The longest instruction in characters. Longer ones are cut.
const MAX_INSTRUCTION_CHARS: usize = 24;

#[derive(Deserialize)]
struct InstructionHistory {
    #[serde(default)]
    history: Vec<InstructionEntry>,
}

#[derive(Deserialize)]
struct InstructionEntry {
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    empty_layer: bool,
}

/// Returns for each of `layers` layers, lowest first, the start of the instruction that made it
/// (OCI image-spec, "history"), or nothing if the config does not say so.
pub(crate) fn layer_instructions(config: &[u8], layers: usize) -> Vec<String> {
    let whole = whole_instructions(config, layers).into_iter();
    whole.map(|created_by| shorten(&created_by)).collect()
}

/// Returns the instructions as [`layer_instructions`] does, but whole and as the builder wrote them.
pub(crate) fn whole_instructions(config: &[u8], layers: usize) -> Vec<String> {
    let parsed: Result<InstructionHistory, _> = serde_json::from_slice(config);
    let history = parsed.map(|config| config.history).unwrap_or_default();
    let made = history.into_iter().filter(|entry| !entry.empty_layer);
    let made: Vec<_> = made.map(|entry| entry.created_by).collect();
    if made.len() == layers {
        made
    } else {
        Vec::new()
    }
}

/// Returns the start of an instruction: `COPY app /app`, `RUN apt-get install..`.
fn shorten(created_by: &str) -> String {
    let text = dockerfile_instruction(created_by);
    let mut words: Vec<&str> = text.split_whitespace().collect();
    // The older builder names the digest of the copied files: `COPY file:8b41… in /app`.
    if let [_, from, "in", ..] = &*words
        && ["file:", "dir:", "multi:"]
            .iter()
            .any(|kind| from.starts_with(kind))
    {
        words.drain(1..3);
    }
    cut(&words.join(" "))
}

fn cut(text: &str) -> String {
    if text.chars().count() <= MAX_INSTRUCTION_CHARS {
        return text.to_owned();
    }
    let start: String = text.chars().take(MAX_INSTRUCTION_CHARS - 2).collect();
    format!("{}..", start.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_of_every_builder_are_read() {
        let cases = [
            // BuildKit.
            ("COPY app /app # buildkit", "COPY app /app"),
            ("RUN /bin/sh -c make all # buildkit", "RUN make all"),
            ("RUN |1 VERSION=2 /bin/sh -c make # buildkit", "RUN make"),
            ("WORKDIR /srv", "WORKDIR /srv"),
            // Docker's older builder and buildah.
            ("/bin/sh -c #(nop) COPY file:8b41fe in /app ", "COPY /app"),
            ("/bin/sh -c #(nop) ADD multi:8b41fe in / ", "ADD /"),
            ("/bin/sh -c #(nop)  WORKDIR /srv", "WORKDIR /srv"),
            ("/bin/sh -c apt-get   update", "RUN apt-get update"),
            ("|1 VERSION=2 /bin/sh -c make", "RUN make"),
            // A script that has a shell in it.
            ("COPY /bin/sh -c /x", "COPY /bin/sh -c /x"),
            (
                "# debian.sh --arch 'amd64' out/ 'bookworm'",
                "# debian.sh --arch 'am..",
            ),
            (
                "COPY 語語語語語語語語語語語語語語語語語語語語語語 /x",
                "COPY 語語語語語語語語語語語語語語語語語..",
            ),
            ("", ""),
        ];
        for (created_by, expected) in cases {
            assert_eq!(shorten(created_by), expected, "{created_by}");
        }
    }

    #[test]
    fn steps_without_a_layer_are_left_out() {
        let config = br#"{"history": [
            {"created_by": "ADD root /"},
            {"created_by": "ENV A=1", "empty_layer": true},
            {"created_by": "COPY app /app"}
        ]}"#;
        assert_eq!(
            layer_instructions(config, 2),
            ["ADD root /", "COPY app /app"]
        );
        assert!(layer_instructions(config, 3).is_empty());
        assert!(layer_instructions(b"{}", 1).is_empty());
        assert!(layer_instructions(b"no config", 1).is_empty());
    }
}
