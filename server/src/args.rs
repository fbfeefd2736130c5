//! What was typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use imgsync_server::Address;

/// A small registry that keeps the stock registry's own tree.
#[derive(Debug, Parser)]
#[command(name = "imgsync-server", version)]
pub(crate) struct Arguments {
    /// What to do; without a command, serve.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a folder as a registry.
    Serve(Serve),
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A configuration file (not supported yet).
    pub(crate) config: Option<PathBuf>,
    /// The folder that holds everything; made where it is missing.
    #[arg(long, value_name = "DIR", default_value_os_t = Self::default().root)]
    pub(crate) root: PathBuf,
    /// Where to listen; port 0 takes one that is free.
    #[arg(long, value_name = "HOST:PORT", default_value_t = Self::default().addr)]
    pub(crate) addr: Address,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            config: None,
            root: "./data".into(),
            addr: Address {
                host: "127.0.0.1".to_owned(),
                port: 5000,
            },
        }
    }
}
