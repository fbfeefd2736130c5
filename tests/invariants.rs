//! The walls between the rooms, as the README's invariants state them: which files may name what.
//! Cheap, and blunt: words in the code, not in comments or tests.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read the sources has failed"
)]

use std::path::{Path, PathBuf};

/// Words that stand only in some rooms: in these crates, but for files below these paths.
struct Wall {
    words: &'static [&'static str],
    within: &'static [&'static str],
    except: &'static [&'static str],
    because: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        words: &[
            "std::fs",
            "std::net::Tcp",
            "tokio::",
            "reqwest::",
            "std::env",
        ],
        within: &["oci/src"],
        except: &["oci/src/client"],
        because: "oci does no I/O outside its client",
    },
    Wall {
        words: &[
            "std::fs",
            "std::env",
            "tokio::",
            "reqwest::",
            "Instant::now",
            "async ",
        ],
        within: &[
            "cli/src/plan.rs",
            "cli/src/transfer/chunk_sizer.rs",
            "cli/src/transfer/concurrency.rs",
            "cli/src/transfer/refusal.rs",
        ],
        except: &[],
        because: "plan, pace, jobs and refusal are pure",
    },
    Wall {
        words: &[
            "std::fs",
            "std::env",
            "tokio::",
            "reqwest::",
            "SystemTime::now",
            "async ",
        ],
        within: &[
            "cli/src/mirror/selection",
            "cli/src/mirror/config",
            "cli/src/mirror/config.rs",
            "cli/src/mirror/job.rs",
            "cli/src/mirror/location.rs",
            "cli/src/mirror/prune.rs",
        ],
        except: &[],
        because: "what a mirror wants, takes and prunes is decided without I/O",
    },
    Wall {
        words: &["hyper::", "hyper_util::", "http_body"],
        within: &["server/src"],
        except: &["server/src/http", "server/src/listen", "server/src/serve/debug"],
        because: "only http and listen know an HTTP server",
    },
    Wall {
        words: &["imgsync_oci::client", "oci::client"],
        within: &["server/src"],
        except: &["server/src/upstream"],
        because: "only upstream speaks to other registries",
    },
    Wall {
        words: &["http::", "StatusCode", "HeaderMap"],
        within: &["server/src/registry", "server/src/store"],
        except: &[],
        because: "registry never sees a request",
    },
    Wall {
        words: &["std::fs", "File::open", "File::create", "OpenOptions"],
        within: &["server/src"],
        except: &[
            "server/src/store/disk",
            // What the operator names: the configuration, logins, certificates, a socket.
            "server/src/config/file",
            "server/src/auth/htpasswd_file",
            "server/src/listen/tls/pem",
            "server/src/upstream/files",
            "server/src/listen/bind",
        ],
        because: "only store/disk calls the filesystem for what is stored",
    },
    Wall {
        words: &["\"_manifests", "\"_layers", "\"_uploads", "docker/registry"],
        within: &["server/src", "oci/src", "cli/src"],
        // The stock registry's configuration lies at /etc/docker/registry.
        except: &["server/src/store/paths", "server/src/config/file"],
        because: "only store/keys draws storage paths",
    },
    Wall {
        words: &["std::fs", "std::env", "tokio::", "tracing::"],
        within: &["server/src/config"],
        except: &["server/src/config/file"],
        because: "understanding a configuration is pure",
    },
    Wall {
        words: &["/manifests/", "/blobs/", "/v2/\"", "/tags/list"],
        within: &["server/src", "oci/src", "cli/src"],
        except: &["oci/src/endpoint"],
        because: "only oci/endpoint knows where things stand in a URL",
    },
    Wall {
        words: &[
            "println!",
            "eprintln!",
            "print!",
            "eprint!",
            "stdout()",
            "stderr()",
        ],
        within: &["cli/src", "oci/src"],
        except: &["cli/src/report", "cli/src/commands", "cli/src/main.rs"],
        because: "only report, commands and main print",
    },
];

#[test]
fn every_room_keeps_to_its_own() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut broken = Vec::new();
    let mut seen = 0;
    for wall in WALLS {
        for place in wall.within {
            for file in sources(&top.join(place)) {
                let name = file.strip_prefix(top).unwrap().display().to_string();
                seen += 1;
                if wall.except.iter().any(|except| name.starts_with(except)) {
                    continue;
                }
                let text = std::fs::read_to_string(&file).unwrap();
                for (number, line) in code(&text) {
                    if let Some(word) = wall.words.iter().find(|word| line.contains(**word)) {
                        let because = wall.because;
                        broken.push(format!("{name}:{number}: {word:?}, but {because}"));
                    }
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} files looked at");
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The lines of code, without comments, up to the tests at the end of the file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
        .filter(|(_, line)| !line.trim().is_empty())
}

/// All source files at a path, but for those that hold tests only.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs")
            && !stem.ends_with("tests")
            && stem != "testing"
        {
            files.push(path);
        }
    }
    files
}
