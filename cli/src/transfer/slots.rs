//! Turns: as many blobs are on their way at a time as [`Jobs`] says, from moment to moment.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::jobs::Jobs;

/// The turns of one push.
#[derive(Debug)]
pub(super) struct Slots {
    turns: Semaphore,
    state: Mutex<State>,
    began: Instant,
}

#[derive(Debug)]
struct State {
    jobs: Jobs,
    /// Turns that are to vanish when they are next given back.
    owed: usize,
    waiting: usize,
}

/// A turn.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    turn: Option<SemaphorePermit<'a>>,
}

impl Slots {
    /// So many turns as the user says; `None` for as many as the line is worth.
    pub(super) fn new(wished: Option<usize>) -> Self {
        let jobs = Jobs::new(wished);
        Self {
            turns: Semaphore::new(jobs.now()),
            state: Mutex::new(State {
                jobs,
                owed: 0,
                waiting: 0,
            }),
            began: Instant::now(),
        }
    }

    /// Waits for a turn.
    pub(super) async fn acquire(&self) -> Slot<'_> {
        self.state().waiting += 1;
        let waiting = Waiting(self);
        // It is never closed.
        let turn = self.turns.acquire().await.ok();
        drop(waiting);
        Slot { slots: self, turn }
    }

    /// A chunk went through; `sent` bytes did in all.
    pub(super) fn passed(&self, sent: u64, took: Duration) {
        let at = self.began.elapsed();
        let mut state = self.state();
        let before = state.jobs.now();
        let wanted = state.waiting > 0;
        state.jobs.passed(at, sent, took, wanted);
        self.change(&mut state, before);
    }

    /// The line broke.
    pub(super) fn faulted(&self) {
        let at = self.began.elapsed();
        let mut state = self.state();
        let before = state.jobs.now();
        state.jobs.faulted(at);
        self.change(&mut state, before);
    }

    fn change(&self, state: &mut State, before: usize) {
        for _ in before..state.jobs.now() {
            match state.owed {
                0 => self.turns.add_permits(1),
                owed => state.owed = owed - 1,
            }
        }
        let fewer = before.saturating_sub(state.jobs.now());
        state.owed += fewer - self.turns.forget_permits(fewer);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Slot<'a> {
    /// Gives way if there are more turns than there should be, and waits for the next.
    pub(super) async fn share(self) -> Slot<'a> {
        let slots = self.slots;
        if slots.state().owed == 0 {
            return self;
        }
        drop(self);
        slots.acquire().await
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let mut state = self.slots.state();
        if state.owed > 0 {
            state.owed -= 1;
            turn.forget();
        }
    }
}

/// Somebody waits; not any more when this is dropped, however it ends.
struct Waiting<'a>(&'a Slots);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_turn_that_is_taken_back_vanishes_with_its_holder() {
        let slots = Slots::new(None);
        let held: Vec<Slot<'_>> = std::iter::from_fn(|| slots.acquire().now_or_never()).collect();
        slots.faulted();
        let mut held = held.into_iter();
        let given = held.next().unwrap();
        assert!(given.share().now_or_never().is_none());
        // One fewer than before: another one's end is no gap, but the next one's.
        let kept = held.next().unwrap().share().now_or_never().unwrap();
        assert!(slots.acquire().now_or_never().is_none());
        drop(kept);
        assert!(slots.acquire().now_or_never().is_some());
    }
}
