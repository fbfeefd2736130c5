//! Locks for tests that must not run at the same time.
//!
//! All tests are threads of one program. A test holds the guard for its whole duration:
//! `let _docker = serial::docker();`. A test that needs both guards takes `docker` first, so that
//! two tests cannot wait for each other.

use std::sync::{Mutex, MutexGuard, PoisonError};

static DOCKER: Mutex<()> = Mutex::new(());
static HEAVY: Mutex<()> = Mutex::new(());

/// Locks the Docker daemon of this machine, with its images and folders.
pub fn docker() -> MutexGuard<'static, ()> {
    lock(&DOCKER)
}

/// Keeps tests that transfer hundreds of megabytes from running at the same time. Most of them
/// measure memory, and two at once overload a small machine.
pub fn heavy() -> MutexGuard<'static, ()> {
    lock(&HEAVY)
}

fn lock(group: &'static Mutex<()>) -> MutexGuard<'static, ()> {
    // A failed test poisons the lock. The next test can run anyway: tests use unique names.
    group.lock().unwrap_or_else(PoisonError::into_inner)
}
