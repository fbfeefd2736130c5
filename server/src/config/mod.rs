//! The configuration: the stock registry's file and its variables, understood without any I/O.
//!
//! `yaml → tree ← overlay`, then `check` looks for what is not known or not supported, and `build`
//! takes typed values out. A key that is not known is told with what may have been meant; it keeps
//! the server from starting where it could leave a door open (`auth`, `http.tls`), name another
//! store (`storage`), or is our own (`imgsync`); and so does one anywhere that may have been meant for
//! one of these.

mod address;
mod build;
mod cache;
mod check;
mod file;
mod known;
mod network;
mod overlay;
mod print;
mod problem;
mod read;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod words;
mod yaml;

use std::sync::Arc;

pub use self::address::Address;
pub use self::file::{Source, Stamp, Unreadable};
pub use self::network::Network;
pub use self::problem::{Problem, Problems, Remark};
pub use self::tree::Origin;
pub use self::types::{
    Bind, Cache, Config, Formatter, Htpasswd, Http, Imgsync, Level, Log, Login, Password, Purging,
    Secret, Storage, Tls, TlsVersion, Upstream,
};

use self::problem::Findings;
use self::read::Reader;
use self::tree::{Node, Value};

/// The one version of the file that there is.
const VERSION: &str = "0.1";
/// What counts where there is no file: a folder beside, for this machine only.
const NO_FILE: &str = "{version: 0.1, storage: {filesystem: {rootdirectory: ./data}, \
                       delete: {enabled: true}}, http: {addr: '127.0.0.1:5000'}}";

/// What a configuration is made of. Later ones count more.
#[derive(Debug, Clone, Copy, Default)]
pub struct Input<'a> {
    /// The file: its name, for messages, and its text.
    pub file: Option<(&'a str, &'a str)>,
    /// The environment. Only what begins with `REGISTRY_` counts.
    pub variables: &'a [(String, String)],
    /// Arguments: name, key and value, as `("--addr", "http.addr", ":5000")`.
    pub arguments: &'a [(&'static str, &'static str, String)],
}

/// A configuration, and what there is to know about it.
#[derive(Debug, Clone)]
pub struct Understood {
    /// What counts.
    pub config: Config,
    /// What whoever runs the server should know.
    pub remarks: Vec<Remark>,
    entries: Vec<read::Entry>,
}

impl Understood {
    /// The configuration as YAML, each value with a comment that says where it came from. Secrets
    /// are not in it.
    pub fn print(&self) -> String {
        print::print(&self.entries)
    }
}

/// Understands a configuration.
///
/// # Errors
/// It asks for something that is not there, contradicts itself, or is not to be understood. All
/// that is wrong is told, each with its key and where it stands.
pub fn understand(input: Input<'_>) -> Result<Understood, Problems> {
    let mut findings = Findings::default();
    let mut tree = match read_file(input.file, &mut findings) {
        Some(tree) => tree,
        None => return Err(Problems(findings.problems)),
    };
    overlay::lay(&mut tree, input.variables, &mut findings);
    overlay::argue(&mut tree, input.arguments, &mut findings);
    for section in ["storage", "auth"] {
        if let Some(node) = tree.get_mut(section) {
            node.unfold();
        }
    }
    check::check(&tree, &mut findings);
    let mut reader = Reader {
        tree: &tree,
        entries: Vec::new(),
        findings: &mut findings,
    };
    let config = build::config(&mut reader);
    let entries = reader.entries;
    match config {
        Some(config) if findings.problems.is_empty() => Ok(Understood {
            config,
            remarks: findings.remarks,
            entries,
        }),
        Some(_) | None => Err(Problems(findings.problems)),
    }
}

fn read_file(file: Option<(&str, &str)>, findings: &mut Findings) -> Option<Node> {
    let (name, text) = match file {
        Some((name, text)) => (Some(Arc::<str>::from(name)), text),
        None => (None, NO_FILE),
    };
    let origin = |line| match &name {
        Some(path) => Origin::File {
            path: Arc::clone(path),
            line,
        },
        None => Origin::Default,
    };
    let mut twice = Vec::new();
    let tree = yaml::parse(text, &origin, &mut |key, at| {
        twice.push((key.to_owned(), at))
    });
    for (key, at) in twice {
        let text = "stands twice in one section; this one counts";
        findings.warning(&at, &key, text);
    }
    let tree = match tree {
        Ok(tree) => tree,
        Err(broken) => {
            findings.problem(
                &origin(broken.line),
                "",
                format!("not YAML: {}", broken.text),
            );
            return None;
        }
    };
    let version = match tree.get("version").map(|node| &node.value) {
        Some(Value::Scalar(version)) => version.as_str(),
        Some(Value::Null | Value::List(_) | Value::Map(_)) | None => "",
    };
    if version == VERSION {
        return Some(tree);
    }
    let text = format!("unsupported version: {version:?}; the file must say version: {VERSION}");
    findings.problem(&origin(1), "version", text);
    None
}

/// Keeps the logins of a running server where its new configuration has none any more: they end only
/// with a restart, so that a file that was cut short lets nobody in. Yields whether it had to.
pub fn keep_auth(old: &Config, new: &mut Config) -> bool {
    let is_lost = old.auth.is_some() && new.auth.is_none();
    if is_lost {
        new.auth.clone_from(&old.auth);
    }
    is_lost
}

/// The keys that differ between two configurations and count only when the server is started again.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (was, is) = (&old.http, &new.http);
    let pairs = [
        (
            "storage.filesystem.rootdirectory",
            old.storage.root == new.storage.root,
        ),
        ("http.addr", was.bind == is.bind),
        ("http.tls", was.tls.is_some() == is.tls.is_some()),
        ("http.debug.addr", was.debug == is.debug),
        ("http.debug.prometheus", was.metrics == is.metrics),
        ("log.formatter", old.log.formatter == new.log.formatter),
        ("log.fields", old.log.fields == new.log.fields),
        ("imgsync.stall", old.imgsync.stall == new.imgsync.stall),
        (
            "imgsync.limits.connections",
            old.imgsync.connections == new.imgsync.connections,
        ),
    ];
    let differ = pairs.into_iter().filter(|(_, is_same)| !is_same);
    differ.map(|(key, _)| key).collect()
}
