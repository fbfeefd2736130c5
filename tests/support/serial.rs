//! Groups of tests that run one after another.
//!
//! All tests are threads of one program. A test that shares something with others of its group
//! holds the group's guard from its start to its end: `let _docker = serial::docker();`. Where a
//! test needs both guards, it takes docker's first.

use std::sync::{Mutex, MutexGuard, PoisonError};

static DOCKER: Mutex<()> = Mutex::new(());
static HEAVY: Mutex<()> = Mutex::new(());

/// The tests that use the machine's Docker daemon, its images and its folders.
pub fn docker() -> MutexGuard<'static, ()> {
    alone(&DOCKER)
}

/// The tests that move hundreds of megabytes, most of which measure memory: two of them side by side
/// would take a small machine's memory, disk and processors from all others.
pub fn heavy() -> MutexGuard<'static, ()> {
    alone(&HEAVY)
}

fn alone(group: &'static Mutex<()>) -> MutexGuard<'static, ()> {
    // What a test that failed has left behind is of its own name.
    group.lock().unwrap_or_else(PoisonError::into_inner)
}
