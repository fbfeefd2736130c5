//! Tests logins, TLS and credentials, of the tool and of the server.

mod clients;
mod htpasswd_file;
mod login;
