//! Restores the terminal when a password prompt is interrupted, because the prompt has turned the
//! echo off by then. On Windows it has not: the prompt reads single keys.

#[cfg(not(unix))]
pub(super) use other::EchoGuard;
#[cfg(unix)]
pub(super) use unix::EchoGuard;

#[cfg(unix)]
mod unix {
    use std::io::{Stdin, Write as _};

    use rustix::termios::{self, OptionalActions, Termios};

    /// Restores the modes of a terminal when it is dropped.
    #[derive(Debug)]
    pub(in crate::commands) struct EchoGuard {
        terminal: Stdin,
        /// The modes before the prompt; `None` if standard input is no terminal.
        saved: Option<Termios>,
    }

    impl EchoGuard {
        /// Saves the modes of the terminal at standard input.
        pub(in crate::commands) fn new() -> Self {
            let terminal = std::io::stdin();
            let saved = termios::tcgetattr(&terminal).ok();
            Self { terminal, saved }
        }
    }

    impl Drop for EchoGuard {
        fn drop(&mut self) {
            let Some(saved) = &self.saved else { return };
            let current = termios::tcgetattr(&self.terminal);
            if current.is_ok_and(|current| current.local_modes != saved.local_modes) {
                // A terminal that was closed needs no modes.
                let _ = termios::tcsetattr(&self.terminal, OptionalActions::Flush, saved);
                // The line of the prompt is not complete.
                let _ = std::io::stderr().write_all(b"\n");
            }
        }
    }
}

#[cfg(not(unix))]
mod other {
    /// Has nothing to restore.
    #[derive(Debug)]
    pub(in crate::commands) struct EchoGuard(());

    impl EchoGuard {
        /// Returns a guard that does nothing.
        pub(in crate::commands) fn new() -> Self {
            Self(())
        }
    }
}
