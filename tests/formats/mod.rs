//! Tests compatibility with older versions: recorded folders and recorded HTTP exchanges, used by
//! the current programs.

mod home;
mod old_and_new;
mod server_folder;
mod wire;
