//! Groups of tests that run one after another: all tests are threads of one program.

use tokio::sync::{Mutex, MutexGuard};

static LOGINS: Mutex<()> = Mutex::const_new(());

/// The tests that time logins, or send more of them than the server takes.
pub(crate) async fn logins() -> MutexGuard<'static, ()> {
    LOGINS.lock().await
}
