//! How the server starts and ends, and what it finds in its folder.

mod abandoned;
mod clock;
mod leftovers;
mod program;
