//! Runs `imgsync diff`: compares the layers, the configs and, where the registry lists them, the files
//! of two images. No layer is downloaded.

mod config;
mod file_tree;
mod files;
mod layers;
mod output;
mod pairs;

use std::sync::Arc;

use imgsync_oci::client::Client;
use imgsync_oci::{Digest, Repository};

use self::config::{ConfigChange, compare_configs};
use self::files::{FileComparison, compare_files};
use self::layers::{LayerComparison, compare_layers};
use self::pairs::{ImagePair, pair_images};
use super::contents::{ManifestContents, RemoteImage, fetch_child_configs, fetch_contents};
use crate::args::{DiffArgs, ManifestName, WithScheme};
use crate::exit::Failure;
use crate::login::RegistryAccess;
use crate::report::Report;
use crate::text::format_json;

/// One of the two images, and the client of its registry.
struct Side {
    name: ManifestName,
    client: Client,
    contents: ManifestContents,
}

/// The differences of two images, or of two multi-platform images.
struct Comparison<'a> {
    old: &'a Side,
    new: &'a Side,
    /// Empty if both names have the same manifest.
    images: Vec<ImageComparison<'a>>,
}

/// The differences of the images for one platform.
struct ImageComparison<'a> {
    pair: ImagePair<'a>,
    /// `None` if only one side has the platform, or if both have the same image.
    details: Option<ImageDetails<'a>>,
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
/// Fails if one of the images or the platform does not exist, or if a request fails.
pub(super) async fn diff(args: DiffArgs, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let registries = [&args.old.name.registry, &args.new.name.registry];
    let access = RegistryAccess::parse_for_both(args.access, registries, report)?;
    let old = Side::fetch(&access, args.old, report).await?;
    let new = Side::fetch(&access, args.new, report).await?;
    let mut images = Vec::new();
    if old.digest() != new.digest() {
        for pair in pair_images(&old, &new, args.platform.as_ref())? {
            let details = match (pair.old, pair.new) {
                (Some(a), Some(b)) if a.digest != b.digest => {
                    Some(compare((&old, a), (&new, b), !args.no_files).await?)
                }
                _ => None,
            };
            images.push(ImageComparison { pair, details });
        }
    }
    let comparison = Comparison {
        old: &old,
        new: &new,
        images,
    };
    if args.json {
        report.output().print(&format_json(&comparison.json()));
    } else {
        for line in comparison.lines() {
            report.output().print(&line);
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

async fn compare<'a>(
    (old_side, old): (&'a Side, &'a RemoteImage),
    (new_side, new): (&'a Side, &'a RemoteImage),
    with_files: bool,
) -> Result<ImageDetails<'a>, Failure> {
    let layers = compare_layers(old, new);
    let files = if with_files {
        compare_files((old_side, old), (new_side, new), layers.shared_base).await?
    } else {
        FileComparison::NotCompared("--no-files".to_owned())
    };
    Ok(ImageDetails {
        config: match (&old.config_json, &new.config_json) {
            (Some(old), Some(new)) => Some(compare_configs(old, new)),
            _ => None,
        },
        layers,
        files,
    })
}
