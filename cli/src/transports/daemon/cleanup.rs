//! Removes from a daemon what a cancelled command left in it.

use std::time::Duration;

use super::client::DaemonClient;

/// The timeout of the removal.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `remove` and waits for it, also while the runtime of the command is about to end, for
/// example after Ctrl-C: another runtime does it. Returns its result; `false` if it takes too long.
/// Blocks.
pub(super) fn clean_up<F>(
    engine: &DaemonClient,
    remove: impl FnOnce(DaemonClient) -> F + Send + 'static,
) -> bool
where
    F: Future<Output = bool>,
{
    let address = engine.address().clone();
    let removing = std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let (Ok(runtime), Ok(engine)) = (builder.enable_all().build(), DaemonClient::new(address))
        else {
            return false;
        };
        runtime.block_on(async {
            let removed = tokio::time::timeout(TIMEOUT, remove(engine)).await;
            removed.unwrap_or(false)
        })
    });
    removing.join().unwrap_or(false)
}
