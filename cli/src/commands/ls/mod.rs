//! Runs `imgsync ls`: prints the repositories of a registry, or the tags of a repository.

mod columns;
mod line_errors;
mod long_repositories;
mod long_tags;

use std::sync::Arc;
use std::time::SystemTime;

use imgsync_oci::client::Client;
use imgsync_oci::{Registry, Repository};
use serde_json::{Value, json};

use self::columns::Columns;
use self::line_errors::LineErrors;
use crate::args::{LsArgs, WithScheme};
use crate::exit::Failure;
use crate::login::RegistryAccess;
use crate::report::Report;
use crate::text::{format_json, format_timestamp};

/// The number of tags that are read at the same time for `--long`.
const MAX_CONCURRENT_TAGS: usize = 8;

/// A listing: where from, and in which form it is printed.
struct Listing<'a> {
    client: Client,
    registry: Registry,
    is_json: bool,
    report: &'a Arc<dyn Report>,
}

/// When an image was pushed, or at least when it was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ImageTime {
    /// The last push, if the registry tells it.
    pushed_at: Option<SystemTime>,
    /// The time in the config of the image. Not known if that of the push is.
    created_at: Option<SystemTime>,
}

/// Prints repositories or tags, one on each line.
///
/// # Errors
/// Fails if the repository does not exist, or if a request fails. Of several repositories or
/// tags, those that cannot be read do not keep the rest.
pub(super) async fn ls(args: LsArgs, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let WithScheme { scheme, name } = &args.remote;
    let registry = &name.registry;
    let repository = match &name.name {
        None => None,
        Some((repository, None)) => Some(repository),
        Some((repository, Some(tag))) => {
            let hint = format!("to show the image: imgsync inspect {registry}/{repository}:{tag}");
            let what = format!("ls lists repositories or tags, but {tag} is a single tag");
            return Err(Failure::usage(what).with_hint(hint));
        }
    };
    let access = RegistryAccess::parse(args.access)?.with_scheme(*scheme)?;
    let client = access.connect(registry, repository, false, report).await?;
    let listing = Listing {
        client,
        registry: registry.clone(),
        is_json: args.json,
        report,
    };
    match (repository, args.long) {
        (Some(repository), is_long) => listing.print_tags(repository, is_long).await,
        (None, true) => listing.print_long_repositories().await,
        (None, false) => listing.print_repositories().await,
    }
}

impl Listing<'_> {
    async fn print_repositories(&self) -> Result<(), Failure> {
        let mut next = None;
        loop {
            let page = self.client.list_repositories(next).await?;
            for repository in page.names {
                self.print(
                    repository.as_str(),
                    || json!({ "repository": repository.as_str() }),
                );
            }
            next = page.next;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    async fn print_tags(&self, repository: &Repository, is_long: bool) -> Result<(), Failure> {
        let (mut next, mut errors) = (None, LineErrors::default());
        loop {
            let Some(page) = self.client.list_tags(repository, next).await? else {
                let registry = &self.registry;
                let hint = format!("list the repositories with imgsync ls {registry}");
                let what = format!("{registry} has no repository {repository}");
                return Err(Failure::target(what).with_hint(hint));
            };
            if is_long {
                self.print_long_tags(repository, page.names, &mut errors)
                    .await?;
            } else {
                for tag in &page.names {
                    self.print(tag.as_str(), || json!({ "tag": tag.as_str() }));
                }
            }
            next = page.next;
            if next.is_none() {
                return errors.finish("tags");
            }
        }
    }

    /// Prints a line with these fields, or this object.
    fn print_row(&self, columns: &Columns, fields: &[&str], object: impl FnOnce() -> Value) {
        let output = self.report.output();
        if self.is_json {
            output.print(&format_json(&object()));
        } else {
            output.print(&columns.line(fields, output.is_terminal()));
        }
    }

    /// Prints a line: this text, or this object.
    fn print(&self, text: &str, object: impl FnOnce() -> Value) {
        let output = self.report.output();
        if self.is_json {
            output.print(&format_json(&object()));
        } else {
            output.print(text);
        }
    }
}

impl ImageTime {
    /// Returns the text of the last column.
    fn text(self) -> String {
        match (self.pushed_at, self.created_at) {
            (Some(time), _) => format!("pushed {}", format_timestamp(time)),
            (None, Some(time)) => format!("created {}", format_timestamp(time)),
            (None, None) => String::new(),
        }
    }

    /// Returns both times for JSON.
    fn json(self) -> [Value; 2] {
        [self.pushed_at, self.created_at].map(|time| time.map(format_timestamp).into())
    }
}
