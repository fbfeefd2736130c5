//! Measures how the cost of a server grows with its content and its clients: many tags, repositories
//! and referrers, and many uploads at a time. Measures Debian's `docker-registry` on the same
//! generated folders, if it is installed. Prints a Markdown table.
//!
//!     cargo build --release --workspace --bins
//!     cargo run --release -p imgsync-server --example growth
//!     cargo run --release -p imgsync-server --example growth -- tags=1000 repositories=0
//!     cargo run --release -p imgsync-server --example growth -- generate FOLDER tags=1000
//!
//! Arguments change the sizes; 0 leaves out a part. `generate` only writes a folder, for other
//! measurements. 100,000 tags need about 6 GB of disk space. Compare only figures of one run.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark may panic and print"
)]

#[allow(dead_code, reason = "not all of it is used here")]
#[path = "../http.rs"]
mod http;
#[allow(dead_code, reason = "not all of it is used here")]
#[path = "../pushes.rs"]
mod pushes;
#[allow(dead_code, reason = "not all of it is used here")]
#[path = "../servers.rs"]
mod servers;

mod client;
mod collection;
mod content;
mod lists;
mod sizes;
mod store_folder;
mod table;
mod uploads;

use std::path::Path;

use self::servers::Server;
use self::sizes::Sizes;
use self::store_folder::StoreFolder;
use self::table::Row;

/// The repository with the tags.
const TAGS_REPOSITORY: &str = "team/tags";
/// The repository in which garbage is collected.
const IMAGES_REPOSITORY: &str = "team/images";
/// The repository with the referrers.
const REFERRERS_REPOSITORY: &str = "team/referrers";

/// The program of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Imgsync,
    Stock,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Imgsync, Self::Stock];

    /// Starts a server with its data in `root`; returns `None` if it is not installed.
    fn start(self, root: &Path) -> Option<Server> {
        match self {
            Self::Imgsync => Some(Server::start_imgsync_server(root)),
            Self::Stock => Server::start_stock(root),
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [command, folder, words @ ..] = &words[..]
        && command == "generate"
    {
        let sizes = Sizes::parse(&Sizes::NONE, words);
        generate(Path::new(folder), &sizes);
        return;
    }
    print_table(&words, |line| println!("{line}"));
}

/// Measures everything, and calls `print` with the lines of the table. `words` change the sizes.
pub(crate) fn print_table(words: &[String], mut print: impl FnMut(&str)) {
    let sizes = Sizes::parse(&Sizes::default(), words);
    print("| | imgsync-server | docker-registry |");
    print("|---|---|---|");
    measure_parts(&sizes, |rows| {
        table::lines(&rows).iter().for_each(|line| print(line));
    });
}

/// Writes everything into one folder.
fn generate(root: &Path, sizes: &Sizes) {
    let folder = StoreFolder::new(root);
    for (number, count) in sizes.tags.iter().enumerate() {
        let repository = format!("{TAGS_REPOSITORY}{number}");
        content::write_tags(&folder, &repository, *count).expect("a repository");
        println!("{repository}: {count} tags");
    }
    if sizes.repositories > 0 {
        let only = content::write_repositories(&folder, sizes.repositories);
        let only = only.expect("repositories");
        println!(
            "{} repositories, {only} in the last one",
            sizes.repositories
        );
    }
    if sizes.blobs > 0 {
        content::write_images(&folder, IMAGES_REPOSITORY, sizes.blobs).expect("images");
        println!("{IMAGES_REPOSITORY}: {} blobs", sizes.blobs);
    }
    if sizes.referrers > 0 {
        let repository = REFERRERS_REPOSITORY;
        let subject = content::write_referrers(&folder, repository, sizes.referrers);
        let subject = subject.expect("referrers");
        println!("{repository}@{subject}: {} referrers", sizes.referrers);
    }
}

/// Measures each part, and calls `print_part` with the rows of each server.
fn measure_parts(sizes: &Sizes, mut print_part: impl FnMut([Vec<Row>; 2])) {
    for &count in &sizes.tags {
        eprintln!("generating {count} tags");
        let root = tempfile::tempdir().expect("a folder");
        let folder = StoreFolder::new(root.path());
        content::write_tags(&folder, TAGS_REPOSITORY, count).expect("a repository");
        let measure = |kind| lists::measure_tags(kind, root.path(), TAGS_REPOSITORY, count);
        print_part(Kind::ALL.map(measure));
    }
    if sizes.repositories > 0 {
        let count = sizes.repositories;
        eprintln!("generating {count} repositories");
        let root = tempfile::tempdir().expect("a folder");
        let folder = StoreFolder::new(root.path());
        let only = content::write_repositories(&folder, count).expect("repositories");
        let measure = |kind| lists::measure_repositories(kind, root.path(), &only, count);
        print_part(Kind::ALL.map(measure));
    }
    if sizes.referrers > 0 {
        let (count, repository) = (sizes.referrers, REFERRERS_REPOSITORY);
        eprintln!("generating {count} referrers");
        let root = tempfile::tempdir().expect("a folder");
        let folder = StoreFolder::new(root.path());
        let subject = content::write_referrers(&folder, repository, count).expect("referrers");
        let measure =
            |kind| lists::measure_referrers(kind, root.path(), repository, &subject, count);
        print_part(Kind::ALL.map(measure));
    }
    if sizes.blobs > 0 {
        eprintln!("generating {} blobs", sizes.blobs);
        let root = tempfile::tempdir().expect("a folder");
        let folder = StoreFolder::new(root.path());
        content::write_images(&folder, IMAGES_REPOSITORY, sizes.blobs).expect("images");
        let (count, repository) = (sizes.blobs, IMAGES_REPOSITORY);
        let measure = |kind| collection::measure(kind, root.path(), repository, count);
        print_part(Kind::ALL.map(measure));
    }
    if sizes.pushes > 0 {
        eprintln!("measuring {} pushes at a time", sizes.pushes);
        print_part(Kind::ALL.map(|kind| uploads::measure_pushes(kind, sizes)));
    }
    if sizes.patches > 0 {
        eprintln!("measuring {} PATCHes at a time", sizes.patches);
        print_part(Kind::ALL.map(|kind| uploads::measure_patches(kind, sizes)));
    }
}
