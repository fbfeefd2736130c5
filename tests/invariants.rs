//! Checks invariants of `docs/architecture.md` in the source text: words that are allowed only in
//! some files, the order of the modules, and type names that are used more than once. Comments and
//! tests are not checked.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read the sources must fail"
)]

#[path = "invariants/source_text.rs"]
mod source_text;

use std::collections::BTreeMap;
use std::path::Path;

use source_text::{code, defined_type, imports, module, sources};

/// Words that are forbidden in the files below `within`, except below `except`.
struct Rule {
    words: &'static [&'static str],
    within: &'static [&'static str],
    except: &'static [&'static str],
    because: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
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
    Rule {
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
            "cli/src/plan",
            "cli/src/text",
            "cli/src/upload/chunk_sizer.rs",
            "cli/src/upload/concurrency.rs",
            "cli/src/upload/refusal.rs",
        ],
        except: &[],
        because: "plan, text, chunk_sizer, concurrency and refusal are pure",
    },
    Rule {
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
        because: "the selection of tags and pruning are decided without I/O",
    },
    Rule {
        words: &[
            "os::unix",
            "os::windows",
            "os::fd",
            "rustix::",
            "cfg(unix)",
            "cfg(windows)",
            "cfg(target",
            "cfg(not(unix",
            "cfg!(",
            "net::UnixStream",
            "tokio::signal",
        ],
        within: &["cli/src", "oci/src"],
        except: &[
            "cli/src/disk",
            "cli/src/commands/echo_guard",
            "cli/src/commands/stop_signal",
            "cli/src/transports/daemon/local_socket",
        ],
        because: "only disk and one file each for signals, sockets and prompts know the system",
    },
    Rule {
        words: &["hyper::", "hyper_util::", "http_body"],
        within: &["server/src"],
        except: &[
            "server/src/http",
            "server/src/listen",
            "server/src/serve/debug",
            // A client of this server only.
            "server/src/health",
        ],
        because: "only http and listen use HTTP server types",
    },
    Rule {
        words: &["imgsync_oci::client", "oci::client"],
        within: &["server/src"],
        except: &[
            "server/src/upstream",
            // Receivers of events are no registries; the options of TLS are the same.
            "server/src/events/delivery",
        ],
        because: "only upstream sends requests to other registries",
    },
    Rule {
        words: &["http::", "StatusCode", "HeaderMap"],
        within: &["server/src/registry", "server/src/store"],
        except: &[],
        because: "registry never sees a request",
    },
    Rule {
        words: &["std::fs", "File::open", "File::create", "OpenOptions"],
        within: &["server/src"],
        except: &[
            "server/src/store/disk",
            // Files that the configuration names: itself, logins, certificates, a socket.
            "server/src/bounded_file",
            "server/src/config/file",
            "server/src/auth/htpasswd_file",
            "server/src/listen/bind",
            // The folder of the manual pages.
            "server/src/manual",
        ],
        because: "only store/disk calls the file system for stored data",
    },
    Rule {
        words: &["\"_manifests", "\"_layers", "\"_uploads", "docker/registry"],
        within: &["server/src", "oci/src", "cli/src"],
        // The default path of the configuration file is below /etc/docker/registry.
        except: &["server/src/store/paths", "server/src/config/file"],
        because: "only store/paths builds storage paths",
    },
    Rule {
        words: &["std::fs", "std::env", "tokio::", "tracing::"],
        within: &["server/src/config"],
        except: &["server/src/config/file"],
        because: "parsing a configuration is pure",
    },
    Rule {
        words: &["/manifests/", "/blobs/", "/v2/\"", "/tags/list"],
        within: &["server/src", "oci/src", "cli/src"],
        except: &["oci/src/endpoint"],
        because: "only oci/endpoint knows the paths of URLs",
    },
    Rule {
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
fn words_are_only_in_their_modules() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut broken = Vec::new();
    let mut seen = 0;
    for rule in RULES {
        for folder in rule.within {
            for file in sources(&top.join(folder)) {
                let name = file.strip_prefix(top).unwrap().display().to_string();
                seen += 1;
                if rule.except.iter().any(|except| name.starts_with(except)) {
                    continue;
                }
                let text = std::fs::read_to_string(&file).unwrap();
                for (number, line) in code(&text) {
                    if let Some(word) = rule.words.iter().find(|word| line.contains(**word)) {
                        let because = rule.because;
                        broken.push(format!("{name}:{number}: {word:?}, but {because}"));
                    }
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} files checked");
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The top-level modules of each crate in their order: a module may import only the modules after
/// it. `lib` and `main` may import all.
const MODULE_ORDER: &[(&str, &[&str])] = &[
    (
        "oci/src",
        &[
            "client",
            "graph",
            "endpoint",
            "ext",
            "delta",
            "layer",
            "referrers",
            "manifest",
            "text_file",
            "instruction",
            "api_error",
            "media",
            "range",
            "name",
            "digest",
            "certificate",
            "der",
            "units",
            "parse_error",
        ],
    ),
    (
        "cli/src",
        &[
            "commands",
            "settings",
            "args",
            "doctor",
            "push",
            "mirror",
            "copy",
            "transports",
            "evidence",
            "upload",
            "login",
            "spool",
            "cache",
            "compress",
            "image",
            "report",
            "plan",
            "exit",
            "disk",
            "text",
        ],
    ),
    (
        "server/src",
        &[
            // The binary is first, then the library.
            "storage_commands",
            "manual",
            "console",
            "reload",
            "config_loader",
            "args",
            "serve",
            "health",
            "listen",
            "http",
            "metrics",
            "page",
            "status",
            "upstream",
            "events",
            "registry",
            "store",
            "log",
            "config",
            "auth",
            "client_address",
            "memory_budget",
            "bounded_file",
            "low_priority",
            "wall_clock",
        ],
    ),
];

/// The number of type names that may be used more than twice in the workspace, such as `Error`.
const MAX_REPEATED_NAMES: usize = 8;
/// The number of types for 100 distinct names.
const MAX_TYPES_PER_100_NAMES: usize = 115;

#[test]
fn no_module_imports_upwards() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut wrong = Vec::new();
    for (folder, modules) in MODULE_ORDER {
        for file in sources(&top.join(folder)) {
            let importing = module(&file, &top.join(folder));
            if importing == "lib" || importing == "main" {
                continue;
            }
            let Some(position) = modules.iter().position(|name| *name == importing) else {
                wrong.push(format!(
                    "{folder}: {importing} is not in the list of modules"
                ));
                continue;
            };
            let text = std::fs::read_to_string(&file).unwrap();
            for (number, imported) in imports(&text) {
                let found = modules.iter().position(|name| *name == imported);
                if found.is_some_and(|found| found < position) {
                    let file = file.display();
                    wrong.push(format!("{file}:{number}: {importing} imports {imported}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn type_names_are_unique() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (folder, _) in MODULE_ORDER {
        for file in sources(&top.join(folder)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for name in code(&text).filter_map(|(_, line)| defined_type(line)) {
                *names.entry(name.to_owned()).or_default() += 1;
            }
        }
    }
    let types: usize = names.values().sum();
    assert!(types > 300, "only {types} types found");
    let repeated: Vec<_> = names.iter().filter(|(_, count)| **count > 2).collect();
    assert!(repeated.len() <= MAX_REPEATED_NAMES, "{repeated:?}");
    let ratio = types * 100 / names.len();
    assert!(
        ratio <= MAX_TYPES_PER_100_NAMES,
        "{types} types share {} names",
        names.len()
    );
}

#[test]
fn imports_are_found_in_groups_too() {
    let text =
        "use crate::a::{b, c};\nuse crate::{\n    d, e::{self, f},\n    g,\n};\ncrate::h::i();\n";
    let found = imports(text);
    let names: Vec<_> = found.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["a", "d", "e", "g", "h"]);
    assert_eq!(found.last().map(|(number, _)| *number), Some(6));
}
