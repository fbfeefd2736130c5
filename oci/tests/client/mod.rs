//! Tests of the client: logins and invalid responses.

mod login;
mod odd_answers;
mod parallel_logins;
