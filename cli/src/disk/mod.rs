//! Files and folders on the local disk: replaced in one step, locked, and private to one user. No
//! other module of the tool has its own way to do this, and only this one knows how the systems
//! differ: `unix` and `windows` have functions of the same names.
//!
//! This module does not know what the files hold. Start reading at `TemporaryFile` and
//! `LockedFile`.

mod certificate_names;
mod lock;
mod path_syntax;
mod replace;
mod space;
mod system;
#[cfg(unix)]
mod unix;
mod user_paths;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

pub(crate) use certificate_names::{advised_certificate_path, registry_folder};
pub(crate) use lock::{LockedFile, mark_being_written, mark_in_use, remove_if_unused};
pub(crate) use path_syntax::{is_explicit_path, path_below, split_path};
pub(crate) use platform::{
    FileIdentity, PRIVATE_FOLDER_ADVICE, check_own_folder, create_private_folder,
    create_user_folder, effective_user, follow_link, is_private_file, open_to_use,
    raise_open_file_limit, read_at, sync_folder, write_at,
};
pub(crate) use replace::{
    TemporaryFile, create_folder, file_size, parent, replace_file, replace_keeping_owner,
    replace_synced, replace_unsynced, with_path, write_all_at,
};
pub use space::{DiskFull, free_bytes, is_disk_full};
pub(crate) use system::System;
pub(crate) use user_paths::{
    cache_folder, certificate_folders, config_folder, docker_config_folder, docker_daemon_files,
    env_path, home, state_folder,
};
