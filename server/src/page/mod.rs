//! The page for browsers: what is shown, in HTML, in English and in Chinese.
//!
//! A view is gathered from the registry, which blocks on the disk, and then formatted without I/O.
//! This module must not know HTTP: requests, logins and permissions belong to `http::page`. Start
//! reading at [`Frame`], then at a view, for example [`RepositoryView`].

mod assets;
mod bounded_rows;
mod chart;
mod config_facts;
mod deleted_tags;
mod format;
mod image;
mod image_facts;
mod image_reader;
mod layers;
mod layout;
mod lenient;
mod login;
mod manifest_facts;
mod notice;
mod referrer_rows;
mod repositories;
mod repository;
mod storage;
mod text_pairs;
mod texts;
mod untrusted;
mod uploads;

pub(crate) use self::assets::{ASSETS, Asset};
pub(crate) use self::image::ImageView;
pub(crate) use self::layout::{Frame, MessageKind, login_link, message_page};
pub(crate) use self::login::{LoginProblem, LoginView};
pub(crate) use self::notice::{ChangeKind, Notice, changed_link};
pub(crate) use self::repositories::{RepositoriesQuery, RepositoriesView};
pub(crate) use self::repository::{RepositoryQuery, RepositoryView};
pub(crate) use self::storage::{CollectionPlan, StorageView};
pub(crate) use self::texts::Language;
pub(crate) use self::uploads::UploadsView;
