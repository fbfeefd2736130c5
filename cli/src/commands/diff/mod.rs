//! Runs `imgsync diff`: compares the layers, the configs and, where the registry lists them, the files
//! of two images. No layer is downloaded.

mod config;
mod file_tree;
mod files;
mod json;
mod layers;
mod pairs;
mod text;

use std::sync::Arc;
use std::time::Instant;

use imgsync_oci::client::Client;
use imgsync_oci::{Digest, Repository};

use self::config::{ConfigChange, compare_configs};
use self::files::{FileComparison, MAX_INDEX_WAIT, compare_files};
use self::json::JsonPrinter;
use self::layers::{LayerComparison, compare_layers};
use self::pairs::{ImagePair, pair_images};
use super::contents::{ManifestContents, RemoteImage, fetch_child_configs, fetch_contents};
use crate::args::{DiffArgs, ManifestName, WithScheme};
use crate::exit::Failure;
use crate::login::RegistryAccess;
use crate::report::Report;

/// The most pairs of images that are compared. The rest is named.
const MAX_COMPARED_PAIRS: usize = 32;

/// The most files that are listed for one image.
const MAX_LISTED_FILES: usize = 100_000;

/// One of the two images, and the client of its registry.
struct Side {
    name: ManifestName,
    client: Client,
    contents: ManifestContents,
}

/// The differences of the images for one platform.
struct ImageComparison<'a> {
    pair: ImagePair<'a>,
    result: PairResult<'a>,
}

enum PairResult<'a> {
    /// Only one side has the platform, or both have the same image.
    Obvious,
    /// Both have an image, and they were not compared for this reason.
    NotCompared(String),
    Compared(ImageDetails<'a>),
}

struct ImageDetails<'a> {
    layers: LayerComparison<'a>,
    /// `None` if a config cannot be read: other artifacts than images have other configs.
    config: Option<Vec<ConfigChange>>,
    files: FileComparison,
}

/// Prints the differences.
///
/// # Errors
/// Fails if one of the images or the platform does not exist, or if a request for a manifest or config
/// fails. Without the lists of files, the rest is compared.
pub(super) async fn diff(args: DiffArgs, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let other = args.new.name(&args.old);
    let registries = [&args.old.name.registry, &other.name.registry];
    let access = RegistryAccess::parse_for_both(args.access, registries, report)?;
    let old = Side::fetch(&access, args.old, report).await?;
    let new = Side::fetch(&access, other, report).await?;
    let pairs = if old.digest() == new.digest() {
        Vec::new()
    } else {
        pair_images(&old, &new, args.platform.as_ref())?
    };
    let mut comparer = Comparer {
        sides: [&old, &new],
        deadline: Instant::now() + MAX_INDEX_WAIT,
        remaining: MAX_COMPARED_PAIRS,
        no_files: args.no_files.then(|| "--no-files".to_owned()),
    };
    let output = report.output();
    // Each pair is printed and dropped before the next one is compared.
    if args.json {
        let mut printer = JsonPrinter::start(output, &old, &new);
        for pair in pairs {
            printer.print(&comparer.compare(pair).await);
        }
        printer.finish();
    } else {
        text::print_start(output, &old, &new);
        let are_indexes = old.contents.is_index && new.contents.is_index;
        if are_indexes && args.platform.is_none() && old.digest() != new.digest() {
            text::print_index_note(output, &pairs);
        }
        for pair in pairs {
            text::print_image(output, &comparer.compare(pair).await);
        }
    }
    Ok(())
}

impl Side {
    async fn fetch(
        access: &RegistryAccess,
        WithScheme { scheme, name }: WithScheme<ManifestName>,
        report: &Arc<dyn Report>,
    ) -> Result<Self, Failure> {
        let access = access.clone().with_scheme(scheme)?;
        let client = access.connect(&name.registry, Some(&name.repository), false, report);
        let client = client.await?;
        let mut contents = fetch_contents(&client, &name).await?;
        fetch_child_configs(&client, &name, &mut contents).await?;
        Ok(Self {
            name,
            client,
            contents,
        })
    }

    fn digest(&self) -> &Digest {
        &self.contents.fetched.digest
    }

    fn repository(&self) -> &Repository {
        &self.name.repository
    }
}

/// Compares one pair of images after the other.
struct Comparer<'a> {
    sides: [&'a Side; 2],
    /// The time until which registries may compute the lists of files.
    deadline: Instant,
    /// The number of pairs that may still be compared.
    remaining: usize,
    /// The reason why the files of the next pairs are not compared.
    no_files: Option<String>,
}

impl<'a> Comparer<'a> {
    async fn compare(&mut self, pair: ImagePair<'a>) -> ImageComparison<'a> {
        let result = match (pair.old, pair.new) {
            (Some(old), Some(new)) if old.digest != new.digest => {
                self.compare_images(old, new).await
            }
            _ => PairResult::Obvious,
        };
        ImageComparison { pair, result }
    }

    async fn compare_images(
        &mut self,
        old: &'a RemoteImage,
        new: &'a RemoteImage,
    ) -> PairResult<'a> {
        for (side, image) in [("A", old), ("B", new)] {
            if let Some(unread) = image.unread {
                return PairResult::NotCompared(format!("{side}: {}", unread.text()));
            }
        }
        if self.remaining == 0 {
            return PairResult::NotCompared(format!(
                "only {MAX_COMPARED_PAIRS} platforms are compared; pass --platform for another one"
            ));
        }
        self.remaining -= 1;
        let layers = compare_layers(old, new);
        PairResult::Compared(ImageDetails {
            files: self.compare_files(old, new, layers.shared_base).await,
            config: match (&old.config_json, &new.config_json) {
                (Some(old), Some(new)) => Some(compare_configs(old, new)),
                _ => None,
            },
            layers,
        })
    }

    /// Compares files. After a request that failed, no more are sent for other pairs.
    async fn compare_files(
        &mut self,
        old: &RemoteImage,
        new: &RemoteImage,
        shared_base: usize,
    ) -> FileComparison {
        if let Some(why) = &self.no_files {
            return FileComparison::NotCompared(why.clone());
        }
        let [old_side, new_side] = self.sides;
        let (old, new) = ((old_side, old), (new_side, new));
        let compared = compare_files(old, new, shared_base, self.deadline).await;
        compared.unwrap_or_else(|failure| {
            let why = failure.what.trim_start_matches("target: ");
            self.no_files = Some(why.to_owned());
            FileComparison::NotCompared(why.to_owned())
        })
    }
}
