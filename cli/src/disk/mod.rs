//! Files and folders on the local disk: replaced in one step, locked, and private to one user.
//!
//! This module does not know what the files hold. Start reading at `replace_file` and `LockedFile`.

mod lock;
mod private_folder;
mod replace;
mod space;

pub(crate) use lock::LockedFile;
pub(crate) use private_folder::{create_private_folder, create_user_folder};
pub(crate) use replace::{
    create_folder, file_size, is_same_file, parent, replace_file, sync_folder, with_path,
};
pub use space::{DiskFull, free_bytes, is_disk_full};
