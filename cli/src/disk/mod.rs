//! Files and folders on the local disk: replaced in one step, locked, and private to one user. No
//! other module of the tool has its own way to do this.
//!
//! This module does not know what the files hold. Start reading at `TemporaryFile` and
//! `LockedFile`.

mod lock;
mod private_folder;
mod replace;
mod space;
mod user_paths;

pub(crate) use lock::{LockedFile, mark_in_use, remove_if_unused};
pub(crate) use private_folder::{check_own_folder, create_private_folder, create_user_folder};
pub(crate) use replace::{
    TemporaryFile, create_folder, file_size, is_same_file, parent, replace_file,
    replace_keeping_owner, replace_synced, replace_unsynced, sync_folder, with_path,
};
pub use space::{DiskFull, free_bytes, is_disk_full};
pub(crate) use user_paths::{env_path, home, xdg_folder};
