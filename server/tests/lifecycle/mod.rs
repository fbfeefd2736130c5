//! Tests of the start and the end of the server, and of the files that it finds in its folder.

mod abandoned;
mod backup;
mod check;
mod clock;
mod commands;
mod garbage;
mod leftovers;
mod metrics;
mod permissions;
mod program;
mod purge;
mod retention;
mod status;
mod storm;
