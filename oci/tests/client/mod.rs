//! The client: logins, and answers that it must not believe.

mod login;
mod odd_answers;
