//! Locks for tests that must not run at the same time. All tests are threads of one process.

use tokio::sync::{Mutex, MutexGuard};

static LOGINS: Mutex<()> = Mutex::const_new(());

/// Locks out other tests that measure the time of logins or send a flood of them.
pub(crate) async fn logins() -> MutexGuard<'static, ()> {
    LOGINS.lock().await
}
