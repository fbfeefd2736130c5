//! What is on disk and on the wire stays as it was: folders and exchanges that an older version
//! left, opened and repeated by today's programs.

mod home;
mod old_and_new;
mod server_folder;
mod wire;
