//! Cuts a layer into pieces: the headers of the tar, the contents of its files, and the members of zip
//! files in them.
//!
//! This module hashes pieces, and compares none. Start reading at [`layout::LayoutBuilder`].

pub(super) mod entries;
pub(super) mod header;
pub(super) mod inflate;
pub(super) mod layout;
pub(super) mod list;
pub(super) mod paths;
pub(super) mod split;
pub(super) mod walk;
pub(super) mod zip;
