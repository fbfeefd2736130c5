//! Carries out a plan: what is missing is packed, and goes through upload sessions, several at a
//! time.

mod line;
mod pace;
mod pack;
mod pieces;
mod ship;
mod upload;

pub use line::{Line, Outgoing};
pub use pace::Pace;
pub use pack::Item;
pub use ship::{Means, Parcel, ship};
