//! Tests of the client: logins, deltas and invalid responses.

mod deltas;
mod lists;
mod login;
mod odd_answers;
mod parallel_logins;
