//! Carries out a plan: what is missing is packed, and goes through upload sessions, several at a
//! time.

mod body;
mod flow;
mod gate;
mod host;
mod jobs;
mod journal;
mod limit;
mod line;
mod pace;
mod pack;
mod pieces;
mod refusal;
mod sending;
mod ship;
mod slots;
mod upload;

pub use body::{Body, Remote};
pub use flow::{Flow, Unreadable};
pub use journal::Journal;
pub use line::{Line, Manner, Outgoing};
pub use pace::Pace;
pub use pack::Item;
pub use ship::{Means, Parcel, ship};
pub use upload::{Moved, send};
