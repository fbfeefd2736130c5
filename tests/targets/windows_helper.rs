//! Programs for Windows that `tests/windows` needs:
//!
//! - `windows_helper pipe NAME ADDRESS` serves a named pipe, and forwards each connection to a TCP
//!   address. It serves one client at a time: for the others, the pipe is busy.
//! - `docker-credential-… get|store|erase` (a copy with this name) is a credential helper that keeps
//!   one login in a file beside the program.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program for tests"
)]

use std::io::Read;

/// Runs a command of a credential helper.
fn run_credential_helper(command: &str) {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).expect("UTF-8");
    let program = std::env::current_exe().expect("the path of the program");
    let file = program.with_file_name("login.json");
    match command {
        "store" => std::fs::write(file, input).expect("a writable folder"),
        "erase" => std::fs::remove_file(file).expect("a login"),
        _ => match std::fs::read_to_string(file) {
            Ok(login) if login.contains(input.trim()) => println!("{login}"),
            _ => {
                println!("credentials not found in native keychain");
                std::process::exit(1);
            }
        },
    }
}

#[cfg(windows)]
async fn serve_pipe(name: &str, address: &str) -> std::io::Result<()> {
    use tokio::io::{copy, split};
    use tokio::net::windows::named_pipe::ServerOptions;
    let mut current = ServerOptions::new()
        .first_pipe_instance(true)
        .create(name)?;
    println!("listening");
    loop {
        current.connect().await?;
        let (mut from_daemon, mut to_daemon) =
            tokio::net::TcpStream::connect(address).await?.into_split();
        let (mut from_client, mut to_client) = split(&mut current);
        // One side of a pipe cannot be closed alone, so the end of either direction ends both. A
        // client may close the connection at any time.
        let _ = tokio::select! {
            result = copy(&mut from_client, &mut to_daemon) => result,
            result = copy(&mut from_daemon, &mut to_client) => result,
        };
        // The new instance first: without any, clients would see that there is no pipe.
        current = ServerOptions::new().create(name)?;
    }
}

#[cfg(not(windows))]
async fn serve_pipe(_: &str, _: &str) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [command, name, address] if command == "pipe" => serve_pipe(name, address).await,
        [command] => {
            run_credential_helper(command);
            Ok(())
        }
        _ => Err(std::io::ErrorKind::InvalidInput.into()),
    }
}
