//! Logins, TLS and credentials, at both ends.

mod clients;
mod login;
